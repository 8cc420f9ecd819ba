"""How unlike the studies this was made for a study is: one number, a threshold, and why in words.

A map is taken to be what the anatomy would make of it if every tissue had its own signal (as in
``sr_core.rigid``). Clean studies are explained so, up to noise, lesions and a smooth field; a head
that moved while k-space was filled, maps the wrong way round, or lipid over the brain are not. What
is usual was measured on clean simulated studies (``python -m sr_core.evaluate.calibrate``) and lies
beside the weights; nothing broken was used to set it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import kspace
from .align import resample
from .anatomy import Placed
from .grid import Grid
from .kspace import Part
from .maps import Acquisition, Mask, Novelty, Volume
from .metabolites import BY_ABSOLUTE_CRLB, NEAR_LIPID
from .prepare import Prepared

FILE = "novelty.toml"

# What a high sign says, for people.
WORDS: Mapping[str, str] = {
    "unexplained": "the anatomy explains too little of the maps (motion during the measurement, another "
    "orientation, or lipid contamination)",
    "left_right": "the maps fit the anatomy better with left and right exchanged",
    "head_foot": "the maps fit the anatomy better with head and foot exchanged",
    "front_back": "the maps fit the anatomy better with front and back exchanged",
    "turned": "the maps fit the anatomy better turned by 180° about the body's axis",
    "transposed": "the maps fit the anatomy better with rows and columns exchanged",
    "shared": "the maps share structure that the anatomy does not show (ghosts, as of motion)",
    "noisier": "the maps are noisier than their CRLB says",
    "quieter": "the maps are less noisy than their CRLB says",
    "rim": "metabolites fitted next to lipid are too high towards the skull (lipid contamination)",
    "rejected": "too many voxels failed quality control",
}

# Turned maps must fit better, and clearly: that they fit worse is not asked, for a head may be symmetric.
TURNS = ("left_right", "head_foot", "front_back", "turned", "transposed")
BETTER = 0.1  # of what varies

_LEVELS = 256  # of anatomy's intensities
_KNOTS = (0.01, 0.1, 0.3, 0.5, 0.75, 0.97)  # quantiles at the tips of soft classes, as in registration
_FEW = 200  # voxels, or a study is too small to be judged
_TUKEY = 4.685
_SD_PER_MAD = 1.4826
_ROUNDS = 4
_MOSTLY = 0.5
_SEEN = 0.5  # an image that covers less of the brain says nothing
_RIM, _CORE = 2.0, 4.0  # voxels from the brain's surface: up to, and from
_MODEL = 0.03  # of the signal: what soft classes cannot explain even of a perfect map
_LEAST, _MOST = 0.005, 0.995  # shares closer to 0 or 1 are not told apart

Vector = NDArray[np.float64]


class BadReference(ValueError):
    """A reference that is incomplete, or says what cannot be used."""


@dataclass(frozen=True)
class Usual:
    """One sign in clean studies: its median, and how far above it a 95th percentile lies."""

    median: float
    spread: float


@dataclass(frozen=True, eq=False)
class Reference:
    """What is usual, by sign, and the score that clean studies stay below."""

    usual: Mapping[str, Usual]
    threshold: float
    provenance: Mapping[str, Any]

    def judge(self, signs: Mapping[str, float]) -> Novelty | None:
        """The strongest sign decides: the score is how many spreads it lies above its median.

        None if no sign is known.
        """
        scores = {
            name: (value - self.usual[name].median) / self.usual[name].spread
            for name, value in signs.items()
            if name in self.usual
        }
        if not scores:
            return None
        strongest = max(scores, key=lambda name: scores[name])
        return Novelty(max(scores[strongest], 0.0), self.threshold, WORDS[strongest], dict(signs))


def read_reference(folder: Path) -> Reference:
    """The reference beside the weights in ``folder``. Raises BadReference, saying what is wrong."""
    path = folder / FILE
    try:
        table = tomllib.loads(path.read_text())
        usual = {name: Usual(float(u["median"]), float(u["spread"])) for name, u in table.pop("sign").items()}
        unknown = sorted(set(usual) - set(WORDS))
        if unknown:
            raise BadReference(f"no sign {', '.join(unknown)}; there is {', '.join(WORDS)}")
        if not all(u.spread > 0 and np.isfinite([u.median, u.spread]).all() for u in usual.values()):
            raise BadReference("a sign's median is finite and its spread positive")
        threshold = float(table.pop("threshold"))
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise BadReference(f"{path}: {e!r}" if isinstance(e, KeyError) else f"{path}: {e}") from e
    return Reference(usual, threshold, table)


def signs(
    acquisition: Acquisition,
    prepared: Sequence[Prepared],
    placed: Placed,
    brain_lr: Mask,
    grid: Grid,
    inside: Mask,
) -> dict[str, float]:
    """The signs that can be had of one study, each higher the worse; none of one too small.

    ``prepared``: its maps after quality control; ``placed``: anatomy on the SR ``grid``, where
    ``inside`` is the brain. An image of the maps' frame that was left out counts where its header says.
    """
    judged = [p for p in prepared if p.source.metabolite not in BY_ABSOLUTE_CRLB] or list(prepared)
    judged = [p for p in judged if float(np.median(p.filled[brain_lr])) > 0]
    rejected = np.mean([p.quality.rejected for p in judged], axis=0) if judged else np.ones(brain_lr.shape)
    points = np.asarray(brain_lr & (rejected < _MOSTLY))
    if points.sum() < _FEW:
        return {}
    maps = np.stack([p.filled / np.median(p.filled[brain_lr]) for p in judged])
    found = {"rejected": _logit(float(np.mean([p.quality.rejected[brain_lr].mean() for p in judged])))}
    found |= _rim(judged, brain_lr)
    images = _images(acquisition, placed, grid, inside)
    if not images:
        return found
    noise = np.stack([p.sigma / np.median(p.filled[brain_lr]) for p in judged])
    classes, field = _explanation(images, inside, acquisition)
    total, variance = maps.mean(axis=0), np.mean(noise**2, axis=0) / len(judged)
    as_is = _unexplained(total, variance, classes, field, points)
    found["unexplained"] = _logit(as_is)
    for name, turn in _turns(brain_lr).items():
        found[name] = as_is - _unexplained(total, variance, turn(classes), field, points)
    return found | _shared(maps, noise, classes, field, points)


def _logit(share: float) -> float:
    share = min(max(share, _LEAST), _MOST)
    return float(np.log(share / (1 - share)))


def _rim(judged: Sequence[Prepared], brain: Mask) -> dict[str, float]:
    """How much higher metabolites fitted next to lipid are near the skull than the others are.

    The log of what the surface shows over what the depth of the brain does, as measured (before
    repair), the highest of one kind over the median of the other.
    """
    depth = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1, 1:-1]
    rim, core = brain & (depth <= _RIM), brain & (depth >= _CORE)

    def over(p: Prepared) -> float:
        v = p.source.values
        seen = np.isfinite(v) & (v > 0)
        if min((rim & seen).sum(), (core & seen).sum()) < _FEW:
            return float("nan")
        return float(np.log(np.median(v[rim & seen]) / np.median(v[core & seen])))

    near = [over(p) for p in judged if p.source.metabolite in NEAR_LIPID]
    others = [over(p) for p in judged if p.source.metabolite not in NEAR_LIPID]
    if not np.isfinite(near).any() or not np.isfinite(others).any():
        return {}
    return {"rim": float(np.nanmax(near) - np.nanmedian(others))}


def _images(acquisition: Acquisition, placed: Placed, grid: Grid, inside: Mask) -> list[Volume]:
    """Anatomy on the SR grid, with what was left out although its frame is the maps'."""
    found = [i.values for i in placed.images]
    for image in acquisition.anatomy:
        left_out = placed.image_of(image.contrast) is None
        if left_out and image.grid.frame_of_reference == grid.frame_of_reference:
            values = resample(image.values, image.grid, grid)
            if (values[inside] > 0).mean() > _SEEN:
                found.append(values)
    return found


