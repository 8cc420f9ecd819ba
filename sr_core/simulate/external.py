"""Heads to test on: label maps and real images of other origin, as a pool file lists them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from sr_core.grid import Affine
from sr_core.maps import Mask, Volume

from .mixture import tissue_shares
from .tissue import (
    RealLesion,
    TissueModel,
    box_around,
    check_spacing,
    from_classes,
    from_icbm152,
    placed,
    read_labels,
    to_slice_row_column,
)

Kind = Literal["labels", "oasis", "openms", "brats", "icbm152"]
Group = Literal["internal", "external"]
# The files of a subject, by kind.
FILES: dict[Kind, tuple[str, ...]] = {
    "labels": ("labels",),
    "oasis": ("t1", "tissues"),
    "openms": ("t1", "flair", "lesion"),
    "brats": ("t1c", "flair", "tumour", "brain"),
    "icbm152": (),
}
# Classes of a BraTS 2013 tumour mask.
NECROSIS, OEDEMA, SOLID, ENHANCING = 1, 2, 3, 4


@dataclass(frozen=True)
class Entry:
    """A subject of a pool: its ``files`` by role (FILES), and whether weights know others of its kind.

    ``group``: "internal" comes from where the training subjects come from, "external" does not. Raises
    ValueError naming a kind or group that there is not, or a file that is missing from the entry.
    """

    name: str
    kind: Kind
    group: Group
    files: Mapping[str, Path]

    def __post_init__(self) -> None:
        if self.kind not in FILES:
            raise ValueError(f"{self.name}: no kind {self.kind!r}; there is {', '.join(FILES)}")
        if self.group not in get_args(Group):
            raise ValueError(f"{self.name}: a group is 'internal' or 'external', not {self.group!r}")
        if set(self.files) != set(FILES[self.kind]):
            raise ValueError(
                f"{self.name}: the files of kind {self.kind!r} are {', '.join(FILES[self.kind]) or 'none'}, "
                f"not {', '.join(self.files) or 'none'}"
            )


def read_pool(path: Path, data: Path) -> tuple[Entry, ...]:
    """The subjects of a pool file, their files being relative to ``data``.

    Raises ValueError naming the file for an entry that is not one, or a name that comes twice.
    """
    try:
        entries = tuple(
            Entry(
                s.pop("name"),
                s.pop("kind"),
                s.pop("group"),
                {role: data / file for role, file in s.items()},
            )
            for s in tomllib.loads(path.read_text())["subject"]
        )
    except KeyError as e:
        raise ValueError(f"{path}: a subject has a name, a kind and a group; {e} is missing") from e
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e
    names = [e.name for e in entries]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ValueError(f"{path}: two subjects of one name: {', '.join(doubled)}")
    return entries


def read_subject(entry: Entry) -> TissueModel:
    """The head of a pool's ``entry``, named after it.

    - "labels": a FreeSurfer label map (``read_labels``).
    - "oasis": a real T1 with tissue classes (1 CSF, 2 grey, 3 white matter).
    - "openms": a real T1 and FLAIR of a patient with multiple sclerosis; tissue by brightness, white
      matter in place of the lesions.
    - "brats": a real FLAIR and contrast-enhanced T1 of a glioma, which is the lesion; tissue by
      brightness, white matter in its place.
    - "icbm152": the template (``from_icbm152``).

    Raises ValueError if the files of one subject do not share a grid of 1 mm voxels.
    """
    if entry.kind == "labels":
        return _named(read_labels(entry.files["labels"]), entry.name)
    if entry.kind == "icbm152":
        return _named(from_icbm152(), entry.name)
    images, affine = _read(entry)
    if entry.kind == "oasis":
        class_of = np.array([0, 3, 1, 2], dtype=np.uint8)
        classes = class_of[np.clip(np.rint(images["tissues"]), 0, 3).astype(np.int64)]
        return from_classes(classes, affine, entry.name, np.maximum(images["t1"], 0))
    if entry.kind == "openms":
        brain = _filled(images["t1"] > 0)
        return _by_brightness(entry.name, affine, images["t1"], images["flair"], brain, images["lesion"] > 0)
    mask = np.rint(images["tumour"]).astype(np.int64)
    brain = (images["brain"] > 0) | (mask > 0)
    necrosis = mask == NECROSIS
    core = necrosis | (mask == SOLID) | (mask == ENHANCING)
    # Normalised to mean 0 and SD 1: what lies outside the brain was 0 before.
    t1, flair = (np.where(brain, v - v[~brain].min(), 0) for v in (images["t1c"], images["flair"]))
    lesion = RealLesion(core, necrosis, mask > 0)
    return _by_brightness(entry.name, affine, t1, flair, brain, lesion.whole, lesion)


def _named(tissue: TissueModel, name: str) -> TissueModel:
    return replace(tissue, name=name)


def _read(entry: Entry) -> tuple[dict[str, Volume], Affine]:
    """All images of a subject, turned to (slice, row, column), with the LPS affine that they share."""
    import nibabel

    images: dict[str, Volume] = {}
    affines: list[Affine] = []
    for role, path in entry.files.items():
        image = nibabel.load(path)
        images[role], affine = to_slice_row_column(
            image.get_fdata(dtype=np.float32), np.asarray(image.affine, dtype=np.float64)
        )
        affines.append(affine)
    check_spacing(affines[0], entry.name)
    shapes = {v.shape for v in images.values()}
    if len(shapes) > 1 or any(np.abs(a - affines[0]).max() > 0.01 for a in affines):
        raise ValueError(f"the images of {entry.name} do not lie on one grid")
    return images, affines[0]


def _filled(mask: Mask) -> Mask:
    """``mask`` without holes within its slices."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def _by_brightness(
    name: str,
    affine: Affine,
    t1: Volume,
    flair: Volume,
    brain: Mask,
    ill: Mask,
    lesion: RealLesion | None = None,
) -> TissueModel:
    """Tissue from the healthy part of ``brain``; white matter where it is ``ill``."""
    gm, wm, csf = tissue_shares(t1, flair, brain & ~ill)
    wm = np.where(ill & brain, np.float32(1), wm)
    corner, grid = box_around(gm > 0.5, affine)
    if lesion is not None:
        lesion = RealLesion(*(placed(m, corner) for m in (lesion.core, lesion.necrosis, lesion.whole)))
    parts = [placed(v, corner) for v in (gm, wm, csf)]
    real = [placed(np.maximum(v, 0), corner) for v in (t1, flair)]
    return TissueModel(parts[0], parts[1], parts[2], grid, name, real[0], real[1], lesion)
