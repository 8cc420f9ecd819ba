"""Mean opinion scores of unblinded readings, their comparison and the readers' agreement.

First readings alone make scores, comparisons and the agreement between readers; items shown again serve
the agreement of readers with themselves. The case is the unit: readers are the same for all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_core.evaluate import statistics

from .agreement import category_counts, fleiss_kappa, icc2
from .answers import Reading
from .study import CRITERIA, HIGHEST, LOWEST, Key, ReadingError

MOS = "MOS"  # the mean over the criteria that a case is asked for
COLUMNS = (MOS, *(c.name for c in CRITERIA))
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Scores:
    """First readings: (case, method, reader, criterion of COLUMNS), NaN where a criterion was not asked."""

    cases: tuple[str, ...]
    methods: tuple[str, ...]
    readers: tuple[int, ...]
    values: NDArray[np.float64]

    def column(self, name: str) -> NDArray[np.float64]:
        """(case, method, reader) of the cases that were asked for ``name``."""
        values = self.values[..., COLUMNS.index(name)]
        return np.asarray(values[np.isfinite(values).all(axis=(1, 2))])

    def of(self, cases: Sequence[str]) -> Scores:
        """Those of some cases only."""
        kept = [i for i, c in enumerate(self.cases) if c in cases]
        return Scores(tuple(self.cases[i] for i in kept), self.methods, self.readers, self.values[kept])


@dataclass(frozen=True)
class Mean:
    """Mean over readers, then cases, with its 95 % interval over cases; ``n`` cases. NaN without any."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """``method`` against ``baseline``: difference in points, paired by case.

    ``p``: two-sided Wilcoxon signed-rank test over cases, ``p_holm`` adjusted for the comparisons of this
    column; None with too few cases. ``p_mann_whitney``: the paper's unpaired test on the same case means.
    """

    column: str
    method: str
    baseline: str
    difference: Mean
    p: float | None
    p_holm: float | None
    p_mann_whitney: float | None


@dataclass(frozen=True)
class Between:
    """Agreement between readers on images of ``column``, with 95 % intervals over cases. NaN: undefined."""

    column: str
    images: int
    icc_single: tuple[float, float, float]
    icc_average: tuple[float, float, float]
    kappa: tuple[float, float, float]


@dataclass(frozen=True)
class Within:
    """Agreement of a reader's second scores with the first. ``exact``, ``close`` (within 1): shares."""

    reader: int
    images: int
    scores: int
    exact: float
    close: float
    mean_difference: float
    icc: float


def first_scores(key: Key, readings: Sequence[Reading]) -> Scores:
    """Array of the first readings; MOS is the mean over the criteria of each image."""
    cases = tuple(c.name for c in key.cases)
    readers = tuple(f.reader for f in key.forms)
    values = np.full((len(cases), len(key.methods), len(readers), len(COLUMNS)), np.nan)
    for r in readings:
        if not r.again:
            where = cases.index(r.case), key.methods.index(r.method), readers.index(r.reader)
            values[(*where, COLUMNS.index(r.criterion))] = r.score
    values[..., 0] = np.nanmean(values[..., 1:], axis=-1)
    return Scores(cases, key.methods, readers, values)


def opinion(scores: Scores, column: str, method: str) -> Mean:
    """Mean opinion score of one method in one column."""
    return _mean(_groups(scores.column(column)[:, scores.methods.index(method)].mean(axis=1)))


def compare(scores: Scores, column: str, baselines: Sequence[str]) -> list[Comparison]:
    """Every other method against every baseline. Raises ReadingError for a baseline that was not read."""
    if unknown := [b for b in baselines if b not in scores.methods]:
        raise ReadingError(f"no method {', '.join(unknown)} was read; there is {', '.join(scores.methods)}")
    by_case = scores.column(column).mean(axis=2)
    pairs = [(m, b) for b in baselines for m in scores.methods if m not in baselines]
    found = []
    for method, baseline in pairs:
        x, y = (_groups(by_case[:, scores.methods.index(name)]) for name in (method, baseline))
        difference = {case: [x[case][0] - y[case][0]] for case in x}
        found.append((_mean(difference), statistics.wilcoxon(difference), statistics.mann_whitney(x, y)))
    tested = [p for _, p, _ in found if p is not None]
    adjusted = iter(statistics.holm(tested))
    return [
        Comparison(column, method, baseline, mean, p, None if p is None else next(adjusted), unpaired)
        for (method, baseline), (mean, p, unpaired) in zip(pairs, found, strict=True)
    ]


def between(scores: Scores, column: str) -> Between:
    """Agreement between readers; images are case × method. Kappa only of criteria: MOS has no categories."""
    ratings = scores.column(column)

    def kappa(drawn: NDArray[np.float64]) -> float:
        if column == MOS:
            return float("nan")
        whole = drawn.astype(np.int64)
        return fleiss_kappa(category_counts(whole, LOWEST, HIGHEST)) if len(whole) else float("nan")

    return Between(
        column,
        images=ratings.shape[0] * ratings.shape[1],
        icc_single=_over_cases(ratings, lambda x: icc2(x).single),
        icc_average=_over_cases(ratings, lambda x: icc2(x).average),
        kappa=_over_cases(ratings, kappa),
    )


def within(key: Key, readings: Sequence[Reading]) -> list[Within]:
    """Each reader's second scores against the first."""
    found = []
    for form in key.forms:
        own = {(r.item, r.criterion): r.score for r in readings if r.reader == form.reader}
        again = {i.item: i.repeats for i in form.items if i.repeats is not None}
        pairs = np.array(
            [(own[again[item], name], score) for (item, name), score in own.items() if item in again],
            dtype=np.float64,
        )
        apart = np.abs(pairs[:, 0] - pairs[:, 1])
        found.append(
            Within(
                form.reader,
                images=len(again),
                scores=len(pairs),
                exact=float((apart == 0).mean()),
                close=float((apart <= 1).mean()),
                mean_difference=float((pairs[:, 1] - pairs[:, 0]).mean()),
                icc=icc2(pairs).single,
            )
        )
    return found


def _groups(by_case: NDArray[np.float64]) -> dict[str, list[float]]:
    """One figure per case, as ``statistics`` takes them."""
    return {str(i): [float(v)] for i, v in enumerate(by_case)}


def _mean(by_case: Mapping[str, Sequence[float]]) -> Mean:
    if not by_case:
        return Mean(float("nan"), float("nan"), float("nan"), 0)
    return Mean(statistics.mean(by_case), *statistics.interval(by_case), n=len(by_case))


def _over_cases(
    ratings: NDArray[np.float64], figure: Callable[[NDArray[np.float64]], float]
) -> tuple[float, float, float]:
    """``figure`` of (image, reader) with the interval over whole cases drawn again, seed 0."""
    cases, _, readers = ratings.shape
    whole = figure(ratings.reshape(-1, readers))
    if np.isnan(whole):
        return whole, whole, whole
    rng = np.random.default_rng(0)
    drawn = [figure(ratings[rng.integers(cases, size=cases)].reshape(-1, readers)) for _ in range(_RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return whole, float(low), float(high)
