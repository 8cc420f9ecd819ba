// NiiVue in place of the pictures, driven by the same form: where WebGL 2 is there. Else nothing changes.
import { DRAG_MODE, Niivue, NVImage, SHOW_RENDER } from "./niivue.js";

const form = document.getElementById("viewer");
const layers = new Map(JSON.parse(form.dataset.layers).map((layer) => [layer.key, layer]));
const address = (key) => `/studies/${form.dataset.case}/volumes/${encodeURIComponent(key)}.nii.gz`;
const field = (name) => form.elements.namedItem(name);
const cross = document.getElementById("cross");
const TRANSPARENT_BELOW = 2; // NiiVue's COLORMAP_TYPE: colours from 0 to the top, nothing below the threshold

function canDraw() {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

// Colour maps are the node's own: the bar, the pictures and the viewer agree.
const known = new Set();
async function learn(nv, name) {
  const answer = await fetch(`/colours/${name}.json`);
  if (!known.has(name)) nv.addColormap(`node-${name}`, await answer.json());
  known.add(name);
  return `node-${name}`;
}

class Side {
  constructor(side, canvas) {
    this.side = side;
    this.canvas = canvas;
    canvas.side = this;
    this.paper = canvas.parentElement.querySelector(".paper");
    this.map = null;
    this.lesion = null;
    const nv = this.nv = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.47, 1, 0.47, 0.9], crosshairWidthUnit: "mm",
      crosshairWidth: 0.6, crosshairGap: 4, isRadiologicalConvention: true, sagittalNoseLeft: true,
      isNearestInterpolation: true, isForceMouseClickToVoxelCenters: true, dragAndDropEnabled: false,
      multiplanarShowRender: SHOW_RENDER.NEVER, dragMode: DRAG_MODE.pan, logLevel: "error", loadingText: "",
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", fontColor: [0.9, 0.9, 0.9, 1],
    });
    nv.onLocationChange = (where) => moved(this, where);
    // Whatever makes the viewer draw makes the outline follow.
    const draw = nv.drawScene.bind(nv);
    nv.drawScene = () => {
      const drawn = draw();
      this.outline();
      return drawn;
    };
  }

  async open() {
    await this.nv.attachToCanvas(this.canvas);
    this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
  }

  // Planes are cut along the results' grid: that of the anatomy, or else of the super-resolved map, unseen.
  // A side that has no such map is not shown.
  async show(name) {
    this.map = this.mask = null;
    const figure = this.canvas.closest("figure");
    figure.hidden = !layers.has(`${this.side}-${name}`);
    if (figure.hidden) return;
    const under = layers.has("anatomy") ? "anatomy" : `sr-${name}`;
    const key = `${this.side}-${name}`;
    await this.nv.loadVolumes([
      { url: address(under), name: "under.nii.gz", colormap: "gray", opacity: layers.has("anatomy") ? 1 : 0 },
      { url: address(key), name: "map.nii.gz" },
    ]);
    const lesion = [...layers.values()].find((layer) => layer.kind === "segment" && layer.name === name);
    this.lesion = lesion ? await NVImage.loadFromUrl({ url: address(lesion.key), name: "lesion.nii.gz" }) : null;
    this.mask = this.lesion?.img2RAS();
    this.name = name;
    await this.look(this.nv.volumes[1]);
    this.map = this.nv.volumes[1];
    this.outline();
  }

  async look(map = this.map) {
    const { nv } = this;
    if (!map) return;
    const top = Number(field("top").value) || layers.get(`sr-${this.name}`).window;
    map.colormap = await learn(nv, field("colours").value);
    map.colormapType = TRANSPARENT_BELOW;
    map.cal_min = Math.max(Number(field("threshold").value), top * 1e-6);
    map.cal_max = Math.max(top, map.cal_min * 1.0001);
    map.opacity = Number(field("opacity").value) / 100;
    nv.updateGLVolume();
  }

  go([left, posterior, head]) {
    if (!this.map) return;
    this.nv.scene.crosshairPos = this.nv.mm2frac([-left, -posterior, head]); // NIfTI counts to right and front
    this.nv.drawScene();
  }

  // The border of the lesion in each plane, as lines between voxels, on a sheet above the viewer's canvas.
  outline() {
    const { nv, paper, canvas, mask } = this;
    if (paper.width !== canvas.width || paper.height !== canvas.height) [paper.width, paper.height] = [canvas.width, canvas.height];
    const pen = paper.getContext("2d", { willReadFrequently: true }); // on the processor: a few lines, no texture
    pen.clearRect(0, 0, paper.width, paper.height);
    if (!mask || !this.map || !field("outline").checked) return;
    const size = this.lesion.dimsRAS.slice(1), at = nv.frac2vox(nv.scene.crosshairPos);
    const is = (v) => v.every((n, axis) => n >= 0 && n < size[axis]) && mask[v[0] + size[0] * (v[1] + size[1] * v[2])] > 0;
    pen.strokeStyle = "#00ffff";
    pen.lineWidth = 2;
    pen.beginPath();
    for (const [slice, across, down, through] of [[0, 0, 1, 2], [1, 0, 2, 1], [2, 1, 2, 0]]) {
      // Where voxel coordinates of this plane lie on the canvas: a corner, and a step along either axis.
      const on = (x, y) => {
        const frac = [0, 0, 0];
        frac[across] = x / size[across];
        frac[down] = y / size[down];
        frac[through] = nv.scene.crosshairPos[through];
        return nv.frac2canvasPosWithTile(frac, slice)?.pos;
      };
      const [o, a, b] = [on(0, 0), on(1, 0), on(0, 1)];
      if (!o || !a || !b) continue;
      const put = (x, y) => [o[0] + (a[0] - o[0]) * x + (b[0] - o[0]) * y, o[1] + (a[1] - o[1]) * x + (b[1] - o[1]) * y];
      const line = (x0, y0, x1, y1) => { pen.moveTo(...put(x0, y0)); pen.lineTo(...put(x1, y1)); };
      const v = [...at];
      const inside = (x, y) => { v[across] = x; v[down] = y; return is(v); };
      for (let y = 0; y < size[down]; y++) {
        for (let x = 0; x < size[across]; x++) {
          if (!inside(x, y)) continue;
          if (!inside(x - 1, y)) line(x, y, x, y + 1);
          if (!inside(x + 1, y)) line(x + 1, y, x + 1, y + 1);
          if (!inside(x, y - 1)) line(x, y, x + 1, y);
          if (!inside(x, y + 1)) line(x, y + 1, x + 1, y + 1);
        }
      }
    }
    pen.stroke();
  }
}

