"""The report of a reading study: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sr_core.evaluate import statistics

from . import analysis
from .analysis import COLUMNS, MOS, Between, Comparison, Mean, Scores, Within
from .answers import Reading
from .study import CRITERIA, Key

_HEADS = {MOS: MOS, **{c.name: f"({n}) {c.name.replace('_', ' ')}" for n, c in enumerate(CRITERIA, 1)}}

_MEANING = (
    "Scores from 1 (worst) to 5 (best) relative to the ground truth, blinded. MOS is the mean over the "
    "criteria asked of an image, then over readers, then over cases. In brackets: 95 % bootstrap interval "
    "over cases, readers fixed; of few cases it is too narrow. Images shown again count for the agreement "
    "within readers only."
)
_COMPARED = (
    "Differences are paired by case. Primary: MOS, Wilcoxon signed-rank test over cases (needs "
    f"{statistics.FEWEST_PAIRS}), adjusted by Holm for the comparisons of the same column; single criteria "
    "are secondary. “Mann–Whitney (as in the paper)” is the unpaired test on the same case means, not "
    "adjusted: it ignores that all methods were read on the same cases."
)
_AGREED = (
    "ICC(2,1) is the agreement of single readers, ICC(2,k) that of the mean of all (two-way random effects, "
    "absolute agreement). Fleiss' kappa takes the five scores as categories without order."
)


@dataclass(frozen=True)
class Findings:
    """All that is reported, computed once."""

    scores: Scores
    opinions: Mapping[tuple[str, str], Mean]  # by column and method
    comparisons: Sequence[Comparison]
    agreement: Sequence[Between]
    repeated: Sequence[Within]


def findings(key: Key, readings: Sequence[Reading], baselines: Sequence[str]) -> Findings:
    """Analyse unblinded readings. Raises ReadingError for a baseline that was not read."""
    scores = analysis.first_scores(key, readings)
    return Findings(
        scores,
        {(column, m): analysis.opinion(scores, column, m) for column in COLUMNS for m in key.methods},
        [c for column in COLUMNS for c in analysis.compare(scores, column, baselines)],
        [analysis.between(scores, column) for column in COLUMNS],
        analysis.within(key, readings),
    )


def write(found: Findings, readings: Sequence[Reading], text: str, out: Path) -> None:
    """Write ``reading.md``, ``mos.csv``, ``comparisons.csv``, ``agreement.csv`` and ``readings.csv``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "reading.md").write_text(text)
    _csv(out / "mos.csv", ({"column": c, "method": m, **asdict(v)} for (c, m), v in found.opinions.items()))
    _csv(out / "comparisons.csv", (_flat(asdict(c)) for c in found.comparisons))
    _csv(out / "agreement.csv", (_flat(asdict(a)) for a in found.agreement))
    _csv(out / "readings.csv", (asdict(r) for r in readings))


def markdown(found: Findings, key: Key, provenance: Mapping[str, str]) -> str:
    """The report for people."""
    healthy = sum(c.healthy for c in key.cases)
    lines = [
        "# Reading study",
        "",
        f"- study {key.study}, seed {key.seed}: {len(key.cases)} cases ({len(key.cases) - healthy} with "
        f"tumor, {healthy} healthy), {len(key.methods)} methods, {len(key.forms)} readers",
        *(f"- {name}: {value}" for name, value in provenance.items()),
        "",
        _MEANING,
        "",
        *(
            f"- ({n}) {c.words}" + (": cases with a tumor" if c.of_tumor else "")
            for n, c in enumerate(CRITERIA, 1)
        ),
        "",
        "## Mean opinion score",
        "",
        *_opinions(found, key),
        "",
        "## Comparisons",
        "",
        _COMPARED,
        "",
        *_comparisons(found.comparisons),
        "",
        "## Agreement between readers",
        "",
        _AGREED,
        "",
        *_between(found.agreement),
        "",
        "## Agreement within readers",
        "",
        *_within(found.repeated),
    ]
    return "\n".join(lines) + "\n"


def _opinions(found: Findings, key: Key) -> list[str]:
    scores = found.scores
    groups = {
        "tumor": scores.of([c.name for c in key.cases if not c.healthy]),
        "healthy": scores.of([c.name for c in key.cases if c.healthy]),
    }
    by_reader = scores.column(MOS).mean(axis=0)
    return [
        *_table(
            ["method", *_HEADS.values()],
            [[m, *(_mean_words(found.opinions[c, m]) for c in COLUMNS)] for m in key.methods],
        ),
        "",
        "MOS of cases with tumor and healthy ones apart, and by reader:",
        "",
        *_table(
            ["method", *groups, *(f"reader {r}" for r in scores.readers)],
            [
                [
                    m,
                    *(_mean_words(analysis.opinion(g, MOS, m)) for g in groups.values()),
                    *(f"{v:.2f}" for v in by_reader[i]),
                ]
                for i, m in enumerate(key.methods)
            ],
        ),
    ]


def _comparisons(comparisons: Iterable[Comparison]) -> list[str]:
    head = [
        "",
        "method",
        "against",
        "difference",
        "Wilcoxon p",
        "p (Holm)",
        "Mann–Whitney p (as in the paper)",
    ]
    return _table(
        head,
        [
            [
                _HEADS[c.column],
                c.method,
                c.baseline,
                _mean_words(c.difference, "+"),
                *(_number(p, ".3g") for p in (c.p, c.p_holm, c.p_mann_whitney)),
            ]
            for c in comparisons
        ],
    )


def _between(agreement: Iterable[Between]) -> list[str]:
    return _table(
        ["", "images", "ICC(2,1)", "ICC(2,k)", "Fleiss' kappa"],
        [
            [
                _HEADS[a.column],
                str(a.images),
                *(_interval_words(figure) for figure in (a.icc_single, a.icc_average, a.kappa)),
            ]
            for a in agreement
        ],
    )


def _within(repeated: Iterable[Within]) -> list[str]:
    return _table(
        ["reader", "images twice", "scores", "equal", "within 1", "second − first", "ICC(2,1)"],
        [
            [
                str(w.reader),
                str(w.images),
                str(w.scores),
                f"{w.exact:.0%}",
                f"{w.close:.0%}",
                f"{w.mean_difference:+.2f}",
                _number(w.icc, ".2f"),
            ]
            for w in repeated
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _mean_words(m: Mean, sign: str = "") -> str:
    return "–" if m.n == 0 else f"{m.mean:{sign}.2f} [{m.low:{sign}.2f}, {m.high:{sign}.2f}]"


def _interval_words(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    return "–" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:{form}}"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Means and intervals as columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= value
        elif isinstance(value, tuple):
            flat |= dict(zip((name, f"{name}_low", f"{name}_high"), value, strict=True))
        else:
            flat[name] = value
    return flat


def _csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = list(rows)
    with path.open("w", newline="") as f:
        written = csv.DictWriter(f, list(listed[0]) if listed else [])
        written.writeheader()
        written.writerows(listed)