def _explanation(images: Sequence[Volume], inside: Mask, acquisition: Acquisition) -> tuple[Volume, Volume]:
    """On the maps' grid, as they were measured: soft classes of tissue, (…, classes), and (…, 9) the
    brain's share of each voxel times a quadratic in space."""
    lr, part = acquisition.grid.shape, Part.around(inside)
    brain = inside[part.box]
    psf = kspace.hamming_psf(lr) if acquisition.psf == "hamming" else None

    def measured(v: Volume) -> Volume:
        return kspace.forward(v, lr, psf, part)

    classes = []
    for image in images:
        values = image[part.box]
        low, high = np.quantile(values[brain], (_KNOTS[0] / 2, (1 + _KNOTS[-1]) / 2))
        level = np.clip((values - low) * ((_LEVELS - 1) / max(high - low, 1e-30)), 0, _LEVELS - 1)
        level = level.astype(np.uint8)
        knots = np.unique(np.quantile(level[brain], _KNOTS).round())
        for tip in np.eye(len(knots)):
            table = np.interp(np.arange(_LEVELS), knots, tip).astype(np.float32)
            classes.append(measured(table[level] * brain))
    share = measured(brain.astype(np.float32))
    x, y, z = (
        2 * np.arange(n, dtype=np.float32).reshape(np.roll((n, 1, 1), axis)) / max(n - 1, 1) - 1
        for axis, n in enumerate(lr)
    )
    smooth = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
    return np.stack(classes, axis=-1), np.stack([share * s for s in smooth], axis=-1)


