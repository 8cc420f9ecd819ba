"""Paired gains over a baseline, with what may be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from . import statistics
from .score import Score

BySubject = dict[str, list[float]]


class Key(NamedTuple):
    """Which map of which study."""

    subject: str
    regime: str
    noise: float
    snr: float | None
    draw: int
    metabolite: str

    def __str__(self) -> str:
        words = (self.metabolite, self.subject, self.regime, level_words(self.noise, self.snr))
        return ", ".join((*words, f"draw {self.draw}"))


@dataclass(frozen=True)
class Estimate:
    """A figure, or a paired gain in it: mean over subjects, its 95 % interval, the worst, ``n`` subjects.

    ``worst`` is the worst single map and ``where`` which that is. Of gains: ``p``, Wilcoxon over
    subjects, and ``p_unpaired``, Mann–Whitney as in the paper; None for too few subjects.
    """

    mean: float
    low: float
    high: float
    worst: float
    where: Key
    n: int
    p: float | None = None
    p_unpaired: float | None = None


def values_of(scores: Iterable[Score], method: str, figure: str) -> dict[Key, float]:
    """``figure`` of ``method``, where it is finite, by map."""
    found: dict[Key, float] = {}
    for s in scores:
        if s.method == method and np.isfinite(s[figure]):
            snr = None if np.isnan(s.snr) else s.snr
            found[Key(s.subject, s.regime, s.noise, snr, s.draw, s.metabolite)] = s[figure]
    return found


def by_subject(values: Mapping[Key, float]) -> BySubject:
    """The mean over the maps of each study, by subject."""
    studies: dict[tuple[str, ...], list[float]] = {}
    for key, value in values.items():
        studies.setdefault(tuple(map(str, key[:-1])), []).append(value)
    found: BySubject = {}
    for (subject, *_), maps in sorted(studies.items()):
        found.setdefault(subject, []).append(float(np.mean(maps)))
    return found


def gain(scores: Sequence[Score], method: str, baseline: str, figure: str) -> Estimate | None:
    """Gain in ``figure`` of ``method`` over ``baseline``; None where no map has both. The least is worst."""
    ours, theirs = (values_of(scores, name, figure) for name in (method, baseline))
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    differences = {key: ours[key] - theirs[key] for key in shared}
    pair = [by_subject({key: v[key] for key in shared}) for v in (ours, theirs)]
    return replace(
        _estimate(differences, min(shared, key=lambda k: differences[k])),
        p=statistics.wilcoxon(by_subject(differences)),
        p_unpaired=statistics.mann_whitney(*pair),
    )


def level(scores: Sequence[Score], method: str, figure: str) -> Estimate | None:
    """``figure`` of ``method`` itself; None where no map has it. The largest is worst."""
    values = values_of(scores, method, figure)
    return _estimate(values, max(values, key=lambda k: values[k])) if values else None


def _estimate(values: Mapping[Key, float], worst: Key) -> Estimate:
    studies = by_subject(values)
    low, high = statistics.interval(studies)
    return Estimate(statistics.mean(studies), low, high, values[worst], worst, len(studies))


def level_words(noise: float, snr: float | None) -> str:
    """A level of noise, as a report says it."""
    if snr is not None and not np.isnan(snr):
        return f"SNR {snr:g}"
    return f"noise × {noise:g}" if noise else "no noise"
