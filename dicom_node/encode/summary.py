"""The summary page: what came in, what came out, how far it is to be trusted, and what was not done."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dicom_node import codes
from sr_core import Mask, Metabolite, Ratio, Volume

from .capture import secondary_capture, set_pixels
from .encoded import EncodedObject
from .fused import WARNING, unit_words
from .headers import identify_single
from .measured import RATIO_PARTS, as_measured
from .measurements import volume_ml
from .overlay import letters
from .page import Bar, Page, Picture, draw
from .production import SUMMARY_SERIES, MapToEncode, Production, display_window, plain

_ROLE = "SC summary"
_SHOWN = 3  # maps in pictures
_MUCH = 0.3  # share of the brain: rejected more than this, a map is pointed at
_MARGIN = 4  # voxels around the brain
# Beginning of sr_core.uncertainty's word for the calibrated doubt of a map.
_HALF_WIDTH = "half-width"
_TINY = 1e-6  # of any unit: no division by zero where a map is zero


def summary_page(production: Production) -> EncodedObject:
    """One picture on the quality of the whole study (Secondary Capture), without a name on it."""
    d = secondary_capture(production, production.derivation("Summary of quality"))
    d.Modality = "OT"
    d.DerivationCodeSequence = [codes.item(codes.METABOLITE_MAPS_FROM_SPECTROSCOPY)]
    d.PatientOrientation = ""
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator"):
        del d[keyword]
    set_pixels(d, draw(page_of(production)))
    identify_single(d, production, _ROLE, SUMMARY_SERIES, "QC summary")
    return EncodedObject(d, "SC", "SC_summary")


def page_of(production: Production) -> Page:
    """What the page says, before it is drawn."""
    result, how = production.result, production.result.provenance
    k, rows, columns = _window(production)
    shown = _maps_shown(production)
    row, column = letters(result.grid.row_direction), letters(result.grid.column_direction)
    opposite = str.maketrans("LRPAHF", "RLAPFH")
    method = f"{how.method_used}" + (
        "" if how.method_used == how.method_requested else f" (asked for: {how.method_requested})"
    )
    return Page(
        title="MRSI super-resolution: summary of quality",
        subtitle=f"{WARNING}. Research use. Computed, not acquired.",
        alerts=[plain(a) for a in _alerts(production)],
        pictures=[_pictures(production, m, k, rows, columns) for m in shown],
        size=(rows.stop - rows.start, columns.stop - columns.start),
        aspect=result.grid.spacing_mm[1] / result.grid.spacing_mm[2],
        edges=(row.translate(opposite), row, column.translate(opposite), column),
        lesions=[["by", "limit", "volume", "regions", "mean", "max"], *_lesions(production)],
        bars=list(_bars(production)),
        paragraphs={
            "Anatomy": [plain(line) for line in _anatomy(production)],
            "Likeness to clean studies": [plain(_likeness(production))],
            "What was not done, and other remarks": [plain(line) for line in _remarks(production)],
        },
        foot=plain(
            f"method {method}   enlarged {' x '.join(str(f) for f in how.factor)} (slice, row, column)   "
            f"{how.software}   weights {how.model_hash[:16] or 'none'}   settings {how.settings_hash[:16]}   "
            f"slice {k + 1} of {result.grid.shape[0]}"
        ),
    )


def _alerts(production: Production) -> Iterator[str]:
    result = production.result
    if result.novelty is not None and result.novelty.is_unlike:
        yield f"Unlike the studies this method was tried on: {result.novelty.reason}."
    if result.provenance.registration:
        yield f"Anatomy: {result.provenance.registration}."
    used = {m.contrast for m in result.motions}
    left_out = [a.contrast for a in production.source.acquisition.anatomy if a.contrast not in used]
    if left_out:
        yield f"{' and '.join(left_out)} left out: the remarks say why."
    poor = [str(m) for m, share in result.quality.rejected_share.items() if share > _MUCH]
    if poor:
        yield f"More than {_MUCH:.0%} of the brain was rejected in {', '.join(poor)}."


def _anatomy(production: Production) -> Iterator[str]:
    result = production.result
    for motion in result.motions:
        how = "lies where its header says" if motion.matrix is None else "was moved onto the maps"
        yield f"{motion.contrast} {how}" + (
            "; it guided the maps" if motion.contrast in result.provenance.guides else ""
        )
    if not result.motions:
        yield "none was used"
    if result.provenance.registration:
        yield result.provenance.registration


def _likeness(production: Production) -> str:
    novelty = production.result.novelty
    if novelty is None:
        return "not judged: too little was measured"
    word = "UNLIKE" if novelty.is_unlike else "usual"
    words = f"{word}: score {novelty.score:.1f}, clean studies stay below {novelty.threshold:.1f}"
    return words + (f" ({novelty.reason})" if novelty.is_unlike else "")


def _remarks(production: Production) -> Iterator[str]:
    """Why less was done than asked for. Remarks on the input quote its headers: they are only counted."""
    result = production.result
    yield from result.provenance.warnings
    found = {lesion.source for lesion in result.lesion}
    missing = [name for name in (*Ratio, Metabolite.HG2) if name not in found]
    if missing:
        yield f"no lesion was looked for by {', '.join(missing)}"
    number = len(production.source.warnings)
    if number:
        yield f"{number} remark{'s' * (number > 1)} on the input: see report.json or the node's page"
    elif not missing and not result.provenance.warnings:
        yield "everything that was asked for was done"


def _lesions(production: Production) -> Iterator[list[str]]:
    for lesion in production.result.lesion:
        m = production.map_named(lesion.source)
        limit = f">= {lesion.threshold:.3g} {'' if m is None else unit_words(m.unit)}"
        if not lesion.mask.any():
            yield [lesion.source, plain(limit), "no region above the limit"]
            continue
        volume = volume_ml(production, lesion.mask)
        figures = [
            f"{volume:.1f} mL",
            str(len(lesion.regions)),
            f"{lesion.mean:.2f}",
            f"{lesion.maximum:.2f}",
        ]
        yield [lesion.source, plain(limit), *figures]


def _bars(production: Production) -> Iterator[Bar]:
    quality = production.result.quality
    n = max(int(quality.brain.sum()), 1)
    for q in quality.maps:
        doubt, m = _half_width(production, q.metabolite), production.map_named(q.metabolite)
        beside, brain = "", production.result.brain
        if doubt is not None and m is not None and brain.any():
            beside = f"half-width {np.median(doubt[brain]):.2g}, value {np.median(m.values[brain]):.2g}"
        rejected, repaired = (float((mask & quality.brain).sum()) / n for mask in (q.rejected, q.inpainted))
        yield Bar(str(q.metabolite), rejected, repaired, beside)


def _pictures(production: Production, m: MapToEncode, k: int, rows: slice, columns: slice) -> list[Picture]:
    """Measured, super-resolved with the lesion's outline, and doubt: one plane of a map."""
    result = production.result
    spacing = result.grid.spacing_mm
    _, top = display_window(m.values, result.brain)
    unit = unit_words(m.unit)
    lesion = next((x for x in result.lesion if x.source == m.name), None)
    outline = None if lesion is None else lesion.mask[k, rows, columns]
    low = as_measured(production.source.acquisition, m.name)
    factor = result.provenance.factor
    coarse = production.source.acquisition.grid.spacing_mm
    plane = None
    if low is not None:
        part = _coarse(rows, factor[1]), _coarse(columns, factor[2])
        plane = low[min(round(k / factor[0]), low.shape[0] - 1), *part]
    inside = result.brain[k, rows, columns]
    doubt = _doubt_of(production, m)
    return [
        Picture(
            f"{m.label} measured, {coarse[1]:.1f} mm", plane, (0, top), unit, missing="not measured itself"
        ),
        Picture(
            f"{m.label} super-resolved, {spacing[1]:.1f} mm",
            m.values[k, rows, columns],
            (0, top),
            unit,
            outline,
        ),
        Picture(
            f"{m.label} half-width (90 %)" + (", by its parts" if m.name in RATIO_PARTS else ""),
            None if doubt is None else np.where(inside, doubt[k, rows, columns], np.nan).astype(np.float32),
            (0, top),
            unit,
            outline,
            missing="no uncertainty was computed",
        ),
    ]


