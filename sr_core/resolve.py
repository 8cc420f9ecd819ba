"""Maps in, super-resolved maps out: the steps, in order, and the one door to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import anatomy, baselines, novelty, uncertainty
from .axial import axial_factor
from .enlarge import Enlarge, Input, Network
from .findings import find_lesions, form_ratios
from .grid import Shape
from .maps import (
    Acquisition,
    AnatomicalImage,
    Mask,
    MetaboliteMap,
    Novelty,
    Provenance,
    Quality,
    SuperResolved,
    Volume,
)
from .metabolites import Contrast
from .notes import Notes
from .novelty import Reference, read_reference
from .ready import Ready, fitting, make_ready
from .settings import LEARNED, METHODS, VARIATIONAL, Method, Settings
from .uncertainty import Brain, Calibration, disagreement, half_widths, null_space_share, read_calibration

__all__ = ["METHODS", "SHIPPED", "STEPS", "Settings", "load"]

SHIPPED = Path(__file__).parent / "weights"

STEPS = (
    "brain: mask on both grids",
    "anatomy: T1 and FLAIR on the super-resolved grid",
    "prepare: spectral quality, inpainting, non-local means",
    "novelty: likeness to clean studies",
    "initial: interpolation or network",
    "method: feature non-local means, data consistency",
    "ratios: HGG and TCN",
    "uncertainty: half-widths, null-space share, disagreement with the unguided map",
    "lesion: masks and measures",
)

# Axial slices, rows, columns; the second for single slabs.
TRAINED_FACTORS = ((4, 4, 4), (1, 4, 4))


def load(
    model_dir: Path | None,
    method: str,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    *,
    calibration: Calibration | None = None,
    reference: Reference | None = None,
) -> Resolver:
    """A resolver for ``method``; its network is read from ``model_dir``, None for the shipped one.

    ``calibration`` of half-widths and ``reference`` of clean studies are those beside the network, or
    those shipped where there are none. Raises ValueError, naming the methods there are, for an unknown
    one, ``sr_core.model.BadWeights`` for weights that do not match their card, and BadCalibration or
    BadReference for what cannot be used beside them.
    """
    folder = model_dir or SHIPPED
    calibration = calibration or read_calibration(_with(folder, uncertainty.FILE))
    reference = reference or read_reference(_with(folder, novelty.FILE))
    parsed = Method.parse(method)
    networks: dict[str, Network] = {}
    if parsed.base in LEARNED:
        from .model import load_model

        # Without a T1 and a FLAIR a network of two inputs gives way to the one that needs none.
        for name in dict.fromkeys((parsed.base, parsed.base.removesuffix("2"))):
            networks[name] = load_model(folder, name)
    return Resolver(parsed, settings, networks, calibration, reference)


def _with(folder: Path, file: str) -> Path:
    """``folder`` if it has ``file``, else the shipped one."""
    return folder if (folder / file).exists() else SHIPPED


@dataclass(frozen=True)
class Resolver:
    """A ``SuperResolver``: one method under its settings."""

    method: Method
    settings: Settings
    networks: Mapping[str, Network]
    calibration: Calibration
    reference: Reference

    def __call__(self, acquisition: Acquisition, ready: Ready | None = None) -> SuperResolved:
        """``ready``: the acquisition made ready under the same settings, where several methods share it.

        Raises ValueError, in words, if no map has a usable voxel.
        """
        settings = self.settings
        ready = ready or make_ready(acquisition, settings)
        notes = Notes(list(ready.warnings), dict(ready.timings_s))
        factor, grid, prepared, placed = ready.factor, ready.grid, ready.prepared, ready.placed
        brain_lr, inside = ready.brain_lr, ready.brain
        acquired = _acquired(acquisition, self.method, notes)
        likeness = self.reference.judge(ready.signs)
        notes.warnings += _unlike(likeness)
        guides = ready.guides
        anatomical = bool(placed.images)
        used = _possible(self.method, anatomical, acquired is not None, axial_factor(factor, grid), notes)
        network = self.networks.get(used.base)
        images = _images(network, placed, inside)
        enlarge = Enlarge(used, settings, network, acquisition.grid, grid, inside, images)
        guided = bool(guides) and (used.fnlm or used.base == "dtv" or settings.tv.weights_from == "guide")
        if guided:
            with notes.timed("method"):
                weights = ready.guide_weights if used.fnlm else None
                enlarge = replace(enlarge, guides=tuple(g.values for g in guides), weights=weights)

        enlarged = enlarge.all([Input(p.values, p.sigma, p.scale, p.measured) for p in prepared], notes)
        maps = tuple(
            MetaboliteMap(p.source.metabolite, e.values, p.source.unit, grid)
            for p, e in zip(prepared, enlarged, strict=True)
        )
        with notes.timed("ratios"):
            formed = form_ratios(prepared, maps, enlarge, brain_lr, settings, notes)
        with notes.timed("uncertainty"):
            measured = fitting(acquisition.acquired_matrix, acquisition.grid.shape) or acquisition.grid.shape
            plain = [e.unguided for e in enlarged]
            network_hash = network.sha256 if network is not None else ""
            family, note = self.calibration.family(str(used), network_hash, factor)
            notes.warnings += [note] if note else []
            where = Brain.of(brain_lr, inside, factor)
            doubt = half_widths(maps, prepared, plain, family, where)
            doubt += tuple(null_space_share(m, measured, inside) for m in maps)
            doubt += tuple(disagreement(m, x) for m, x in zip(maps, plain, strict=True) if x is not None)
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
                model_hash=network_hash,
                settings_hash=settings.digest(),
                registration=placed.registration,
                steps=STEPS,
                warnings=tuple(notes.warnings),
                timings_s=notes.timings_s,
                software=f"mrsi-sr-node {version('mrsi-sr-node')}",
            ),
            novelty=likeness,
        )


def _unlike(likeness: Novelty | None) -> list[str]:
    """A warning for a study beyond what clean ones show."""
    if likeness is None or not likeness.is_unlike:
        return []
    return [
        f"this study is unlike the clean ones the method was tried on: {likeness.reason} "
        f"(score {likeness.score:.1f}, clean studies stay below {likeness.threshold:.1f})"
    ]


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
    if fitting(matrix, acquisition.grid.shape) is None:
        notes.warnings.append(
            f"data consistency is off: the acquired matrix is given as {matrix}, the maps have "
            f"{acquisition.grid.shape}"
        )
        return None
    return matrix
