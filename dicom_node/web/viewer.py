"""The viewer of a study: anatomy, maps as measured and super-resolved, lesions, and values at a point.

Where the browser has JavaScript and WebGL, NiiVue shows the volumes; elsewhere the same page, with the same
controls, shows pictures drawn here, and a click on one of them is a form like any other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response

from dicom_node.errors import NotDicom, UnsuitableInput
from sr_core import Grid

from . import pictures, protect
from .access import Viewer
from .desk import AtDesk, Desk
from .measurements import COLUMNS as COLUMNS_OF_FIGURES
from .measurements import read_measurements
from .pictures import COLOURS, Look, Plane, Point, Scene
from .render import render
from .volumes import Layer, Shelf, Shown, StudyVolumes, volumes_of

router = APIRouter(include_in_schema=False)

# Volumes are named by their content: one shelf serves whoever looks.
SHELF = Shelf()

PLANES: tuple[Plane, ...] = get_args(Plane)
NIIVUE = Path(__file__).parent / "static" / "niivue.js"
_SIDES = (("lr", "As measured"), ("sr", "Super-resolved"))
# Its letters are pictures in data: addresses; all else, volumes and scripts, are files of ours.
_POLICY = protect.policy(img="data:")


@dataclass(frozen=True)
class Asked:
    """What is to be seen: opacity in %, threshold and top in the map's unit, the point in LPS mm."""

    map: str
    colours: str
    opacity: float
    threshold: float
    top: float
    outline: bool
    point: Point

    def query(self, **changes: Any) -> str:
        """As an address of this page has it."""
        left, posterior, head = self.point
        fields = {
            "map": self.map,
            "colours": self.colours,
            "opacity": f"{self.opacity:g}",
            "threshold": f"{self.threshold:g}",
            "top": f"{self.top:g}",
            "outline": "1" if self.outline else "0",
            "l": f"{left:.2f}",
            "p": f"{posterior:.2f}",
            "h": f"{head:.2f}",
            **changes,
        }
        return urlencode(fields)


@router.get("/studies/{case}/view", response_model=None)
def view(request: Request, case: str, desk: AtDesk, person: Viewer) -> Response:
    """The viewer's page; a click on one of its pictures leads to the page at that point."""
    volumes = _volumes(desk, case)
    names = _map_names(volumes)
    if not names:
        words = volumes.warnings or ["these results hold no Parametric Map"]
        shared = _about(desk, volumes)
        return render(request, "viewer.html", case=case, volumes=volumes, problem="; ".join(words), **shared)
    base = _base(volumes, names[0])
    asked = _asked(request.query_params, volumes, base)
    if (point := _clicked(request.query_params, base, asked.point)) is not None:
        where = {"l": f"{point[0]:.2f}", "p": f"{point[1]:.2f}", "h": f"{point[2]:.2f}"}
        drawn = {"plain": "1"} if request.query_params.get("plain") else {}
        return RedirectResponse(f"/studies/{case}/view?{asked.query(**where, **drawn)}#planes", 303)
    plain = bool(request.query_params.get("plain")) or not NIIVUE.exists()
    return render(
        request,
        "viewer.html",
        policy=None if plain else _POLICY,
        case=case,
        volumes=volumes,
        problem="",
        asked=asked,
        names=names,
        units={x.name: x.unit for x in volumes.layers.values() if x.kind == "map"},
        colour_maps=COLOURS,
        planes=PLANES,
        sides=[s for s in _SIDES if f"{s[0]}-{asked.map}" in volumes.layers],
        sizes={plane: pictures.size_of(base, plane) for plane in PLANES},
        spacing_mm=[round(float(s), 2) for s in _spacing(base)],
        values=list(_values(volumes, asked.point)),
        plain=plain,
        niivue=NIIVUE.exists(),
        layers=[asdict(x) for x in volumes.layers.values()],
        **_about(desk, volumes),
    )


@router.get("/studies/{case}/volumes/{key}.nii.gz")
def volume(request: Request, case: str, key: str, desk: AtDesk, person: Viewer) -> Response:
    """One layer as gzipped NIfTI; its entity tag changes with its voxels only."""
    volumes = _volumes(desk, case)
    layer = _layer(volumes, key)
    if (unchanged := _unchanged(request, layer.tag)) is not None:
        return unchanged
    name = f"{layer.key}.nii.gz"
    return _held(_load(volumes, key).as_nifti(), "application/gzip", layer.tag, name)


