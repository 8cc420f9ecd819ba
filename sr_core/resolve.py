"""Maps in, super-resolved maps out: the steps, in order, and the one door to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from . import anatomy, baselines, brain
from .axial import axial_factor
from .enlarge import Enlarge, Input, Network
from .findings import find_lesions, form_ratios
from .grid import Shape
from .maps import (
    Acquisition,
    AnatomicalImage,
    Mask,
    MetaboliteMap,
    Provenance,
    Quality,
    SuperResolved,
    SuperResolver,
    UnusableAcquisition,
    Volume,
)
from .metabolites import USUAL_MMOL_PER_L, Contrast, Unit
from .notes import Notes
from .prepare import Prepared, prepare
from .settings import LEARNED, METHODS, VARIATIONAL, Method, Settings
from .uncertainty import disagreement, null_space_share

__all__ = ["METHODS", "STEPS", "Settings", "load"]

STEPS = (
    "brain: mask on both grids",
    "anatomy: T1 and FLAIR on the super-resolved grid",
    "prepare: spectral quality, inpainting, non-local means",
    "initial: interpolation or network",
    "method: feature non-local means, data consistency",
    "ratios: HGG and TCN",
    "uncertainty: null-space share",
    "lesion: masks and measures",
)

_FEW_SLICES = 8
# Axial slices, rows, columns; the second for single slabs.
TRAINED_FACTORS = ((4, 4, 4), (1, 4, 4))
_SCARCE = 0.5  # share of the brain below which a map's coverage is worth a warning


def load(
    model_dir: Path | None,
    method: str,
    settings: Settings = Settings(),  # noqa: B008 - frozen
) -> SuperResolver:
    """A SuperResolver for ``method``; its network is read from ``model_dir``, None for the shipped one.

    Raises ValueError, naming the methods there are, for an unknown one, and
    ``sr_core.model.BadWeights`` for weights that do not match their card.
    """
    parsed = Method.parse(method)
    networks: dict[str, Network] = {}
    if parsed.base in LEARNED:
        from .model import load_model

        # Without a T1 and a FLAIR a network of two inputs gives way to the one that needs none.
        for name in dict.fromkeys((parsed.base, parsed.base.removesuffix("2"))):
            networks[name] = load_model(model_dir or Path(__file__).parent / "weights", name)
    return _Resolver(parsed, settings, networks)


@dataclass(frozen=True)
class _Resolver:
    method: Method
    settings: Settings
    networks: Mapping[str, Network]

    def __call__(self, acquisition: Acquisition) -> SuperResolved:
        """Raises ValueError, in words, if no map has a usable voxel."""
        notes = Notes()
        settings = self.settings
        factor = _factor(acquisition, settings.factor, notes)
        grid = acquisition.grid.refined(factor)
        with notes.timed("brain"):
            brain_lr = brain.brain_lr(acquisition)
        with notes.timed("anatomy"):
            placed = anatomy.place(acquisition, grid, brain_lr, settings.motion)
            notes.warnings += placed.warnings
        with notes.timed("brain"):
            outline = brain.outline(brain_lr, factor, placed.in_place(acquisition, Contrast.T1), grid)
            inside = outline.mask
            notes.warnings += [outline.warning] if outline.warning else []
        acquired = _acquired(acquisition, self.method, notes)
        with notes.timed("prepare"):
            prepared = _prepared(acquisition, brain_lr, settings, acquired, notes)
        guides = _guides(placed, settings.fnlm.guide)
        anatomical = bool(placed.images)
        used = _possible(self.method, anatomical, acquired is not None, axial_factor(factor, grid), notes)
        network = self.networks.get(used.base)
        images = _images(network, placed, inside)
        enlarge = Enlarge(used, settings, network, acquisition.grid, grid, inside, images)
        guided = bool(guides) and (used.fnlm or used.base == "dtv" or settings.tv.weights_from == "guide")
        if guided:
            with notes.timed("method"):
                enlarge = enlarge.guided_by([g.values for g in guides])

        enlarged = enlarge.all([Input(p.values, p.sigma, p.scale, p.measured) for p in prepared], notes)
        maps = tuple(
            MetaboliteMap(p.source.metabolite, e.values, p.source.unit, grid)
            for p, e in zip(prepared, enlarged, strict=True)
        )
        with notes.timed("ratios"):
            formed = form_ratios(prepared, maps, enlarge, brain_lr, settings, notes)
        with notes.timed("uncertainty"):
            measured = _fitting(acquisition.acquired_matrix, acquisition.grid.shape) or acquisition.grid.shape
            doubt = tuple(null_space_share(m, measured, inside) for m in maps) + tuple(
                disagreement(m, e.unguided)
                for m, e in zip(maps, enlarged, strict=True)
                if e.unguided is not None
            )
        measured_sr = np.asarray(baselines.nearest(brain_lr, factor) & inside)
        with notes.timed("lesion"):
            lesions = find_lesions(prepared, maps, formed, placed, measured_sr, brain_lr, settings, notes)
        repaired = np.any([p.quality.rejected for p in prepared], axis=0)
        return SuperResolved(
            grid=grid,
            brain=inside,
            maps=maps,
            ratios=formed,
            uncertainty=doubt,
            lesion=lesions,
            anatomy=placed.images,
            motions=placed.motions,
            quality=Quality(
                brain_lr,
                tuple(p.quality for p in prepared),
                np.asarray((baselines.nearest(repaired, factor) | ~measured_sr) & inside),
            ),
            provenance=Provenance(
                method_requested=str(self.method),
                method_used=str(used),
                factor=factor,
                guides=_contrasts(guides if guided else (), network, placed),
                model_hash=network.sha256 if network is not None else "",
                settings_hash=settings.digest(),
                registration=placed.registration,
                steps=STEPS,
                warnings=tuple(notes.warnings),
                timings_s=notes.timings_s,
                software=f"mrsi-sr-node {version('mrsi-sr-node')}",
            ),
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


def _guides(placed: anatomy.Placed, wanted: Literal["flair", "t1", "both"]) -> list[AnatomicalImage]:
    """The images that guide; of "flair" and "t1" the other where the wanted one is missing."""
    t1, flair = placed.image_of(Contrast.T1), placed.image_of(Contrast.FLAIR)
    found = [i for i in ((t1, flair) if wanted == "t1" else (flair, t1)) if i is not None]
    return found if wanted == "both" else found[:1]


def _images(network: Network | None, placed: anatomy.Placed, inside: Mask) -> tuple[Volume | None, ...]:
    """T1 and FLAIR as ``network`` takes them, None for one that is missing."""
    if network is None or not network.contrasts:
        return ()
    from .model import standardised

    found = [placed.image_of(c) for c in network.contrasts]
    return tuple(None if i is None else standardised(i.values, inside) for i in found)


def _contrasts(
    guides: Sequence[AnatomicalImage], network: Network | None, placed: anatomy.Placed
) -> tuple[Contrast, ...]:
    """Every contrast that had a say in the maps."""
    inputs = () if network is None else network.contrasts
    seen = [c for c in inputs if placed.image_of(c) is not None]
    return tuple(dict.fromkeys([*(g.contrast for g in guides), *seen]))


def _possible(method: Method, anatomical: bool, measured: bool, factor: Shape, notes: Notes) -> Method:
    """What of ``method`` this case allows; notes say what was dropped. ``factor`` of axial planes."""
    base, fnlm = method.base, method.fnlm
    if base in LEARNED and factor not in TRAINED_FACTORS:
        notes.warnings.append(
            f"{base} is replaced by bicubic: networks were trained to enlarge by 4, not by "
            f"{' × '.join(str(f) for f in factor)}"
        )
        base = "bicubic"
    if fnlm and not anatomical:
        notes.warnings.append("+fnlm is dropped: there is no T1 or FLAIR to guide it")
        fnlm = False
    if base in LEARNED and base.endswith("2") and not anatomical:
        notes.warnings.append(
            f"{base} is replaced by {base[:-1]}: there is no T1 or FLAIR as its second input"
        )
        base = base[:-1]
    if base == "dtv" and not anatomical:
        notes.warnings.append("dtv is replaced by tv: there is no T1 or FLAIR to give it directions")
        base = "tv"
    if base in VARIATIONAL and not measured:
        notes.warnings.append(f"{base} is replaced by bicubic: it needs data consistency")
        base = "bicubic"
    return Method(base, fnlm, method.dc and measured)


def _acquired(acquisition: Acquisition, method: Method, notes: Notes) -> Shape | None:
    """The matrix for data consistency; None where it is off."""
    if not method.needs_measurement:
        return None
    matrix = acquisition.acquired_matrix
    if matrix is None:
        notes.warnings.append(
            "data consistency is off: the acquired k-space matrix is not known, and the export may have been "
            "zero-filled; a site rule can state it"
        )
        return None
    if _fitting(matrix, acquisition.grid.shape) is None:
        notes.warnings.append(
            f"data consistency is off: the acquired matrix is given as {matrix}, the maps have "
            f"{acquisition.grid.shape}"
        )
        return None
    return matrix


def _fitting(matrix: Shape | None, shape: Shape) -> Shape | None:
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
