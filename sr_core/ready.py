"""What every method starts from: the brain, anatomy on the fine grid, maps ready to be enlarged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import anatomy, brain, fnlm, novelty
from .grid import Grid, Shape
from .maps import Acquisition, AnatomicalImage, Mask, UnusableAcquisition
from .metabolites import USUAL_MMOL_PER_L, Contrast, Unit
from .notes import Notes
from .prepare import Prepared, prepare
from .settings import Settings

_FEW_SLICES = 8
_SCARCE = 0.5  # share of the brain below which a map's coverage is worth a warning


@dataclass(frozen=True, eq=False)
class Ready:
    """One acquisition made ready under ``settings``: the same for every method.

    ``grid`` is ``factor`` times finer than the maps'; ``brain_lr`` and ``brain`` outline the brain on
    both. ``signs``: those of novelty, not yet judged. ``warnings`` and ``timings_s`` as in provenance.
    """

    settings: Settings
    factor: Shape
    grid: Grid
    brain_lr: Mask
    brain: Mask
    placed: anatomy.Placed
    prepared: list[Prepared]
    signs: Mapping[str, float]
    warnings: tuple[str, ...]
    timings_s: Mapping[str, float]

    @cached_property
    def guides(self) -> tuple[AnatomicalImage, ...]:
        """The images that guide; of "flair" and "t1" the other where the wanted one is missing."""
        wanted = self.settings.fnlm.guide
        t1, flair = self.placed.image_of(Contrast.T1), self.placed.image_of(Contrast.FLAIR)
        found = [i for i in ((t1, flair) if wanted == "t1" else (flair, t1)) if i is not None]
        return tuple(found if wanted == "both" else found[:1])

    @cached_property
    def guide_weights(self) -> fnlm.GuideWeights | None:
        """Those of ``guides``, made when the first method asks for them; None without any."""
        if not self.guides:
            return None
        return fnlm.guide_weights([g.values for g in self.guides], self.brain, self.settings.fnlm)


def make_ready(acquisition: Acquisition, settings: Settings) -> Ready:
    """Brain, anatomy, quality control, repair and denoising.

    Raises UnusableAcquisition, in words, if no map has a usable voxel.
    """
    notes = Notes()
    factor = _factor(acquisition, settings.factor, notes)
    grid = acquisition.grid.refined(factor)
    with notes.timed("brain"):
        brain_lr = brain.brain_lr(acquisition)
    with notes.timed("anatomy"):
        placed = anatomy.place(acquisition, grid, brain_lr, settings.motion)
        notes.warnings += placed.warnings
    with notes.timed("brain"):
        outline = brain.outline(brain_lr, factor, placed.in_place(acquisition, Contrast.T1), grid)
        notes.warnings += [outline.warning] if outline.warning else []
    with notes.timed("prepare"):
        matrix = fitting(acquisition.acquired_matrix, acquisition.grid.shape)
        prepared = _prepared(acquisition, brain_lr, settings, matrix, notes)
    with notes.timed("novelty"):
        signs = novelty.signs(acquisition, prepared, placed, brain_lr, grid, outline.mask)
    return Ready(
        settings,
        factor,
        grid,
        brain_lr,
        outline.mask,
        placed,
        prepared,
        signs,
        tuple(notes.warnings),
        notes.timings_s,
    )


def _factor(acquisition: Acquisition, wanted: Shape, notes: Notes) -> Shape:
    slices = acquisition.grid.shape[0]
    if slices >= _FEW_SLICES or wanted[0] == 1:
        return wanted
    notes.warnings.append(
        f"{slices} slice{'s' * (slices > 1)} only: super-resolved within slices, by factors 1, "
        f"{wanted[1]}, {wanted[2]} along slice, row, column"
    )
    return (1, wanted[1], wanted[2])


def fitting(matrix: Shape | None, shape: Shape) -> Shape | None:
    """``matrix`` if it is one that maps of ``shape`` can have been measured with."""
    if matrix is None or min(matrix) < 1 or any(a > n for a, n in zip(matrix, shape, strict=True)):
        return None
    return matrix


def _prepared(
    acquisition: Acquisition, inside: Mask, settings: Settings, acquired: Shape | None, notes: Notes
) -> list[Prepared]:
    done = []
    for m in acquisition.maps:
        p = prepare(m, acquisition, inside, settings, acquired)
        if p is None:
            notes.warnings.append(f"{m.metabolite} is left out: no voxel of the brain passed quality control")
            continue
        done.append(p)
        if p.usable < _SCARCE:
            notes.warnings.append(f"{m.metabolite}: {p.usable:.0%} of the brain passed quality control")
        usual = USUAL_MMOL_PER_L.get(m.metabolite)
        if usual is not None and m.unit in (Unit.MMOL_PER_L, Unit.MMOL_PER_KG):
            typical = float(np.median(p.filled[inside]))
            if not usual.low <= typical <= usual.high:
                notes.warnings.append(
                    f"{m.metabolite}: its median of {typical:.3g} {m.unit} is outside the usual "
                    f"{usual.low:g} to {usual.high:g}; is the unit right?"
                )
    if not done:
        raise UnusableAcquisition(
            "no map has a voxel that passes quality control: there is nothing to super-resolve"
        )
    return done
