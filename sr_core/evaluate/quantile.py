"""Fitting half-widths: a quantile of log errors as a sum of broken lines, and its scaling to coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sr_core.uncertainty import SIGNS, Fitted, Signs

Vector = NDArray[np.float64]

LEVEL = 0.9
_KNOTS = 5
_ENDS = (0.02, 0.98)  # quantiles of a sign at its first and last knot
_APART = 0.05  # knots closer than this (in log) are one
_SOFT = 0.02  # of log error: over this the pinball loss is rounded
_RIDGE = 1e-4
_TINY = 1e-4  # of a map's scale: smaller errors are none
_ENOUGH = 80_000  # voxels to fit


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels of one map of one study: their ``signs`` (SIGNS, voxels) and |x − truth| / scale.

    ``zone``: drawn from the tumour zone; the others from the whole brain.
    """

    subject: str
    study: str
    metabolite: str
    signs: NDArray[np.float32]
    error: NDArray[np.float32]
    zone: NDArray[np.bool_]

    def half_width(self, family: Fitted) -> NDArray[np.float32]:
        """What ``family`` gives for these voxels, in units of the map's scale."""
        return family.half_width(Signs(self.metabolite, self.signs, 1.0, self.signs[0]))


@dataclass(frozen=True)
class Coverage:
    """Share of voxels whose error is within the half-width: means over maps and studies, and the worst."""

    brain: float
    zone: float
    worst_brain: float
    worst_zone: float
    width: float  # mean half-width over mean error

    def as_table(self) -> dict[str, float]:
        return {k: round(v, 4) for k, v in vars(self).items()}


def fit(samples: Sequence[Sample], names: Sequence[str], seed: int, weights: str = "") -> Fitted:
    """The LEVEL quantile of log(|x − truth| / scale) given the signs of ``names``.

    Every map of every study counts alike, its brain and its tumour zone alike. Koenker and Bassett,
    Econometrica 46:33 (1978), with the loss's corner rounded.
    """
    x = np.concatenate([s.signs for s in samples], axis=1).astype(np.float64)
    y = np.log(np.concatenate([s.error for s in samples]).astype(np.float64) + _TINY)
    weight = np.concatenate([_weights(s) for s in samples])
    if len(y) > _ENOUGH:
        some = np.random.default_rng(seed).choice(len(y), _ENOUGH, replace=False)
        x, y, weight = x[:, some], y[some], weight[some]
    weight /= weight.sum()

    knots: dict[str, Vector] = {}
    columns: list[Vector] = [np.ones((len(y), 1))]
    for name in names:
        sign = x[SIGNS.index(name)]
        at = np.quantile(sign, np.linspace(*_ENDS, _KNOTS))
        at = at[np.diff(at, prepend=-np.inf) > _APART]
        if len(at) < 2:
            continue
        knots[name] = at
        columns.append(np.stack([np.interp(sign, at, tip) for tip in np.eye(len(at))[1:]], axis=1))
    design = np.concatenate(columns, axis=1)

    def loss(b: Vector) -> tuple[float, Vector]:
        over = y - design @ b
        soft = np.logaddexp(0.0, -over / _SOFT)
        value = float(weight @ (LEVEL * over + _SOFT * soft)) + _RIDGE * float(b[1:] @ b[1:])
        slope = weight * (LEVEL - 1 / (1 + np.exp(np.clip(over / _SOFT, -50, 50))))
        gradient = -(design.T @ slope)
        gradient[1:] += 2 * _RIDGE * b[1:]
        return value, gradient

    start = np.zeros(design.shape[1])
    start[0] = np.quantile(y, LEVEL)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    heights: dict[str, Vector] = {}
    first = 1
    for name, at in knots.items():
        heights[name] = np.concatenate([[0.0], found[first : first + len(at) - 1]])
        first += len(at) - 1
    return Fitted(float(found[0]), knots, heights, weights)


def _weights(s: Sample) -> Vector:
    parts = [p for p in (~s.zone, s.zone) if p.any()]
    weight = np.zeros(len(s.zone))
    for part in parts:
        weight[part] = 1 / len(parts) / part.sum()
    return weight


def scaled(family: Fitted, samples: Sequence[Sample]) -> Fitted:
    """``family`` times the factor with which it covers LEVEL of ``samples``, brain and zone alike.

    Split conformal scaling (Romano, Patterson and Candès, NeurIPS 2019), maps weighted as in ``fit``.
    """
    ratio = np.concatenate([s.error / s.half_width(family) for s in samples])
    weight = np.concatenate([_weights(s) for s in samples])
    order = np.argsort(ratio)
    share = np.cumsum(weight[order]) / weight.sum()
    factor = float(ratio[order][min(int(np.searchsorted(share, LEVEL)), len(order) - 1)])
    return replace(family, offset=family.offset + float(np.log(factor)))


def coverage(family: Fitted, samples: Sequence[Sample]) -> Coverage:
    """How much of ``samples`` lies within the half-widths of ``family``; NaN where there is no zone."""
    brain, zone, width = [], [], []
    for s in samples:
        u = s.half_width(family)
        within = s.error <= u
        brain.append(float(within[~s.zone].mean()))
        width.append(float(u[~s.zone].mean() / max(s.error[~s.zone].mean(), _TINY)))
        if s.zone.any():
            zone.append(float(within[s.zone].mean()))
    zones = zone or [float("nan")]
    return Coverage(
        float(np.mean(brain)), float(np.mean(zones)), min(brain), min(zones), float(np.mean(width))
    )


def as_table(family: Fitted) -> dict[str, object]:
    """``family`` as plain values, as ``uncertainty.read_calibration`` reads them."""
    lines: Mapping[str, object] = {
        name: {
            "knots": [round(float(v), 4) for v in family.knots[name]],
            "heights": [round(float(v), 4) for v in family.heights[name]],
        }
        for name in family.knots
    }
    return {"offset": round(family.offset, 4), "weights": family.weights, "signs": lines}
