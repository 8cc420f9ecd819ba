"""Maps in, super-resolved maps out: the steps, in order, and the one door to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from . import anatomy, baselines, brain, consistency, fnlm, lesion, ratios
from .axial import through_axial
from .consistency import Measurement
from .grid import Grid, Shape
from .maps import (
    Acquisition,
    Lesion,
    Mask,
    MetaboliteMap,
    Provenance,
    Quality,
    RatioMap,
    SuperResolved,
    SuperResolver,
    Volume,
)
from .metabolites import USUAL_MMOL_PER_L, Contrast, Metabolite, Ratio, Unit
from .prepare import Prepared, prepare, scale_of
from .settings import METHODS, Method, Settings
from .uncertainty import null_space_share

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
_SCARCE = 0.5  # share of the brain below which a map's coverage is worth a warning


class Network(Protocol):
    """What resolving asks of a trained network (``sr_core.model.LoadedModel``)."""

    @property
    def sha256(self) -> str: ...

    def predict(self, volume: Volume, noise_sigma: float) -> Volume: ...


@dataclass
class _Notes:
    """What is told of one run."""

    warnings: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.timings_s[step] = self.timings_s.get(step, 0.0) + perf_counter() - start


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
    network: Network | None = None
    if parsed.base == "unet":
        from .model import load_model

        network = load_model(model_dir or Path(__file__).parent / "weights", parsed.base)
    return _Resolver(parsed, settings, network)


@dataclass(frozen=True)
class _Resolver:
    method: Method
    settings: Settings
    network: Network | None

    def __call__(self, acquisition: Acquisition) -> SuperResolved:
        """Raises ValueError, in words, if no map has a usable voxel."""
        notes = _Notes()
        settings = self.settings
        factor = _factor(acquisition, settings.factor, notes)
        grid = acquisition.grid.refined(factor)
        with notes.timed("brain"):
            brain_lr = brain.brain_lr(acquisition)
        with notes.timed("anatomy"):
            placed = anatomy.place(acquisition, grid, brain_lr)
            notes.warnings += placed.warnings
        with notes.timed("brain"):
            inside = brain.brain_sr(brain_lr, factor, placed.image_of(Contrast.T1), grid)
        acquired = _acquired(acquisition, self.method, notes)
        with notes.timed("prepare"):
            prepared = _prepared(acquisition, brain_lr, settings, acquired, notes)
        guide = placed.image_of(Contrast.FLAIR) or placed.image_of(Contrast.T1)
        if self.method.fnlm and guide is None:
            notes.warnings.append("+fnlm is dropped: there is no T1 or FLAIR to guide it")
        used = Method(self.method.base, self.method.fnlm and guide is not None, acquired is not None)
        enlarge = _Enlarge(used, self.network, acquisition.grid, grid, inside)
        if used.fnlm and guide is not None:
            with notes.timed("method"):
                enlarge = enlarge.guided_by(guide.values)

        values = enlarge.all([(p.values, p.sigma, p.scale, p.measured) for p in prepared], notes)
        maps = tuple(
            MetaboliteMap(p.source.metabolite, v, p.source.unit, grid)
            for p, v in zip(prepared, values, strict=True)
        )
        with notes.timed("ratios"):
            formed = _ratios(prepared, maps, enlarge, brain_lr, settings, notes)
        with notes.timed("uncertainty"):
            measured = acquired or acquisition.grid.shape
            doubt = tuple(null_space_share(m, measured, inside) for m in maps)
        with notes.timed("lesion"):
            lesions = _lesions(prepared, maps, formed, placed, inside, brain_lr, settings, notes)
        repaired = np.any([p.quality.rejected for p in prepared], axis=0)
        return SuperResolved(
            grid=grid,
            brain=inside,
            maps=maps,
            ratios=formed,
            uncertainty=doubt,
            lesion=lesions,
            anatomy=placed.images,
            quality=Quality(
                brain_lr,
                tuple(p.quality for p in prepared),
                np.asarray(baselines.nearest(repaired, factor) & inside),
            ),
            provenance=Provenance(
                method_requested=str(self.method),
                method_used=str(used),
                factor=factor,
                guide=str(guide.contrast) if used.fnlm and guide is not None else None,
                model_hash=self.network.sha256 if self.network is not None else "",
                settings_hash=settings.digest(),
                registration=placed.registration,
                steps=STEPS,
                warnings=tuple(notes.warnings),
                timings_s=notes.timings_s,
                software=f"mrsi-sr-node {version('mrsi-sr-node')}",
            ),
        )


def _factor(acquisition: Acquisition, wanted: Shape, notes: _Notes) -> Shape:
    slices = acquisition.grid.shape[0]
    if slices >= _FEW_SLICES or wanted[0] == 1:
        return wanted
    notes.warnings.append(
        f"{slices} slice{'s' * (slices > 1)} only: super-resolved within slices, by factors 1, "
        f"{wanted[1]}, {wanted[2]} along slice, row, column"
    )
    return (1, wanted[1], wanted[2])


def _acquired(acquisition: Acquisition, method: Method, notes: _Notes) -> Shape | None:
    """The matrix for data consistency; None where it is off."""
    if not method.dc:
        return None
    matrix = acquisition.acquired_matrix
    if matrix is None:
        notes.warnings.append(
            "+dc is off: the acquired k-space matrix is not known, and the export may have been "
            "zero-filled; a site rule can state it"
        )
        return None
    if any(a > n for a, n in zip(matrix, acquisition.grid.shape, strict=True)) or min(matrix) < 1:
        notes.warnings.append(
            f"+dc is off: the acquired matrix is given as {matrix}, the maps have {acquisition.grid.shape}"
        )
        return None
    return matrix


def _prepared(
    acquisition: Acquisition, inside: Mask, settings: Settings, acquired: Shape | None, notes: _Notes
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
        raise ValueError("no map has a voxel that passes quality control: there is nothing to super-resolve")
    return done


@dataclass(frozen=True, eq=False)
class _Enlarge:
    """From LR values to the SR grid, by one method."""

    method: Method
    network: Network | None
    lr: Grid
    grid: Grid
    brain: Mask
    weights: fnlm.GuideWeights | None = None

    def guided_by(self, guide: Volume) -> _Enlarge:
        weights = fnlm.guide_weights(guide, self.brain)
        return _Enlarge(self.method, self.network, self.lr, self.grid, self.brain, weights)

    def all(
        self, inputs: Sequence[tuple[Volume, Volume, float, Measurement | None]], notes: _Notes
    ) -> list[Volume]:
        """(values, σ, scale, measurement) of each map to its SR values: non-negative, 0 outside the brain."""
        with notes.timed("initial"):
            starts = [self.initial(values, sigma, scale) for values, sigma, scale, _ in inputs]
        with notes.timed("method"), ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            return list(pool.map(self.finish, starts, [measured for *_, measured in inputs]))

    def initial(self, values: Volume, sigma: Volume, scale: float) -> Volume:
        n, m = self.lr.shape, self.grid.shape
        factor = (m[0] // n[0], m[1] // n[1], m[2] // n[2])
        if self.method.base == "zerofill":
            return np.asarray(baselines.zerofill(values, factor), dtype=np.float32)
        start = np.asarray(baselines.bicubic(values, factor), dtype=np.float32)
        if self.network is None or scale <= 0:
            return start
        network, noise = self.network, float(np.median(sigma[values > 0])) / scale
        start = consistency.feasible(start, self.brain) / np.float32(scale)
        predicted = through_axial(start, self.grid, lambda v: network.predict(v, noise))
        return np.asarray(predicted * np.float32(scale), dtype=np.float32)

    def finish(self, start: Volume, measured: Measurement | None) -> Volume:
        if self.weights is not None:
            return fnlm.restore(start, self.weights, measured)
        if measured is not None:
            return consistency.alternate(start, measured, self.brain)
        return consistency.feasible(start, self.brain)


def _sr(lr: Volume, grid: Grid) -> Volume:
    n, m = lr.shape, grid.shape
    return np.asarray(baselines.trilinear(lr, (m[0] // n[0], m[1] // n[1], m[2] // n[2])), dtype=np.float32)


def _lr_ratio(recipe: ratios.Recipe, by: dict[Metabolite, Prepared], k: float, inside: Mask) -> Volume:
    """The ratio of repaired, not denoised, LR maps."""
    below = by[recipe.below]
    above = np.sum([by[m].filled for m in recipe.above], axis=0)
    return ratios.divide(above, below.filled, ratios.floor_of(below.filled, below.sigma, k, inside), inside)


def _ratios(
    prepared: Sequence[Prepared],
    maps: Sequence[MetaboliteMap],
    enlarge: _Enlarge,
    brain_lr: Mask,
    settings: Settings,
    notes: _Notes,
) -> tuple[RatioMap, ...]:
    by = {p.source.metabolite: p for p in prepared}
    sr = {m.metabolite: m.values for m in maps}
    possible, words = ratios.recipes(list(by), settings.naa_as_tnaa)
    notes.warnings += words
    k, inside = settings.ratio_floor_k, enlarge.brain
    if settings.ratios == "before":
        notes.warnings.append(
            "ratios are super-resolved as they are (ratios = before); data consistency does not apply to them"
        )
        low = []
        for recipe in possible:
            below = by[recipe.below]
            floor = ratios.floor_of(below.values, below.sigma, k, brain_lr)
            value = ratios.divide(
                np.sum([by[m].values for m in recipe.above], axis=0), below.values, floor, brain_lr
            )
            above = np.sqrt(np.sum([by[m].sigma ** 2 for m in recipe.above], axis=0))
            sigma = np.hypot(above, value * below.sigma) / np.maximum(below.values, floor)
            low.append((value, sigma.astype(np.float32), scale_of(value, brain_lr), None))
        volumes = enlarge.all(low, notes)
    else:
        volumes = []
        for recipe in possible:
            floor = ratios.floor_of(sr[recipe.below], _sr(by[recipe.below].sigma, enlarge.grid), k, inside)
            above = np.sum([sr[m] for m in recipe.above], axis=0)
            volumes.append(ratios.divide(above, sr[recipe.below], floor, inside))
    return tuple(RatioMap(r.ratio, v, enlarge.grid) for r, v in zip(possible, volumes, strict=True))


def _lesions(
    prepared: Sequence[Prepared],
    maps: Sequence[MetaboliteMap],
    formed: Sequence[RatioMap],
    placed: anatomy.Placed,
    inside: Mask,
    brain_lr: Mask,
    settings: Settings,
    notes: _Notes,
) -> tuple[Lesion, ...]:
    by = {p.source.metabolite: p for p in prepared}
    recipe_of = {r.ratio: r for r in ratios.recipes(list(by), settings.naa_as_tnaa)[0]}
    reference = lesion.tissue(placed.image_of(Contrast.T1), inside)
    found = []
    for ratio in formed:
        median = lesion.normal_median(ratio.values, reference, settings.tcn_times)
        if ratio.ratio is Ratio.TCN:
            limit = settings.tcn_times * median
            rule = f"TCN ≥ {settings.tcn_times:g} × {median:.3g}, the median of {reference.words}"
        else:
            low = _lr_ratio(recipe_of[ratio.ratio], by, settings.ratio_floor_k, brain_lr)
            _, sd = lesion.clipped_sd(low, brain_lr)
            limit = median + settings.hgg_k_sd * sd
            rule = (
                f"HGG ≥ {median:.3g} + {settings.hgg_k_sd:g} × {sd:.3g}, the median of {reference.words} "
                f"and the SD of the low-resolution map"
            )
        found.append(
            lesion.find(ratio.ratio, ratio.values, ratio.grid, inside, limit, rule, settings.min_volume_ml)
        )
    for m in maps:
        if m.metabolite is not Metabolite.HG2:
            continue
        if m.unit is Unit.ARBITRARY:
            notes.warnings.append(
                f"2HG is in arbitrary units: its lesion limit, {settings.hg2_min:g}, holds only if it was "
                f"chosen for this site's unit"
            )
        rule = f"2HG ≥ {settings.hg2_min:g} {m.unit}"
        found.append(
            lesion.find("2HG", m.values, m.grid, inside, settings.hg2_min, rule, settings.min_volume_ml)
        )
    return tuple(found)
