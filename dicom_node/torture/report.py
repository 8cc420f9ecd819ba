"""The report of a run, for machines (JSON) and to be filed (Markdown)."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from .reckoning import Check, shortened
from .watch import Sample

_MB = 1024**2
_ROWS = 25


@dataclass(frozen=True)
class Deed:
    """One trouble that was made, ``at`` seconds into the run, and what was done in words."""

    at: float
    name: str
    done: str


@dataclass(frozen=True)
class Report:
    """All that was done and found. ``took_s``: each study, from its last instance to DONE.

    ``busy``: processes that wanted a processor before the run began, on average: others' load.
    """

    seed: int
    minutes: float
    started_at: float
    seconds: float
    load: int
    deeds: tuple[Deed, ...]
    skipped: dict[str, str]
    answers: dict[str, int]
    acknowledged: int
    studies: int
    kills: int
    revisions_more: int
    echo: dict[str, float]
    took_s: tuple[float, ...]
    busy: float
    checks: tuple[Check, ...]
    samples: tuple[Sample, ...] = ()
    machine: dict[str, str] = field(default_factory=lambda: machine())

    @property
    def clean(self) -> bool:
        """Whether everything held."""
        return all(c.holds for c in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain values; problems in full."""
        table = asdict(self)
        table["verdict"] = _verdict(self)
        table["checks"] = [asdict(c) | {"holds": c.holds} for c in self.checks]
        table["samples"] = [_row(s) for s in self.samples]
        return table

    def as_markdown(self) -> str:
        """A page for the file: what was done, what was found, the verdict."""
        began = datetime.fromtimestamp(self.started_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lines = [
            "# Torture report",
            "",
            f"**{_verdict(self)}**",
            "",
            f"- mrsi-sr-node {self.machine['version']} on {self.machine['system']}, "
            f"{self.machine['processors']} processors, Python {self.machine['python']}; "
            f"load by others before it began: {self.busy:.1f}",
            f"- seed {self.seed}, {began}, {self.seconds / 60:.1f} minutes"
            + (f", load of {self.load} studies" if self.load else f" ({self.minutes:g} of trouble)"),
            f"- {self.studies} studies sent whole, {self.acknowledged} instances acknowledged, "
            f"{self.kills} times kill -9",
            f"- studies with more than one revision: {self.revisions_more}",
            f"- C-ECHO: {self.echo['asked']:.0f} asked, longest {self.echo['longest_s']:.2f} s; "
            f"not judged for {self.echo['away_s']:.0f} s while the listener was killed or stopped",
            f"- from a study's last instance to its results at the PACS: {_spread(self.took_s)}",
            f"- answers to C-STORE: {', '.join(f'{k}: {n}' for k, n in self.answers.items()) or 'none'}",
            "",
            "## What must hold",
            "",
            "| | looked at | holds |",
            "|---|---|---|",
            *(f"| {c.name} | {c.looked_at} | {'yes' if c.holds else '**NO**'} |" for c in self.checks),
            "",
        ]
        for c in self.checks:
            if c.problems:
                lines += [f"**Not so: {c.name}**", "", *(f"- {p}" for p in shortened(c.problems)), ""]
        lines += self._troubles()
        if self.samples:
            lines += ["## Over time", "", *_over_time(self.samples), ""]
        return "\n".join(lines)

    def _troubles(self) -> list[str]:
        if not self.deeds and not self.skipped:
            return []
        names = sorted({d.name for d in self.deeds})
        lines = ["## What was done", "", "| trouble | times | the last time |", "|---|---|---|"]
        for name in names:
            of_it = [d for d in self.deeds if d.name == name]
            lines.append(f"| {name} | {len(of_it)} | {of_it[-1].done} |")
        lines += [f"| {name} | 0 | skipped: {why} |" for name, why in sorted(self.skipped.items())]
        return [*lines, ""]


def machine() -> dict[str, str]:
    """What ran, and on what."""
    return {
        "version": version("mrsi-sr-node"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
    }


def _verdict(report: Report) -> str:
    failed = sum(not c.holds for c in report.checks)
    if failed:
        return f"NOT CLEAN: {failed} of {len(report.checks)} checks do not hold"
    return f"Clean: all {len(report.checks)} checks hold"


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "no study was done"
    return f"median {median(seconds):.1f} s, longest {max(seconds):.1f} s"


def _row(sample: Sample) -> dict[str, Any]:
    usage = {u.room: {"rss_mb": round(u.rss / _MB), "files": u.files} for u in sample.usage}
    return {
        "at_s": sample.at,
        "done": sample.done,
        "open": sample.open,
        "oldest_s": sample.oldest_s,
        "usage": usage,
    }


def _over_time(samples: Sequence[Sample]) -> list[str]:
    rooms = sorted({u.room for s in samples for u in s.usage})
    heads = [f"{room}: MB, files" for room in rooms]
    lines = [
        f"| s | done | open | oldest, s | {' | '.join(heads)} |",
        "|---|---|---|---|" + "---|" * len(rooms),
    ]
    step = max(1, len(samples) // _ROWS)
    for sample in [*samples[:-1:step], samples[-1]]:
        by_room = {u.room: f"{u.rss / _MB:.0f}, {u.files}" for u in sample.usage}
        cells = [by_room.get(room, "–") for room in rooms]
        first = f"| {sample.at:.0f} | {sample.done} | {sample.open} | {sample.oldest_s:.0f} | "
        lines.append(first + " | ".join(cells) + " |")
    return lines
