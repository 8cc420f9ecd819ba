"""What is told of one run: warnings for people, and how long each step took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Notes:
    """``warnings`` are sentences; ``timings_s`` seconds by step."""

    warnings: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.timings_s[step] = self.timings_s.get(step, 0.0) + perf_counter() - start
