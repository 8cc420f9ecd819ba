"""SOP instances -> sr_core.Acquisition: the only reader of image tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom import Dataset

from dicom_node.config import IdentifyRules, SiteRule
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.series import IdentifiedSeries, Part, Role, site_rule, text_of
from dicom_node.source import SourceStudy
from dicom_node.uids import result_uid
from sr_core import Acquisition, AnatomicalImage, Contrast, Grid, Metabolite, MetaboliteMap, Shape, Volume

from .planes import Plane, affine_from_planes, ascending
from .quality import crlb_percent, linewidth_ppm
from .sanity import acquired_matrix, check_map, check_one_patient, differing, unit_of
from .stack import Stack, read_stack

__all__ = ["Plane", "affine_from_planes", "ascending", "decode", "decode_anatomy"]

Read = Callable[[str], Dataset]
_CONTRASTS = {Role.T1: Contrast.T1, Role.FLAIR: Contrast.FLAIR}


@dataclass(frozen=True, eq=False)
class _Item:
    """A part with the name people know it by, its stack once read, and the site's rule."""

    part: Part
    name: str
    stack: Stack
    site: SiteRule | None


def decode(series: Sequence[IdentifiedSeries], read: Read, rules: IdentifyRules) -> SourceStudy:
    """Read what ``identify`` chose: maps with their CRLB, SNR and linewidth, T1 and FLAIR.

    ``read`` gives an instance with pixels by its SOP Instance UID; each is read once. A map that is
    broken stops the case; a quality map or an anatomical image that is broken, or a quality map on
    another grid, is left out with a warning. Values are real values (see ``values``), NaN where
    nothing was measured; CRLB in %, linewidth in ppm.

    Raises UnsuitableInput (no usable map, two patients, pixels that cannot be decoded) and
    UnsuitableGeometry (slices missing, doubled, tilted, uneven; maps on several grids), in words.
    """
    warnings: list[str] = []
    item = _reader(read, rules)
    found = [
        item(s, part, f"{part.metabolite} map")
        for s in series
        for part in s.parts
        if part.metabolite is not None
    ]
    known = list(Metabolite)  # their order, and not that of arrival
    found.sort(key=lambda i: known.index(Metabolite(i.part.metabolite or "")))
    usable = [i for i in found if _is_usable(i, warnings)]
    if not usable:
        raise UnsuitableInput("no usable metabolite map: " + ("; ".join(warnings) or "none was identified"))
    frame_of_reference = _frame_of_reference(usable, warnings)
    grids = [_grid(i.stack, frame_of_reference, i.name) for i in usable]
    for i, grid in zip(usable[1:], grids[1:], strict=True):
        if not grid.same_as(grids[0]):
            raise UnsuitableGeometry(
                f"{i.name} lies on another grid than {usable[0].name}: {differing(grid, grids[0])}"
            )
    quality = _quality(series, item, grids[0], warnings)
    maps = tuple(_map(i, grids[0], quality, warnings) for i in usable)
    _warn_of_mixed_units(maps, warnings)
    anatomy = _anatomy(series, item, frame_of_reference, warnings)

    check_one_patient([h for i in (*usable, *quality, *anatomy) for h in i.stack.headers])
    first = usable[0]
    return SourceStudy(
        acquisition=Acquisition(
            maps=maps,
            anatomy=tuple(_image(i, c) for i, c in anatomy.items()),
            snr=_first_of("snr", quality, lambda i: i.stack.values, warnings),
            linewidth_ppm=_first_of(
                "linewidth",
                quality,
                lambda i: linewidth_ppm(
                    i.stack.values, i.part.unit, first.stack.headers[0], i.name, warnings
                ),
                warnings,
            ),
            acquired_matrix=_acquired_matrix(usable, grids[0], warnings),
            psf=_psf(usable, warnings),
        ),
        header=_header(first.stack.headers[0], frame_of_reference),
        map_headers={str(i.part.metabolite): i.stack.headers for i in usable},
        anatomy_headers={str(c): i.stack.headers for i, c in anatomy.items()},
        warnings=tuple(dict.fromkeys(warnings)),
    )