@router.get("/studies/{case}/planes/{plane}.png")
def picture(
    request: Request, case: str, plane: Plane, desk: AtDesk, person: Viewer, side: str = "sr"
) -> Response:
    """One plane, drawn: the map of ``side`` ("sr", "lr") over anatomy, as the rest of the query asks."""
    volumes = _volumes(desk, case)
    names = _map_names(volumes)
    if not names:
        raise HTTPException(404, "; ".join(volumes.warnings) or "these results hold no map")
    base = _base(volumes, names[0])
    asked = _asked(request.query_params, volumes, base)
    shown = volumes.layers.get(f"{'lr' if side == 'lr' else 'sr'}-{asked.map}")
    anatomy, outlines = volumes.layers.get("anatomy"), _outlines(volumes, asked)
    drawn = [x.tag for x in (shown, anatomy, *outlines) if x is not None]
    tag = (
        f"{'-'.join(t[:12] for t in drawn)}-{plane}-{hashlib.sha256(asked.query().encode()).hexdigest()[:12]}"
    )
    if (unchanged := _unchanged(request, tag)) is not None:
        return unchanged
    scene = Scene(
        base,
        None if anatomy is None else _load(volumes, anatomy.key),
        None if shown is None else _load(volumes, shown.key),
        tuple(_load(volumes, x.key) for x in outlines),
        Look(asked.colours, asked.top, asked.threshold, asked.opacity / 100),
        asked.point,
    )
    return _held(pictures.draw(scene, plane), "image/png", tag)


@router.get("/studies/{case}/values")
def values(request: Request, case: str, desk: AtDesk, person: Viewer) -> JSONResponse:
    """Every map at a point, as the page shows it."""
    volumes = _volumes(desk, case)
    names = _map_names(volumes)
    asked = _asked(request.query_params, volumes, _base(volumes, names[0])) if names else None
    return JSONResponse([] if asked is None else list(_values(volumes, asked.point)))


@router.get("/colours/{name}.png")
def colour_bar(request: Request, name: str, person: Viewer) -> Response:
    """A colour map as a bar, lowest on the left."""
    if name not in COLOURS:
        raise HTTPException(404, "no such colour map")
    return _unchanged(request, name) or _held(pictures.colour_bar(name), "image/png", name)


@router.get("/colours/{name}.json")
def colour_nodes(name: str, person: Viewer) -> JSONResponse:
    """The same for the viewer: red, green, blue and opacity at each of 256 steps."""
    if name not in COLOURS:
        raise HTTPException(404, "no such colour map")
    red, green, blue = pictures.steps(name)
    steps = list(range(256))
    return JSONResponse({"R": red, "G": green, "B": blue, "A": [255] * 256, "I": steps})


def _about(desk: Desk, volumes: StudyVolumes) -> dict[str, Any]:
    """Whose results these are, and what was measured in them."""
    groups, problem = None, "no report on measurements was made"
    if (report := volumes.file_named("SR_measurements")) is not None:
        try:
            groups = read_measurements(report)
        except NotDicom as gone:
            problem = str(gone)
    found = desk.store.case_status(volumes.key.case) or {}
    return {
        "patient_id": found.get("patient_id", ""),
        "groups": groups,
        "groups_problem": problem,
        "figure_columns": COLUMNS_OF_FIGURES,
        "summary": volumes.file_named("SC_summary") is not None,
    }


def _volumes(desk: Desk, case: str) -> StudyVolumes:
    known = desk.store.case_of(case)
    found = None
    if known is not None:
        found = volumes_of(desk.store, desk.spool, desk.settings.input_rules, SHELF, known)
    if found is None:
        raise HTTPException(
            404, "there are no results of this study to look at" if known else "no such study"
        )
    return found


def _layer(volumes: StudyVolumes, key: str) -> Layer:
    try:
        return volumes.layers[key]
    except KeyError:
        raise HTTPException(404, "this study has no such volume") from None


def _load(volumes: StudyVolumes, key: str) -> Shown:
    try:
        return volumes.load(key)
    except (NotDicom, UnsuitableInput) as gone:
        raise HTTPException(410, str(gone)) from gone


def _map_names(volumes: StudyVolumes) -> list[str]:
    return [x.name for x in volumes.layers.values() if x.kind == "map"]


