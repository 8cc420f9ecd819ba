"""Images of a case as PNG that hold pixels and nothing else: no name, no text, no time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import image as png
from numpy.typing import NDArray

from sr_core.grid import SAME_POSITION_MM, Affine

from .cases import Case
from .study import ReadingError

# Colours end at this percentile of the reference's plane, one range for all images of a case.
_TOP_PERCENT = 99.9
# Volumes are cut to what the reference shows in the plane, and this many voxels around.
_MARGIN = 6
# Halfway between two LR voxels is the later one, whatever rounding did to the affine.
_TIE = 1e-6

# matplotlib would name itself.
_NO_WORDS: dict[str, Any] = {"Software": None}

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """PNG bytes of one case. ``aspect``: width over height on screen. ``plane``: None for PNG sources."""

    reference: bytes
    lr: bytes | None
    methods: dict[str, bytes]
    aspect: float
    plane: int | None


@dataclass(frozen=True)
class _Volume:
    """(i to the right, j to the front, k to the head) with its RAS affine, as NIfTI has it."""

    values: NDArray[np.float32]
    affine: Affine

    def plane(self, k: int) -> NDArray[np.float32]:
        """(row, column) as radiologists look at it: rows to the back, columns to the patient's left."""
        return np.asarray(self.values[::-1, ::-1, k].T)

    def plane_on(self, other: _Volume, k: int) -> NDArray[np.float32]:
        """What lies nearest to each voxel of plane ``k`` of ``other``, as ``plane`` shows it."""
        size = (*other.values.shape[:2], 1)
        at = np.indices(size).reshape(3, -1) + np.array([[0], [0], [k]])
        to_here = np.linalg.inv(self.affine) @ other.affine
        nearest = np.floor(to_here[:3, :3] @ at + to_here[:3, 3:] + 0.5 + _TIE).astype(np.int64)
        found = self.values[tuple(np.clip(nearest, 0, np.array(self.values.shape)[:, None] - 1))]
        return _Volume(found.reshape(size), other.affine).plane(0)


def pictures(case: Case, colours: str) -> Pictures:
    """Every image of ``case``, all of one size, in one range of ``colours`` (a matplotlib colour map).

    PNG are taken as they are; their low-resolution image may be smaller. Of NIfTI, one axial plane is
    shown: ``case.plane``, else where the lesion mask is largest, else – of healthy cases – the middle one.
    It is cut to what the reference shows there, and colours go from 0 to the reference's 99.9th percentile;
    what is not finite is 0.
    Raises ReadingError for files that cannot be read, differ in size or grid, or a plane that is not there.
    """
    kinds = {p.name.lower().endswith(".png") for p in case.files().values()}
    if len(kinds) > 1:
        raise ReadingError(f"case {case.name} mixes PNG and NIfTI")
    return _of_png(case) if kinds == {True} else _of_nifti(case, colours)


def _of_png(case: Case) -> Pictures:
    if case.plane is not None or case.lesion is not None:
        raise ReadingError(f"case {case.name}: a plane or a lesion mask is of use with NIfTI only")
    reference = _read_png(case.reference)
    methods = {m: _read_png(p) for m, p in case.methods.items()}
    for name, picture in methods.items():
        if picture.shape != reference.shape:
            sizes = f"{picture.shape[:2]} pixels, the reference {reference.shape[:2]}"
            raise ReadingError(f"case {case.name}: {name} has {sizes}")
    return Pictures(
        reference=_png(reference),
        lr=_png(_read_png(case.lr)) if case.lr else None,
        methods={m: _png(v) for m, v in methods.items()},
        aspect=reference.shape[1] / reference.shape[0],
        plane=None,
    )


def _of_nifti(case: Case, colours: str) -> Pictures:
    reference = _read_nifti(case.reference)
    k = _choose_plane(case, reference)
    truth = reference.plane(k)
    top = float(np.percentile(truth, _TOP_PERCENT))
    if not top > 0:
        raise ReadingError(f"case {case.name}: the reference is empty in plane {k}")
    rows, columns = (
        slice(max(0, int(there.min()) - _MARGIN), int(there.max()) + 1 + _MARGIN)
        for there in np.nonzero(truth > 0)
    )

    def coloured(plane: NDArray[np.float32]) -> bytes:
        seen = np.clip(plane[rows, columns] / top, 0, 1)
        shown = matplotlib.colormaps[colours](seen, bytes=True)
        return _png(np.asarray(shown[..., :3], dtype=np.uint8))

    methods = {}
    for name, path in case.methods.items():
        volume = _read_nifti(path)
        if not _same_grid(volume, reference):
            raise ReadingError(f"case {case.name}: {name} is not on the reference's grid")
        methods[name] = coloured(volume.plane(k))
    mm_across, mm_up, _ = np.linalg.norm(reference.affine[:3, :3], axis=0)
    height, width = truth[rows, columns].shape
    return Pictures(
        reference=coloured(truth),
        lr=coloured(_read_nifti(case.lr).plane_on(reference, k)) if case.lr else None,
        methods=methods,
        aspect=float(width * mm_across / (height * mm_up)),
        plane=k,
    )


def _choose_plane(case: Case, reference: _Volume) -> int:
    planes = reference.values.shape[2]
    if case.plane is not None:
        if not 0 <= case.plane < planes:
            raise ReadingError(f"case {case.name}: no plane {case.plane}; the reference has {planes}, from 0")
        return case.plane
    if case.lesion is not None:
        lesion = _read_nifti(case.lesion)
        if not _same_grid(lesion, reference) or not lesion.values.any():
            raise ReadingError(f"case {case.name}: the lesion mask is empty or not on the reference's grid")
        return int(np.argmax((lesion.values > 0).sum(axis=(0, 1))))
    if not case.healthy and planes > 1:
        raise ReadingError(
            f"case {case.name}: which plane shows the tumor? Add lesion.nii.gz, or plane = … in a list, or "
            "call the case healthy"
        )
    shown = np.flatnonzero((reference.values > 0).any(axis=(0, 1)))
    return int(shown[len(shown) // 2]) if shown.size else planes // 2


def _same_grid(one: _Volume, other: _Volume) -> bool:
    if one.values.shape != other.values.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.values.shape])).reshape(3, -1)
    apart = (one.affine - other.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    return bool(np.linalg.norm(apart, axis=0).max() <= SAME_POSITION_MM)


def _read_nifti(path: Path) -> _Volume:
    import nibabel

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as e:
        raise ReadingError(f"{path} is not NIfTI: {e}") from e
    if values.ndim != 3:
        raise ReadingError(f"{path} is not one volume but of shape {values.shape}")
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return _Volume(values, np.asarray(image.affine, dtype=np.float64))


def _read_png(path: Path) -> RGB:
    """(row, column, 3); grey becomes equal colours, transparent pixels lie on black."""
    try:
        values = png.imread(path, format="png")
    except (OSError, ValueError, SyntaxError) as e:
        raise ReadingError(f"{path} is not PNG: {e}") from e
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 4:
        values = values[..., :3] * values[..., 3:]
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def _png(pixels: RGB) -> bytes:
    written = io.BytesIO()
    png.imsave(written, np.ascontiguousarray(pixels), format="png", metadata=_NO_WORDS)
    return written.getvalue()
