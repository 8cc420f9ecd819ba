"""Anatomy on the super-resolved grid, whichever frame it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .align import Registration, RegistrationRefused, moved, register_rigid, resample
from .brain import total_signal
from .grid import Affine, Grid
from .maps import Acquisition, AnatomicalImage, Mask, RigidMotion, Volume
from .metabolites import Contrast

# An image that covers less of the brain than this neither guides nor lies under the maps.
_COVERS = 0.5
# Motion below this is not told from error: aligned images of 22 simulated studies with lesions,
# artefacts and usual noise were found at most 0.4 mm and 0.3° away.
_MOVED_MM = 2.0
_TURNED_DEG = 2.0
_GAIN = 0.02  # and the maps must be explained better there, by this share of what varies in them

Motion = Literal["ignore", "warn", "correct"]


@dataclass(frozen=True, eq=False)
class Placed:
    """Anatomical images on the SR grid; how they got there, in words, None if by affines alone.

    ``motions`` holds one entry per image, in their order.
    """

    images: tuple[AnatomicalImage, ...]
    registration: str | None
    warnings: tuple[str, ...]
    motions: tuple[RigidMotion, ...] = ()

    def image_of(self, contrast: Contrast) -> AnatomicalImage | None:
        """The image of ``contrast``, or None."""
        return next((a for a in self.images if a.contrast == contrast), None)

    def motion_of(self, contrast: Contrast) -> Affine | None:
        """The matrix that ``contrast`` was moved by; None if by affines alone or left out."""
        return next((m.matrix for m in self.motions if m.contrast == contrast), None)

    def in_place(self, acquisition: Acquisition, contrast: Contrast) -> AnatomicalImage | None:
        """The image of ``contrast`` on its own voxels, where it was taken to lie; None if left out."""
        image = acquisition.image_of(contrast)
        if image is None or self.image_of(contrast) is None:
            return None
        matrix, frame = self.motion_of(contrast), acquisition.grid.frame_of_reference
        if matrix is None:
            return image
        return AnatomicalImage(contrast, image.values, moved(image.grid, matrix, frame))


@dataclass(frozen=True, eq=False)
class _Position:
    """Where one image lies: ``matrix`` None by affines; ``left_out`` says why it is not used."""

    matrix: Affine | None = None
    words: str | None = None
    warning: str | None = None
    left_out: str | None = None


def place(acquisition: Acquisition, grid: Grid, near: Mask, motion: Motion = "correct") -> Placed:
    """Resample T1 and FLAIR on ``grid``; ``near`` is the LR brain, for coverage.

    Of another Frame of Reference, the T1 (else the FLAIR) is registered to the maps' total signal and
    takes its companions along; if that is refused they are left out and a warning says so. Images
    whose position is known, by header or through a companion, are registered too, starting there,
    each by itself, for people move between one series and the next: motion of 2 mm or 2° and more,
    at which the maps are explained better, is suspected motion. "correct" uses the position found,
    "warn" only says so, "ignore" does not look. An image that fits only with left and right
    exchanged is left out.
    """
    words: list[str] = []
    warnings: list[str] = []
    motions: list[RigidMotion] = []
    images: list[AnatomicalImage] = []
    signal = total_signal(acquisition)
    frames: dict[str, _Position] = {grid.frame_of_reference: _Position()}
    for contrast in (Contrast.T1, Contrast.FLAIR):
        image = acquisition.image_of(contrast)
        if image is None:
            continue
        frame = image.grid.frame_of_reference
        if frame not in frames:
            position = frames[frame] = _registered(image, signal, acquisition.grid)
        else:
            position = _checked(image, frames[frame], signal, acquisition.grid, motion)
        words += [position.words] if position.words else []
        warnings += [position.warning] if position.warning else []
        if position.left_out:
            warnings.append(f"{contrast} is left out: {position.left_out}")
            continue
        source = image.grid
        if position.matrix is not None:
            source = moved(source, position.matrix, grid.frame_of_reference)
        seen = resample(np.ones(image.values.shape, dtype=np.float32), source, acquisition.grid, order=0) > 0
        share = float(seen[near].mean())
        if share < _COVERS:
            warnings.append(f"{contrast} is left out: it covers {share:.0%} of the brain")
            continue
        if share < 0.95:
            warnings.append(f"{contrast} covers {share:.0%} of the brain only")
        placed = resample(image.values, source, grid)
        if not np.ptp(placed) > 0:
            warnings.append(f"{contrast} is left out: it shows nothing where the maps are")
            continue
        images.append(AnatomicalImage(contrast, placed, grid))
        motions.append(RigidMotion(contrast, position.matrix))
    return Placed(tuple(images), "; ".join(words) or None, tuple(warnings), tuple(motions))


def _registered(image: AnatomicalImage, signal: Volume, maps_grid: Grid) -> _Position:
    """The position of an image of another Frame of Reference."""
    try:
        found = register_rigid(image, signal, maps_grid)
    except RegistrationRefused as refusal:
        return _Position(
            words=f"refused: {refusal}",
            left_out="it has another Frame of Reference than the maps, and its registration was refused",
        )
    return _Position(
        found.matrix,
        words=f"{image.contrast} has another Frame of Reference than the maps and was rigidly registered to "
        f"them: {_how(found)}",
    )


def _checked(
    image: AnatomicalImage, known: _Position, signal: Volume, maps_grid: Grid, motion: Motion
) -> _Position:
    """``known``, the position of the image's frame, unless the maps speak against it."""
    matrix = known.matrix
    if known.left_out or motion == "ignore":
        return _Position(matrix, left_out=known.left_out)
    near = image
    if matrix is not None:
        near = AnatomicalImage(
            image.contrast, image.values, moved(image.grid, matrix, maps_grid.frame_of_reference)
        )
    try:
        found = register_rigid(near, signal, maps_grid, from_header=True)
    except RegistrationRefused as refusal:
        if refusal.mirrored:
            return _Position(left_out="it fits the maps better with left and right exchanged")
        return _Position(matrix)
    far = found.moved_mm >= _MOVED_MM or found.turned_deg >= _TURNED_DEG
    if not far or found.quality < found.before + _GAIN:
        return _Position(matrix)
    away = f"{image.contrast} lies {found.moved_mm:.1f} mm, {found.turned_deg:.1f}° from the maps"
    if motion == "warn":
        return _Position(matrix, warning=f"suspected motion: {away}; it is used where its header says")
    return _Position(
        found.matrix if matrix is None else np.asarray(matrix @ found.matrix),
        words=f"suspected motion: {away} and was rigidly registered to them: {_how(found)}",
        warning=f"suspected motion: {away}; the registered position is used",
    )


def _how(found: Registration) -> str:
    return (
        f"moved by {found.moved_mm:.1f} mm at the centre, turned by {found.turned_deg:.1f}°; it explains "
        f"{found.quality:.0%} of what varies in the maps"
    )