def decode_anatomy(
    series: Sequence[IdentifiedSeries], read: Read, rules: IdentifyRules, frame_of_reference: str
) -> tuple[tuple[AnatomicalImage, ...], dict[str, tuple[Dataset, ...]], tuple[str, ...]]:
    """The T1 and FLAIR that ``identify`` chose, for maps that come from elsewhere: images, headers by
    contrast, warnings. ``frame_of_reference`` is the maps'. A broken image is left out with a warning.
    """
    warnings: list[str] = []
    found = _anatomy(series, _reader(read, rules), frame_of_reference, warnings)
    images = tuple(_image(i, c) for i, c in found.items())
    return images, {str(c): i.stack.headers for i, c in found.items()}, tuple(warnings)


def _reader(read: Read, rules: IdentifyRules) -> Callable[[IdentifiedSeries, Part, str], _Item]:
    cache: dict[str, Dataset] = {}

    def read_once(uid: str) -> Dataset:
        """A multi-frame instance may hold many parts: keep the last one."""
        if uid not in cache:
            cache.clear()
            cache[uid] = read(uid)
        return cache[uid]

    def item(s: IdentifiedSeries, part: Part, name: str) -> _Item:
        stack = read_stack(part, read_once, name, rules)
        return _Item(part, name, stack, site_rule(stack.headers[0], rules))

    return item


def _is_usable(i: _Item, warnings: list[str]) -> bool:
    """Sanity of one map (size, spacing, not constant); an unusable one is named and left out."""
    problem = check_map(i.stack, i.part.metabolite or "")
    if problem:
        warnings.append(f"{i.name} left out: {problem}")
    warnings.extend(f"{i.name}: {w}" for w in i.stack.warnings)
    return problem is None


def _frame_of_reference(maps: Sequence[_Item], warnings: list[str]) -> str:
    """The maps' one Frame of Reference; a derived UID, the same at every run, if they name none."""
    stated = {uid for i in maps for uid in i.stack.frames_of_reference if uid}
    if len(stated) > 1:
        names = ", ".join(i.name for i in maps)
        raise UnsuitableGeometry(f"maps lie in {len(stated)} different Frames of Reference ({names})")
    if stated:
        if any("" in i.stack.frames_of_reference for i in maps):
            warnings.append("some maps name no Frame of Reference: that of the others is used")
        return stated.pop()
    warnings.append(
        "the maps name no Frame of Reference: one was made up; anatomy is treated as lying in another frame"
    )
    header = maps[0].stack.headers[0]
    return result_uid("frame of reference", text_of(header, "StudyInstanceUID"))


def _grid(stack: Stack, frame_of_reference: str, name: str) -> Grid:
    try:
        return Grid(stack.shape, stack.affine, frame_of_reference)
    except ValueError as e:
        raise UnsuitableGeometry(f"{name}: {e}") from e


def _quality(
    series: Sequence[IdentifiedSeries],
    item: Callable[[IdentifiedSeries, Part, str], _Item],
    grid: Grid,
    warnings: list[str],
) -> list[_Item]:
    """Quality maps on the maps' own grid; others are left out with a warning."""
    words = {"crlb": "CRLB", "snr": "SNR", "linewidth": "linewidth"}
    kept = []
    for s, part in [(one, p) for one in series for p in one.parts if p.quality]:
        name = f"{words[part.quality or 'snr']} map" + (f" of {part.of}" if part.of else "")
        try:
            i = item(s, part, name)
            stated = i.stack.frames_of_reference - {"", grid.frame_of_reference}
            itself = _grid(i.stack, next(iter(stated), grid.frame_of_reference), name)
        except UnsuitableInput as problem:
            warnings.append(f"{name} left out: {problem}")
            continue
        if itself.same_as(grid):
            kept.append(i)
        else:
            warnings.append(
                f"{name} left out: it lies on another grid than the maps: {differing(itself, grid)}"
            )
    return kept