let sides = [];
let leading = false; // the point was moved here, and others follow
let asking = 0;

function moved(from, where) {
  if (leading || !from.map) return;
  leading = true;
  const [right, front, head] = where.mm;
  const point = [-right, -front, head];
  for (const side of sides) if (side !== from && side.map) side.go(point);
  for (const [n, name] of ["l", "p", "h"].entries()) field(name).value = point[n].toFixed(2);
  say(point);
  leading = false;
}

// What the viewer itself shows at the point, at once; every map, from the node, a moment later.
function say(point) {
  const there = sides.filter((side) => side.map), name = field("map").value;
  if (there.some((side) => side.name !== name)) return; // another map is on its way
  const unit = layers.get(`sr-${name}`).unit;
  const shown = there.map((side) => {
    const mm = [-point[0], -point[1], point[2]], vox = side.map.mm2vox(mm);
    const value = side.map.getValue(...vox);
    const title = side.side === "sr" ? "super-resolved" : "as measured";
    side.canvas.dataset.value = value;
    return `${title} ${Number(value).toPrecision(4)}`;
  });
  const [left, posterior, head] = point;
  const letter = (value, plus, minus) => `${value >= 0 ? plus : minus} ${Math.abs(value).toFixed(1)}`;
  cross.textContent = `${name} ${shown.join(", ")} ${unit} at ${letter(left, "L", "R")}, ${letter(posterior, "P", "A")}, ${letter(head, "H", "F")} mm`;
  clearTimeout(asking);
  asking = setTimeout(() => readout(point), 200);
}

