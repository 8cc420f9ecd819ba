"""Timing of variants against each other, so that neither machine nor load decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Paired:
    """Seconds of each variant, one entry per round."""

    seconds: Mapping[str, tuple[float, ...]]

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds of each variant."""
        return {name: median(s) for name, s in self.seconds.items()}

    def ratio(self, variant: str, baseline: str) -> float:
        """Median over the rounds of ``variant`` seconds ÷ ``baseline`` seconds of the same round."""
        return median(a / b for a, b in zip(self.seconds[variant], self.seconds[baseline], strict=True))


def paired(variants: Mapping[str, Callable[[], object]], rounds: int = 3, warm_up: bool = True) -> Paired:
    """Run the variants round-robin, every second round in reverse order, and time each call.

    ``warm_up`` calls each once before, untimed. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"variants are timed in one round or more, not {rounds}")
    if warm_up:
        for run in variants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name in list(variants) if turn % 2 == 0 else list(variants)[::-1]:
            start = perf_counter()
            variants[name]()
            seconds[name].append(perf_counter() - start)
    return Paired({name: tuple(s) for name, s in seconds.items()})