def _map(i: _Item, grid: Grid, quality: Sequence[_Item], warnings: list[str]) -> MetaboliteMap:
    unit = unit_of(i.part.unit, i.name, warnings)
    bounds = next((q for q in quality if q.part.quality == "crlb" and q.part.of == i.part.metabolite), None)
    crlb = None
    if bounds is not None:
        crlb = crlb_percent(bounds.stack.values, bounds.part.unit, i.stack.values, bounds.name, warnings)
    return MetaboliteMap(Metabolite(i.part.metabolite or ""), i.stack.values, unit, grid, crlb)


def _warn_of_mixed_units(maps: Sequence[MetaboliteMap], warnings: list[str]) -> None:
    units = {m.unit for m in maps}
    if len(units) > 1:
        listed = ", ".join(f"{m.metabolite} in {m.unit}" for m in maps)
        warnings.append(f"maps come in different units, ratios between them mean little: {listed}")


def _anatomy(
    series: Sequence[IdentifiedSeries],
    item: Callable[[IdentifiedSeries, Part, str], _Item],
    maps_frame: str,
    warnings: list[str],
) -> dict[_Item, Contrast]:
    """T1 and FLAIR, each in the Frame of Reference it names; broken ones are left out with a warning."""
    kept: dict[_Item, Contrast] = {}
    for s in series:
        contrast = _CONTRASTS.get(s.role)
        if contrast is None or not s.parts:
            continue
        name = f"{contrast} (“{s.description}”)" if s.description else str(contrast)
        try:
            i = item(s, s.parts[0], name)
            if len(i.stack.frames_of_reference) > 1:
                raise UnsuitableGeometry(f"{name}: its slices lie in several Frames of Reference")
            _grid(i.stack, maps_frame, name)
        except UnsuitableInput as problem:
            warnings.append(f"{name} left out: {problem}")
            continue
        if i.stack.frames_of_reference == {""}:
            warnings.append(f"{name} names no Frame of Reference: treated as lying in another than the maps")
        kept[i] = contrast
    return kept


def _image(i: _Item, contrast: Contrast) -> AnatomicalImage:
    header = i.stack.headers[0]
    stated = next(iter(i.stack.frames_of_reference))
    frame = stated or result_uid("frame of reference", text_of(header, "SeriesInstanceUID"))
    values = np.nan_to_num(i.stack.values)
    return AnatomicalImage(contrast, values, Grid(i.stack.shape, i.stack.affine, frame))


def _first_of(
    kind: str, quality: Sequence[_Item], convert: Callable[[_Item], Volume | None], warnings: list[str]
) -> Volume | None:
    """The study's SNR or linewidth map: one for all metabolites before one of tNAA, NAA, then any."""
    order: Mapping[str | None, int] = {None: 0, "tNAA": 1, "NAA": 2}
    found = sorted((i for i in quality if i.part.quality == kind), key=lambda i: order.get(i.part.of, 3))
    if len(found) > 1:
        warnings.append(f"of {len(found)} {kind} maps, the {found[0].name} is used for all metabolites")
    return convert(found[0]) if found else None


def _acquired_matrix(maps: Sequence[_Item], grid: Grid, warnings: list[str]) -> Shape | None:
    """The k-space matrix that all maps were measured with; None if they do not agree."""
    stated = {acquired_matrix(i.stack, i.site, grid.shape, warnings) for i in maps}
    if len(stated) > 1:
        warnings.append("the maps' headers do not agree on the acquired matrix: none is believed")
        return None
    return stated.pop()


def _psf(maps: Sequence[_Item], warnings: list[str]) -> Literal["none", "hamming"]:
    """The filter on k-space that the sites' rules state for all maps; no header says it."""
    stated = {i.site.psf if i.site is not None else "none" for i in maps}
    if len(stated) > 1:
        warnings.append("the site rules do not agree on the maps' k-space filter: none is assumed")
        return "none"
    return stated.pop()


def _header(first: Dataset, frame_of_reference: str) -> Dataset:
    header = Dataset()
    header.update(first)
    header.FrameOfReferenceUID = frame_of_reference
    return header
