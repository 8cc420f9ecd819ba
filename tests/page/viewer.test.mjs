// The viewer: what it says at a point is what the Parametric Map holds there, with scripts and without.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessible, as, browser, picture, site, well } from './browser.mjs';

after(() => browser.close());

const address = site.pages.viewer;
const at = ({ map, point: [l, p, h] }) => `${address}?map=${map}&l=${l}&p=${p}&h=${h}&outline=1`;
const within = (found, wanted, what) => assert.ok(Math.abs(found - wanted) <= 0.01 * Math.abs(wanted), `${what}: ${found} for ${wanted}`);

/** What the viewer itself shows at its crosshair, on one side. */
const shown = async (page, side) => Number(await page.locator(`#canvas-${side}`).getAttribute('data-value'));
const cell = (page, map, column) => page.locator('#readout tr', { has: page.getByRole('rowheader', { name: map, exact: true }) }).locator('td').nth(column).innerText();
const choose = async (page, map) => {
  await page.locator('select[name=map]').selectOption(map);
  await page.locator(`form[data-shown="${map}"]`).waitFor();
};
const drawn = (page, selector) => page.locator(selector).evaluate((canvas) => {
  canvas.side?.nv.drawScene(); // what WebGL drew is gone once it is shown
  return canvas.toDataURL();
});

async function changes(page, selector, act) {
  const was = await drawn(page, selector);
  await act();
  for (let n = 0; n < 100 && await drawn(page, selector) === was; n++) await page.waitForTimeout(100);
  assert.notEqual(await drawn(page, selector), was, selector);
}

test('with WebGL: its crosshair reads what Parametric Map and measured map hold; every control does what it says', async () => {
  const page = await as(null);
  await page.goto(address);
  await page.locator('form[data-ready]').waitFor({ timeout: 90_000 });
  assert.equal(await page.locator('#viewer').getAttribute('data-ready'), '1', page.problems.join('; '));
  await accessible(page, 'viewer');

  for (const { map, point, resolved, measured } of site.truth) {
    await choose(page, map);
    for (const [n, name] of ['Left', 'Posterior', 'Head'].entries()) await page.getByLabel(name).fill(String(point[n]));
    within(await shown(page, 'sr'), resolved, `${map} super-resolved`);
    within(await shown(page, 'lr'), measured, `${map} measured`);
    await page.waitForFunction(([m, v]) => {
      const row = [...document.querySelectorAll('#readout tr')].find((r) => r.cells[0].textContent === m);
      return Math.abs(Number(row.cells[2].textContent) - v) <= 0.01 * Math.abs(v);
    }, [map, resolved]); // and the node says the same, of every map
  }

  const point = async () => Promise.all(['Left', 'Posterior', 'Head'].map(async (n) => Number(await page.getByLabel(n).inputValue())));
  const before = await point();
  const box = await page.locator('#canvas-sr').boundingBox();
  await page.mouse.click(box.x + box.width * 0.3, box.y + box.height * 0.25);
  const clicked = await point();
  assert.notDeepEqual(clicked, before);
  await page.locator('#canvas-lr').focus();
  await page.keyboard.press('ArrowRight');
  const right = await point();
  assert.ok(right[0] > clicked[0] && right[1] === clicked[1] && right[2] === clicked[2], `${clicked} to ${right}`);
  await page.keyboard.press('PageUp');
  assert.ok((await point())[2] > right[2]);
  assert.match(await page.locator('#cross').innerText(), /as measured [-\d.e]+, super-resolved [-\d.e]+ .* mm$/);

  await changes(page, '#canvas-sr', () => page.locator('select[name=colours]').selectOption('viridis'));
  await changes(page, '#canvas-sr', () => page.getByLabel('Opacity').fill('20'));
  await changes(page, '#canvas-sr', () => page.getByLabel('Threshold').fill(String(site.truth.at(-1).resolved)));
  await changes(page, '#canvas-sr', () => page.getByLabel('Brightest at').fill('1'));
  if (site.outlined) {
    await choose(page, site.outlined);
    const inked = () => page.locator('#canvas-sr + .paper').evaluate((paper) => paper.getContext('2d')
      .getImageData(0, 0, paper.width, paper.height).data.some((value, n) => n % 4 === 3 && value > 0));
    assert.ok(await inked(), 'the lesion is outlined');
    await page.getByLabel('Lesion outline').uncheck();
    assert.ok(!await inked(), 'and not, where that is not wanted');
  }
  await picture(page, 'viewer after all');
  well(page, 'viewer');
});

test('without scripts a click on a picture moves the point, and the table says what is there', async () => {
  const page = await as(null, { javaScriptEnabled: false });
  for (const truth of site.truth.slice(0, 2)) {
    await page.goto(at(truth));
    within(Number(await cell(page, truth.map, 1)), truth.resolved, truth.map);
    within(Number(await cell(page, truth.map, 0)), truth.measured, truth.map);
  }
  const before = page.url();
  const plane = page.locator('input[name="sr-axial"]');
  const { width, height } = await plane.boundingBox();
  await plane.click({ position: { x: width * 0.3, y: height * 0.3 } });
  await page.waitForURL((url) => url.href !== before && !url.searchParams.has('sr-axial.x'));
  const [was, is] = [before, page.url()].map((url) => new URL(url).searchParams);
  assert.equal(is.get('map'), site.truth[1].map);
  assert.ok(is.get('l') !== was.get('l') && Math.abs(is.get('h') - was.get('h')) < 0.02, page.url());
  await page.getByLabel('Opacity').fill('30');
  await page.getByRole('button', { name: 'Show' }).click();
  await page.waitForURL(/opacity=30/);
  await picture(page, 'viewer without scripts');
  well(page, 'no scripts');
});

test('without WebGL the pictures stay', async () => {
  const page = await as(null);
  await page.addInitScript(() => {
    const get = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...more) { return kind === 'webgl2' ? null : get.call(this, kind, ...more); };
  });
  await page.goto(address);
  await page.locator('input[name="sr-coronal"]').waitFor();
  await page.waitForLoadState('networkidle');
  assert.ok(await page.getByRole('button', { name: 'Show' }).isVisible());
  assert.equal(await page.locator('#canvas-sr').isVisible(), false);
  await accessible(page, 'viewer in pictures');
  well(page, 'no WebGL');
});