def _base(volumes: StudyVolumes, name: str) -> Grid:
    """The grid that planes are cut along: that of the results."""
    return _load(volumes, f"sr-{name}").grid


def _asked(query: QueryParams, volumes: StudyVolumes, base: Grid) -> Asked:
    """What the query asks for; what it says wrongly or not at all is as usual."""
    names = _map_names(volumes)
    name = query.get("map", "")
    name = name if name in names else names[0]
    usual = volumes.layers[f"sr-{name}"].window
    same_map = query.get("was", name) == name  # a range belongs to its map
    top = _number(query.get("top"), usual) if same_map else usual
    top = top if top > 0 else usual
    start = _start(volumes, name, base)
    return Asked(
        map=name,
        colours=query.get("colours", "") if query.get("colours") in COLOURS else COLOURS[0],
        opacity=min(max(_number(query.get("opacity"), 70.0), 0.0), 100.0),
        threshold=max(_number(query.get("threshold"), 0.0), 0.0) if same_map else 0.0,
        top=top,
        outline=query.get("outline", "0" if "was" in query else "1") == "1",
        point=(
            _number(query.get("l"), start[0]),
            _number(query.get("p"), start[1]),
            _number(query.get("h"), start[2]),
        ),
    )


def _number(text: str | None, usual: float) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return usual
    return value if math.isfinite(value) and abs(value) < 1e9 else usual


def _start(volumes: StudyVolumes, name: str, base: Grid) -> Point:
    """The middle of the map's lesion, else of the volume; where a voxel's centre is."""
    middle = np.asarray(base.to_patient((np.asarray(base.shape) - 1) / 2))
    for layer in volumes.layers.values():
        if layer.kind == "segment" and layer.name == name:
            lesion = _load(volumes, layer.key)
            where = np.argwhere(lesion.values)
            if len(where):
                nearest = where[np.linalg.norm(where - where.mean(axis=0), axis=1).argmin()]
                middle = lesion.grid.to_patient(nearest)
    index = pictures.index_at(base, (float(middle[0]), float(middle[1]), float(middle[2])))
    return pictures.point_at(base, index)


def _clicked(query: QueryParams, base: Grid, point: Point) -> Point | None:
    """Where a picture was clicked, if one was. A keyboard "clicks" at (0, 0), which says nothing."""
    for side, _ in _SIDES:
        for plane in PLANES:
            x, y = (_number(query.get(f"{side}-{plane}.{axis}"), -1) for axis in "xy")
            if x >= 0 and y >= 0 and (x or y):
                return pictures.clicked(base, plane, point, int(x), int(y))
    return None


def _outlines(volumes: StudyVolumes, asked: Asked) -> list[Layer]:
    if not asked.outline:
        return []
    return [x for x in volumes.layers.values() if x.kind == "segment" and x.name == asked.map]


def _values(volumes: StudyVolumes, point: Point) -> Iterator[Mapping[str, Any]]:
    """Each map at ``point``: measured, super-resolved, unit; and the segments that hold it."""
    for name in _map_names(volumes):
        row: dict[str, Any] = {"name": name, "unit": volumes.layers[f"sr-{name}"].unit}
        for side, _ in _SIDES:
            key = f"{side}-{name}"
            row[side] = _words(_load(volumes, key).at(point)) if key in volumes.layers else ""
        yield row
    inside = [
        x.label for x in volumes.layers.values() if x.kind == "segment" and _load(volumes, x.key).at(point)
    ]
    yield {"name": "Segments here", "unit": "", "lr": "", "sr": "; ".join(inside) or "none"}


def _words(value: float | None) -> str:
    return "outside" if value is None else f"{value:.4g}"


def _spacing(grid: Grid) -> tuple[float, float, float]:
    """Along left, posterior and head."""
    first = np.asarray(pictures.point_at(grid, (0, 0, 0)))
    steps = (np.asarray(pictures.point_at(grid, at)) - first for at in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    along = [float(np.linalg.norm(step)) for step in steps]
    return along[0], along[1], along[2]


def _unchanged(request: Request, tag: str) -> Response | None:
    if f'"{tag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_cached(tag))
    return None


def _held(content: bytes, kind: str, tag: str, name: str = "") -> Response:
    headers = _cached(tag)
    if name:
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return Response(content, media_type=kind, headers=headers)


def _cached(tag: str) -> dict[str, str]:
    """A browser may keep it, and asks each time whether it still may be shown and is still the same."""
    return {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
