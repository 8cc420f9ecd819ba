"""Segmentations, BINARY: metabolic lesions and what was not measured (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.uids import result_uid
from sr_core import Contrast, Grid, Lesion, Mask, resample

from .encoded import EncodedObject
from .multiframe import construction, finished
from .planes import ParentSeries, parent_series
from .production import SEGMENTATION_SERIES, Production, long_string, plain, short_text
from .references import all_map_sources, anatomy_sources
from .viewers import in_reading_order, omits_empty_frames

# sRGB; told apart on grey anatomy and by the colour-blind (Okabe and Ito's palette).
_COLOURS = {"HGG": (213, 94, 0), "TCN": (0, 158, 115), "2HG": (204, 121, 167)}
_OTHER_COLOUR = (86, 180, 233)
_NOT_MEASURED_COLOUR = (153, 153, 153)

NOT_MEASURED = "not measured"  # the segment of that name


@dataclass(frozen=True, eq=False)
class _Segment:
    """One segment to be: its mask and how it is described."""

    key: str
    label: str
    words: str
    mask: Mask
    category: Code
    type: Code
    rule: str
    colour: tuple[int, int, int]


def lesion_segmentation(production: Production, parent: ParentSeries) -> EncodedObject | None:
    """Lesions and the not-measured region on the super-resolved grid; None if every mask is empty."""
    segments = _segments(production)
    if not segments:
        return None
    return _encoded(production, parent, segments, "lesion", "lesion", number=SEGMENTATION_SERIES)


def segment_numbers(production: Production) -> Mapping[str, int]:
    """Segment numbers of the segmentation on the super-resolved grid, by lesion or "not measured"."""
    return {s.key: number for number, s in enumerate(_segments(production), start=1)}


def tracking(production: Production, key: str) -> tuple[str, str]:
    """Tracking UID and identifier of what ``key`` names, the same in every result of this study."""
    return (
        result_uid("tracked segment", production.study_uid, key),
        plain(f"{production.rules.model_name} {key}"),
    )


def _segments(production: Production) -> list[_Segment]:
    return in_reading_order((*_lesions(production), _not_measured(production)), lambda s: s.mask)


def lesion_segmentation_on_anatomy(production: Production) -> EncodedObject | None:
    """Lesions on the planes of the anatomical series, T1 before FLAIR (a voxel is in where half of it is).

    Anatomy that was moved onto the maps gets the lesion through that motion, in its own Frame of
    Reference, and only if the Spatial Registration is sent along. None without anatomy from DICOM, with
    anatomy that was not used, or without a lesion.
    """
    found = _anatomical_parent(production)
    if found is None:
        return None
    contrast, lies, parent = found
    there = [replace(s, mask=on_grid(s.mask, production.result.grid, lies)) for s in _lesions(production)]
    segments = in_reading_order(there, lambda s: s.mask)
    if not segments:
        return None
    return _encoded(
        production,
        parent,
        segments,
        f"lesion_on_{contrast}",
        f"lesion on {contrast}",
        number=SEGMENTATION_SERIES + 1,
    )


def on_grid(mask: Mask, source: Grid, target: Grid) -> Mask:
    """``mask`` on ``target``: a voxel is in where at least half of it is. Works only where the mask is."""
    out = np.zeros(target.shape, dtype=bool)
    where = np.argwhere(mask)
    if not len(where):
        return out
    low, high = where.min(axis=0) - 1, where.max(axis=0) + 1
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    reached = target.to_index(source.to_patient(corners))
    first = np.clip(np.floor(reached.min(axis=0)).astype(int), 0, target.shape)
    last = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 1, 0, target.shape)
    if (last <= first).any():
        return out
    affine = target.affine.copy()
    affine[:3, 3] = target.to_patient(first)
    n_slices, n_rows, n_columns = (int(n) for n in last - first)
    part = Grid((n_slices, n_rows, n_columns), affine, target.frame_of_reference)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    out[box] = resample(mask.astype(np.float32), source, part, order=1) >= 0.5
    return out


def _lesions(production: Production) -> list[_Segment]:
    return [_lesion_segment(production, lesion) for lesion in production.result.lesion]


def _lesion_segment(production: Production, lesion: Lesion) -> _Segment:
    words = f"{lesion.source} lesion by metabolic threshold {lesion.threshold:.4g}: {lesion.rule}"
    return _Segment(
        key=lesion.source,
        label=f"Metabolic lesion {lesion.source}",
        words=words,
        mask=lesion.mask,
        category=codes.ABNORMAL_STRUCTURE,
        type=codes.LESION,
        rule=f"threshold={lesion.threshold:.6g}",
        colour=_COLOURS.get(lesion.source, _OTHER_COLOUR),
    )


def _not_measured(production: Production) -> _Segment:
    return _Segment(
        key=NOT_MEASURED,
        label="Not measured or repaired",
        words="Voxels of the brain without a trusted measured value in at least one map: "
        "background here does not mean normal",
        mask=production.result.quality.not_measured,
        category=codes.SPATIAL_CONCEPT,
        type=codes.NOT_MEASURED,
        rule="spectral quality limits",
        colour=_NOT_MEASURED_COLOUR,
    )


def _encoded(
    production: Production,
    parent: ParentSeries,
    segments: Sequence[_Segment],
    name: str,
    tail: str,
    *,
    number: int,
) -> EncodedObject:
    masks = np.stack([s.mask for s in segments], axis=-1).astype(np.uint8)
    planes_hit = masks.any(axis=(1, 2))
    built = hd.seg.Segmentation(
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[_described(production, s, i) for i, s in enumerate(segments, start=1)],
        omit_empty_frames=omits_empty_frames(int(planes_hit.sum()), planes_hit.size, masks[0, ..., 0].size),
        content_label="METABOLIC_LESION",
        content_description=tail.capitalize(),
        **construction(production, parent),
    )
    _identify_segment_per_frame(built)
    d = finished(
        built,
        production,
        parent,
        role=f"SEG {name}",
        number=number,
        tail=tail,
        derivation=codes.SEGMENTATION,
        purpose=codes.SOURCE_FOR_SEGMENTATION,
        sources=all_map_sources(production.source),
    )
    return EncodedObject(d, "SEG", f"SEG_{name}")


def _described(production: Production, s: _Segment, number: int) -> hd.seg.SegmentDescription:
    tracking_uid, tracking_id = tracking(production, s.key)
    d = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=long_string(s.label),
        segmented_property_category=s.category,
        segmented_property_type=s.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=long_string(production.rules.model_name),
            family=production.algorithm_family,
            version=production.software_versions[0],
            source=long_string(production.rules.manufacturer),
            parameters={"rule": plain(s.rule)},
        ),
        tracking_uid=tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[codes.BRAIN],
        display_color=hd.color.CIELabColor.from_rgb(*s.colour),
    )
    d.SegmentDescription = short_text(s.words)
    return d


def _identify_segment_per_frame(built: Dataset) -> None:
    """Segment Identification in every frame, also of a single segment: some readers look only there."""
    shared = built.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    number = shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    del shared.SegmentIdentificationSequence
    for frame in built.PerFrameFunctionalGroupsSequence:
        item = Dataset()
        item.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [item]


def _anatomical_parent(production: Production) -> tuple[Contrast, Grid, ParentSeries] | None:
    """The best anatomical series that was used, with the grid that its voxels take in the maps' frame."""
    for contrast in (Contrast.T1, Contrast.FLAIR):
        image = production.source.acquisition.image_of(contrast)
        headers = anatomy_sources(contrast, production.source)
        motion = next((m for m in production.result.motions if m.contrast == contrast), None)
        if image is None or not headers or motion is None:
            continue
        lies = image.grid
        if motion.matrix is not None:
            if not production.rules.registration:
                continue  # its planes show other positions than the maps', and nothing would say so
            affine = np.linalg.inv(motion.matrix) @ image.grid.affine
            lies = Grid(image.grid.shape, affine, production.result.grid.frame_of_reference)
        parent = parent_series(headers, image.grid)
        if parent is not None:
            return contrast, lies, parent
    return None