async function readout([l, p, h]) {
  const name = field("map").value, query = new URLSearchParams({ map: name, l, p, h });
  const answer = await fetch(`/studies/${form.dataset.case}/values?${query}`);
  if (!answer.ok) return;
  const body = document.querySelector("#readout tbody");
  body.replaceChildren(...(await answer.json()).map((row) => {
    const line = document.createElement("tr");
    line.className = row.name === name ? "chosen" : "";
    for (const [key, tag] of [["name", "th"], ["lr", "td"], ["sr", "td"], ["unit", "td"]]) {
      const cell = document.createElement(tag);
      cell.textContent = row[key];
      if (tag === "th") cell.scope = "row"; else if (key !== "unit") cell.className = "number";
      line.append(cell);
    }
    return line;
  }));
  document.getElementById("plain").href = `/studies/${form.dataset.case}/view?${asked()}&plain=1`;
}

function asked() {
  const query = new URLSearchParams(new FormData(form));
  query.delete("was");
  return query;
}

const point = () => ["l", "p", "h"].map((name) => Number(field(name).value));

async function another() {
  const name = field("map").value, layer = layers.get(`sr-${name}`);
  form.elements.namedItem("was").value = name;
  field("top").value = layer.window;
  field("threshold").value = 0;
  scale();
  document.getElementById("unit").textContent = layer.unit;
  const here = point();
  await Promise.all(sides.map((side) => side.show(name)));
  for (const side of sides) side.go(here);
  say(here);
  form.dataset.shown = name;
}

function scale() {
  field("threshold").max = field("top").value;
  document.getElementById("top").textContent = field("top").value;
  document.getElementById("bar").src = `/colours/${field("colours").value}.png`;
  form.querySelector('output[data-of="opacity"]').textContent = field("opacity").value;
  form.querySelector('output[data-of="threshold"]').textContent = Number(field("threshold").value).toPrecision(3);
}

const STEPS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0],
  PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};

// One voxel along the patient's axes as they lie on the screen: right is the patient's left, up the front.
function step(side, [left, posterior, head]) {
  const [x, y, z] = side.nv.volumes[0].pixDimsRAS.slice(1);
  const [l, p, h] = point();
  const there = [l + left * x, p + posterior * y, h + head * z];
  leading = true;
  for (const each of sides) each.go(there);
  leading = false;
  ["l", "p", "h"].forEach((name, n) => { field(name).value = there[n].toFixed(2); });
  say(there);
}

async function begin() {
  sides = [...document.querySelectorAll("#canvases canvas:not(.paper)")].map((canvas) => new Side(canvas.id.replace("canvas-", ""), canvas));
  document.getElementById("canvases").hidden = false;
  const here = point();
  for (const side of sides) await side.open();
  await Promise.all(sides.map((side) => side.show(field("map").value)));
  for (const side of sides) side.go(here);
  document.getElementById("planes").hidden = true;
  document.getElementById("show").hidden = true;
  say(here);
  form.addEventListener("submit", (event) => { event.preventDefault(); });
  form.addEventListener("input", (event) => {
    const name = event.target.name;
    if (name === "map") another();
    else if (["l", "p", "h"].includes(name)) { sides.forEach((side) => side.go(point())); say(point()); }
    else if (name === "outline") sides.forEach((side) => side.outline());
    else { scale(); sides.forEach((side) => side.look()); }
  });
  for (const side of sides) {
    side.canvas.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      step(side, STEPS[event.key]);
    }, { capture: true });
  }
  form.dataset.ready = "1";
}

if (canDraw()) {
  begin().catch((problem) => {
    // Whatever went wrong: the pictures are there.
    document.getElementById("canvases").hidden = true;
    document.getElementById("planes").hidden = false;
    document.getElementById("show").hidden = false;
    form.dataset.ready = "failed";
    console.error(problem);
  });
}
