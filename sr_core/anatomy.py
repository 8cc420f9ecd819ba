"""Anatomy on the super-resolved grid, whichever frame it came in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .align import RegistrationRefused, moved, register_rigid, resample
from .brain import total_signal
from .grid import Grid
from .maps import Acquisition, AnatomicalImage, Mask
from .metabolites import Contrast

# An image that covers less of the brain than this neither guides nor lies under the maps.
_COVERS = 0.5


@dataclass(frozen=True, eq=False)
class Placed:
    """Anatomical images on the SR grid; how they got there, in words, None if by affines alone."""

    images: tuple[AnatomicalImage, ...]
    registration: str | None
    warnings: tuple[str, ...]

    def image_of(self, contrast: Contrast) -> AnatomicalImage | None:
        """The image of ``contrast``, or None."""
        return next((a for a in self.images if a.contrast == contrast), None)


def place(acquisition: Acquisition, grid: Grid, near: Mask) -> Placed:
    """Resample T1 and FLAIR on ``grid``; ``near`` is the LR brain, for coverage.

    Images of the maps' Frame of Reference go by affines. Of another one, the T1 (else the FLAIR) is
    registered to the maps' total signal and takes its companions along; if that is refused they are
    left out and a warning says so.
    """
    words: list[str] = []
    warnings: list[str] = []
    frames: dict[str, np.ndarray | None] = {}
    images: list[AnatomicalImage] = []
    for contrast in (Contrast.T1, Contrast.FLAIR):
        image = acquisition.image_of(contrast)
        if image is None:
            continue
        source = image.grid
        frame = source.frame_of_reference
        if frame != grid.frame_of_reference:
            if frame not in frames:
                try:
                    found = register_rigid(image, total_signal(acquisition), acquisition.grid)
                    frames[frame] = found.matrix
                    words.append(found.words)
                except RegistrationRefused as refusal:
                    frames[frame] = None
                    words.append(f"refused: {refusal}")
            matrix = frames[frame]
            if matrix is None:
                warnings.append(
                    f"{contrast} is left out: it has another Frame of Reference than the maps, and its "
                    f"registration was refused"
                )
                continue
            source = moved(source, matrix, grid.frame_of_reference)
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
    return Placed(tuple(images), "; ".join(words) or None, tuple(warnings))