def _maps_shown(production: Production) -> list[MapToEncode]:
    wanted = [m for name in production.rules.mr_maps if (m := production.map_named(name)) is not None]
    return (wanted or list(production.maps))[:_SHOWN]


def _window(production: Production) -> tuple[int, slice, slice]:
    """The slice where most of the lesions is, else of the brain; rows and columns around the brain.

    Rows and columns begin at a measured voxel, so that measured and super-resolved show one part.
    """
    result = production.result
    lesions = [x.mask for x in result.lesion if x.mask.any()]
    mask: Mask = np.any(lesions, axis=0) if lesions else result.brain
    k = int(mask.sum(axis=(1, 2)).argmax())
    brain = result.brain if result.brain.any() else np.ones_like(result.brain)
    ranges = []
    for axis in (1, 2):
        there = np.flatnonzero(brain.any(axis=(0, 3 - axis)))
        step = result.provenance.factor[axis]
        first = max(int(there[0]) - _MARGIN, 0) // step * step
        last = min(-(-(int(there[-1]) + 1 + _MARGIN) // step) * step, brain.shape[axis])
        ranges.append(slice(first, last))
    return k, ranges[0], ranges[1]


def _coarse(part: slice, factor: int) -> slice:
    return slice(part.start // factor, -(-part.stop // factor))


def _doubt_of(production: Production, m: MapToEncode) -> Volume | None:
    """Half-width of ``m`` in its unit. Of a ratio what its parts allow at most: their shares, added."""
    if m.name not in RATIO_PARTS:
        return _half_width(production, m.name)
    above, below = RATIO_PARTS[m.name]
    top, bottom = _sum_with_doubt(production, above), _sum_with_doubt(production, (below,))
    if bottom is None and below == Metabolite.TNAA:
        bottom = _sum_with_doubt(production, (Metabolite.NAA,))
    if top is None or bottom is None:
        return None
    share = top[1] / np.maximum(top[0], _TINY) + bottom[1] / np.maximum(bottom[0], _TINY)
    return np.asarray(m.values * share, dtype=np.float32)


def _sum_with_doubt(production: Production, names: tuple[Metabolite, ...]) -> tuple[Volume, Volume] | None:
    """Values and half-widths of metabolites, added up."""
    maps = [production.map_named(name) for name in names]
    doubts = [_half_width(production, name) for name in names]
    if any(m is None for m in maps) or any(d is None for d in doubts):
        return None
    values = np.sum([m.values for m in maps if m is not None], axis=0)
    return values, np.sum([d for d in doubts if d is not None], axis=0)


def _half_width(production: Production, name: str) -> Volume | None:
    found = (u for u in production.result.uncertainty if u.of == name)
    return next((u.values for u in found if u.method.startswith(_HALF_WIDTH)), None)