def _turns(brain: Mask) -> dict[str, Callable[[Volume], Volume]]:
    """By name, the ways in which maps may lie wrongly, about the middle of the brain's box."""
    part = Part.around(brain)
    middle = [(a + b - 1) / 2 for a, b in zip(part.start, part.stop, strict=True)]

    def flipped(v: Volume, *axes: int) -> Volume:
        for axis in axes:
            v = np.roll(np.flip(v, axis), round(2 * middle[axis]) + 1 - v.shape[axis], axis)
        return v

    turns: dict[str, Callable[[Volume], Volume]] = {
        "left_right": lambda v: flipped(v, 2),
        "head_foot": lambda v: flipped(v, 0),
        "front_back": lambda v: flipped(v, 1),
        "turned": lambda v: flipped(v, 1, 2),
    }
    if brain.shape[1] == brain.shape[2]:
        off = round(middle[1] - middle[2])
        turns["transposed"] = lambda v: np.roll(np.swapaxes(v, 1, 2), (off, -off), (1, 2))
    return turns


def _robust(design: Vector, y: Vector) -> tuple[Vector, Vector]:
    """What remains of ``y`` after least squares with Tukey's biweight, and the weights."""
    weight = np.ones(len(y))
    for _ in range(_ROUNDS):
        weighted = design * weight[:, None]
        normal = weighted.T @ design
        normal[np.diag_indices_from(normal)] += 1e-6 * np.trace(normal) / len(normal)
        rest = y - design @ np.linalg.solve(normal, weighted.T @ y)
        sd = _SD_PER_MAD * float(np.median(np.abs(rest))) or 1e-12
        weight = np.clip(1 - (rest / (_TUKEY * sd)) ** 2, 0, None) ** 2
    return rest, weight


def _high_pass(rest: Vector, points: Mask) -> Vector:
    """``rest`` at ``points`` less its mean over 3 × 3 × 3 of them."""
    size = [3 if n >= 3 else 1 for n in points.shape]
    volume = np.zeros(points.shape)
    volume[points] = rest
    share = ndimage.uniform_filter(points.astype(np.float64), size, mode="constant")
    mean = ndimage.uniform_filter(volume, size, mode="constant")
    return np.asarray(rest - mean[points] / share[points])


def _unexplained(total: Volume, variance: Volume, classes: Volume, field: Volume, points: Mask) -> float:
    """Share of what varies in ``total`` beyond a smooth field and noise that ``classes`` leave, 0 to 1.

    Noise is what CRLB says, or what high frequencies show if that is less.
    """
    y = total[points].astype(np.float64)
    smooth = field[points].astype(np.float64)
    rest, weight = _robust(np.concatenate([classes[points], smooth], axis=1), y)
    flat = np.concatenate([classes[points].sum(axis=1, keepdims=True), smooth], axis=1)
    without, _ = _robust(flat, y)
    shown = (_SD_PER_MAD * float(np.median(np.abs(_high_pass(rest, points))))) ** 2
    noise = min(float(np.median(variance[points])), shown)
    left, there = float(np.average(rest**2, weights=weight)), float(np.average(without**2, weights=weight))
    return float(np.clip((left - noise) / max(there - noise, 1e-12), 0, 1))


def _shared(maps: Volume, noise: Volume, classes: Volume, field: Volume, points: Mask) -> dict[str, float]:
    """What the maps' remainders share at high frequencies, and how they compare with the noise."""
    design = np.concatenate([classes[points], field[points]], axis=1).astype(np.float64)
    rest = np.stack([_high_pass(_robust(design, m[points].astype(np.float64))[0], points) for m in maps])
    found = {}
    sd = np.median(
        [
            _SD_PER_MAD * np.median(np.abs(r)) / np.hypot(np.median(n[points]), _MODEL)
            for r, n in zip(rest, noise, strict=True)
        ]
    )
    found["noisier"] = float(np.log(max(sd, 1e-3)))
    found["quieter"] = -found["noisier"]
    if len(rest) > 1:
        together = (rest.sum(axis=0) ** 2 - (rest**2).sum(axis=0)) / (len(rest) * (len(rest) - 1))
        clipped = np.clip(together, *np.quantile(together, (0.02, 0.98)))
        found["shared"] = float(np.log(np.sqrt(max(float(clipped.mean()), 0.0)) + _MODEL))
    return found
