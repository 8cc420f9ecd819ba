"""Is a series a T1 or a FLAIR we can use, and why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import ParametricMapStorage

from dicom_node.config import IdentifyRules
from dicom_node.series import Role, numbers_of, text_of, value_of

from .refuse import decoy, image_type, ours

_T1_VOXEL_MM = 1.6  # 1.5 and what headers round it to
_FLAIR_VOXEL_MM = 6.6  # 2D FLAIR: 5–6 mm slices with a gap
_FEWEST_SLICES = 8


@dataclass(frozen=True)
class Anatomy:
    """A T1 or FLAIR candidate; ``refused`` says in words why it will not do, None if it does."""

    role: Role
    words: str
    refused: str | None
    enhanced: bool
    secondary: bool


def anatomy(headers: Sequence[Dataset], rules: IdentifyRules) -> Anatomy | None:
    """Judge one series by name, else by timing; then by dimension and voxel size. None: no anatomy."""
    first = headers[0]
    if text_of(first, "Modality") not in ("MR", "") or text_of(first, "SOPClassUID") == ParametricMapStorage:
        return None
    text = _names(first)
    role, words = _contrast(first, text, rules)
    if role is None:
        return None
    enhanced = _found(rules.not_anatomy, text) or bool(text_of(first, "ContrastBolusAgent"))
    return Anatomy(
        role=role,
        words=words,
        refused=_too_coarse(headers, role),
        enhanced=enhanced,
        secondary=image_type(first)[:2] == ("DERIVED", "SECONDARY"),
    )


def _contrast(header: Dataset, text: str, rules: IdentifyRules) -> tuple[Role | None, str]:
    t1 = any(_found(p, text) for p in rules.t1)
    flair = any(_found(p, text) for p in rules.flair)
    te, ti = _milliseconds(header, "EchoTime"), _milliseconds(header, "InversionTime")
    if t1 and flair:  # a T1-weighted FLAIR has a short echo time
        return (Role.T1 if te is not None and te < 40 else Role.FLAIR), "by its name and echo time"
    if flair:
        return Role.FLAIR, "by its name"
    if t1:
        return Role.T1, "by its name"
    if te is None or ti is None:
        return None, ""
    if te > 80 and 1500 <= ti <= 2900:
        return Role.FLAIR, f"by its timing (TE {te:g} ms, TI {ti:g} ms)"
    if te < 10 and 400 <= ti <= 1400 and text_of(header, "MRAcquisitionType") == "3D":
        return Role.T1, f"by its timing (3D, TE {te:g} ms, TI {ti:g} ms)"
    return None, ""


def _found(pattern: str, text: str) -> bool:
    return bool(re.search(pattern, text) or re.search(pattern, text.replace("_", " ")))


def _too_coarse(headers: Sequence[Dataset], role: Role) -> str | None:
    first = headers[0]
    if role is Role.T1 and text_of(first, "MRAcquisitionType") == "2D":
        return "a 2D acquisition: a 3D one is needed"
    count = len(headers)
    if "NumberOfFrames" in first:
        count = sum(int(value_of(h, "NumberOfFrames") or 1) for h in headers)
    if count < _FEWEST_SLICES:
        return f"only {count} slice{'s' if count > 1 else ''}"
    size, limit = voxel_mm(first), _T1_VOXEL_MM if role is Role.T1 else _FLAIR_VOXEL_MM
    if size and max(size) > limit:
        return f"voxels of {max(size):.1f} mm: {limit:.1f} mm or finer is needed"
    return None


def voxel_mm(header: Dataset) -> tuple[float, ...]:
    """Pixel spacing and distance of slices, in mm, as far as the header states them."""
    source = header
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(keyword) or ())[:1]:
            source = next(iter(group.get("PixelMeasuresSequence") or ()), source)
    sizes = numbers_of(source, "PixelSpacing")
    apart = numbers_of(source, "SpacingBetweenSlices") or numbers_of(source, "SliceThickness")
    return (*sizes, *(abs(v) for v in apart[:1]))


def _milliseconds(header: Dataset, keyword: str) -> float | None:
    """Echo or inversion time in ms, of a classic header or of the first frame's functional groups."""
    values = numbers_of(header, keyword)
    enhanced = {
        "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
        "InversionTime": ("MRModifierSequence", "InversionTimes"),
    }[keyword]
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(groups) or ())[:1]:
            for item in group.get(enhanced[0]) or ():
                values = numbers_of(item, enhanced[1]) or values
    return values[0] if values else None


def contrast_by_name(header: Dataset, rules: IdentifyRules) -> tuple[Role, bool] | None:
    """T1 or FLAIR by what an archive tells of a series, and whether with contrast agent; None: neither.

    Dimension and voxel size are judged when its instances are here.
    """
    if text_of(header, "Modality") not in ("MR", "") or ours(header, rules) or decoy(header):
        return None
    role, _ = _contrast(header, text := _names(header), rules)
    return None if role is None else (role, _found(rules.not_anatomy, text))


def _names(header: Dataset) -> str:
    return " ".join(text_of(header, k) for k in ("SeriesDescription", "ProtocolName"))
