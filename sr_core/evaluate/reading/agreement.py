"""How far readers agree, by the published formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Agreement:
    """Intraclass correlation of a single reader and of the mean of all of them; NaN where undefined."""

    single: float
    average: float


def icc2(ratings: ArrayLike) -> Agreement:
    """ICC(2,1) and ICC(2,k): two-way random effects, absolute agreement.

    ``ratings`` (target, reader), complete. Shrout and Fleiss, Psychol Bull 86:420 (1979). NaN with fewer
    than two targets or readers, or where all ratings are equal.
    """
    x = np.asarray(ratings, dtype=np.float64)
    n, k = x.shape
    if n < 2 or k < 2 or np.ptp(x) == 0:
        return Agreement(float("nan"), float("nan"))
    mean = x.mean()
    between = k * ((x.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    readers = n * ((x.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0, keepdims=True) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    single = _ratio(between - error, between + (k - 1) * error + k * (readers - error) / n)
    return Agreement(single, _ratio(between - error, between + (readers - error) / n))


def fleiss_kappa(counts: ArrayLike) -> float:
    """Agreement beyond chance on categories without order; 1 is perfect, 0 is chance.

    ``counts`` (target, category): how many readers chose it, the same number in sum for each target.
    Fleiss, Psychol Bull 76:378 (1971). NaN with fewer than two readers, or where only one category was
    ever chosen.
    """
    c = np.asarray(counts, dtype=np.float64)
    readers = c.sum(axis=1)[0]
    if readers < 2:
        return float("nan")
    observed = ((c**2).sum(axis=1) - readers).mean() / (readers * (readers - 1))
    chance = ((c.sum(axis=0) / c.sum()) ** 2).sum()
    return _ratio(observed - chance, 1 - chance)


def category_counts(ratings: NDArray[np.integer], lowest: int, highest: int) -> NDArray[np.int64]:
    """``ratings`` (target, reader) as (target, category) counts of ``lowest`` … ``highest``."""
    return np.stack([(ratings == v).sum(axis=1) for v in range(lowest, highest + 1)], axis=1)


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
