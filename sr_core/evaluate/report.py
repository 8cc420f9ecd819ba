"""Scores as tables for people (Markdown), for machines (CSV), and on the weights' card."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from . import statistics
from .protocol import HEALTHY, Protocol
from .score import Score

_WORDS = {
    HEALTHY: "no lesion",
    "match": "anatomy shows the metabolic lesion, 2 mm wider",
    "mismatch": "anatomy shows a lesion of another shape, 3–8 mm aside",
    "larger": "the metabolic border lies 3–8 mm beyond that on anatomy",
    "shifted": "anatomy shows the same lesion 3–8 mm aside",
    "mrsi_only": "anatomy shows no lesion",
    "mri_only": "anatomy shows a lesion, the chemistry is healthy",
    "misregistered": "as match, anatomy moved by 2 mm and 2° against its header",
}


@dataclass(frozen=True)
class Gain:
    """Paired gain over the baseline, dB: mean over subjects of their draws, its 95 % interval, the worst.

    ``worst_map`` names the single map that lost most (or gained least), ``worst_study`` is the least
    mean over maps of one study. ``p``: Wilcoxon over subjects, None for too few of them.
    """

    mean: float
    low: float
    high: float
    worst_study: float
    worst_map: float
    worst_words: str
    p: float | None


def by_draw(scores: Iterable[Score], method: str, figure: str) -> dict[str, list[float]]:
    """``figure`` of ``method`` for each draw of each subject, mean over its maps that have it."""
    found: dict[tuple[str, int], list[float]] = {}
    for s in scores:
        value = float(getattr(s, figure))
        if s.method == method and np.isfinite(value):
            found.setdefault((s.subject, s.draw), []).append(value)
    result: dict[str, list[float]] = {}
    for (subject, _), values in sorted(found.items()):
        result.setdefault(subject, []).append(float(np.mean(values)))
    return result


def gain(scores: Iterable[Score], method: str, baseline: str, figure: str) -> Gain | None:
    """Gain in ``figure`` of ``method`` on the scores of one group; None where nothing was scored."""
    value = {
        (s.subject, s.draw, s.metabolite, s.method): float(getattr(s, figure))
        for s in scores
        if s.method in (method, baseline) and np.isfinite(getattr(s, figure))
    }
    maps = {
        key[:3]: v - value[(*key[:3], baseline)]
        for key, v in value.items()
        if key[3] == method and (*key[:3], baseline) in value
    }
    if not maps:
        return None
    studies: dict[str, list[float]] = {}
    for subject, draw in sorted({key[:2] for key in maps}):
        studies.setdefault(subject, []).append(
            float(np.mean([v for key, v in maps.items() if key[:2] == (subject, draw)]))
        )
    worst = min(maps, key=lambda key: maps[key])
    low, high = statistics.interval(studies)
    return Gain(
        statistics.mean(studies),
        low,
        high,
        min(min(v) for v in studies.values()),
        maps[worst],
        f"{worst[2]}, {worst[0]}, draw {worst[1]}",
        statistics.wilcoxon(studies),
    )


def markdown(scores: Sequence[Score], protocol: Protocol, provenance: dict[str, str]) -> str:
    """The report: how it was made, then one table of the methods for each regime and level of noise."""
    names = sorted({s.subject for s in scores})
    baseline = protocol.methods[0].name
    export = "values in the brain" if protocol.masked else "values in the whole field of view"
    lines = [
        f"# Evaluation on {protocol.part} subjects",
        "",
        f"n = {len(names)} subjects ({', '.join(names)}), each simulated {protocol.draws} time(s) per regime",
        f"and level of noise; seed {protocol.seed}; {'with' if protocol.artefacts else 'no'} artefacts;",
        f"k-space filter: {protocol.psf}; {export}.",
        "Figures are means over maps, then draws, then subjects. Truth: 1 mm maps cropped in k-space to the",
        "SR grid. PSNR and SSIM in the brain, data range = the truth's 99.9th percentile there. Zone: the",
        "metabolic lesion (in mri_only the one on anatomy) with a border of 4 SR voxels. Gains are paired,",
        f"in dB of PSNR over {baseline}; in brackets the 95 % interval of the mean (bootstrap: subjects,",
        "draws within), then the worst study and the worst single map. p: Wilcoxon over subjects, Holm over",
        f"the methods of a table; left out with fewer than {statistics.FEWEST_PAIRS} subjects.",
        "",
        *(f"- {key}: {value}" for key, value in provenance.items()),
        "",
        "| method | is | settings |",
        "|---|---|---|",
        *(f"| {v.name} | {v.method} | sha256 {v.settings.digest()[:12]} |" for v in protocol.methods),
    ]
    for group in dict.fromkeys(c.group for c in protocol.conditions()):
        own = [s for s in scores if _group(s) == group]
        if own:
            lines += ["", f"## {_title(group)}", "", *_table(own, protocol)]
    return "\n".join(lines) + "\n"


def _group(s: Score) -> tuple[str, float, float | None]:
    return s.regime, s.noise, None if np.isnan(s.snr) else s.snr


def _title(group: tuple[str, float, float | None]) -> str:
    regime, noise, snr = group
    level = f"SNR {snr:g}" if snr is not None else f"noise × {noise:g}" if noise else "no noise"
    return f"{regime}, {level} ({_WORDS[regime]})"


def _table(scores: Sequence[Score], protocol: Protocol) -> list[str]:
    """The methods on one group, and below it PSNR in the brain by map."""
    names = [v.name for v in protocol.methods]
    figures = ["nrmse", *protocol.figures]
    gains = {
        figure: {name: gain(scores, name, names[0], figure) for name in names[1:]}
        for figure in ("psnr", "psnr_zone")
    }
    adjusted = {figure: _adjusted(found) for figure, found in gains.items()}
    heads = [
        "method",
        "PSNR",
        "gain",
        "zone PSNR",
        "zone gain",
        *[f.upper().replace("_", "-") for f in figures],
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in names:
        cells = [name]
        for figure in ("psnr", "psnr_zone"):
            cells += [
                _number(statistics.mean(by_draw(scores, name, figure)), 2),
                _gain_words(gains[figure].get(name), adjusted[figure].get(name)),
            ]
        cells += [_number(statistics.mean(by_draw(scores, name, figure)), 4) for figure in figures]
        lines.append("| " + " | ".join(cells) + " |")
    metabolites = list(dict.fromkeys(s.metabolite for s in scores))
    lines += ["", "PSNR in the brain (in the zone) by map:", ""]
    lines += ["| method | " + " | ".join(metabolites) + " |", "|---" * (len(metabolites) + 1) + "|"]
    for name in names:
        cells = []
        for m in metabolites:
            own = [s for s in scores if s.metabolite == m]
            brain, zone = (statistics.mean(by_draw(own, name, f)) for f in ("psnr", "psnr_zone"))
            cells.append(_number(brain, 2) + ("" if np.isnan(zone) else f" ({zone:.2f})"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _adjusted(gains: dict[str, Gain | None]) -> dict[str, float]:
    """Holm's p by method, of those that have one."""
    raw = {name: g.p for name, g in gains.items() if g is not None and g.p is not None}
    return dict(zip(raw, statistics.holm(list(raw.values())), strict=True))


def _gain_words(g: Gain | None, p: float | None) -> str:
    if g is None:
        return "–"
    words = f"{g.mean:+.2f} [{g.low:+.2f}, {g.high:+.2f}]; {g.worst_study:+.2f}; "
    words += f"{g.worst_map:+.2f} ({g.worst_words})"
    return words if p is None else words + f"; p = {p:.3g}"


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def write_csv(scores: Iterable[Score], path: Path) -> None:
    """One line per study, method and map."""
    with path.open("w", newline="") as f:
        rows = csv.DictWriter(f, [field.name for field in fields(Score)])
        rows.writeheader()
        rows.writerows(asdict(s) for s in scores)


def card_figures(scores: Sequence[Score], protocol: Protocol) -> dict[str, Any]:
    """What a card says of this evaluation: PSNR in the brain by method, and how it was obtained.

    Raises ValueError for more than one condition: a card's figure is of one.
    """
    conditions = protocol.conditions()
    if len(conditions) != 1 or conditions[0].snr is not None:
        raise ValueError("a card holds figures of one regime, one multiple of the usual noise, one draw")
    return {
        "what": "mean in-brain PSNR in dB over maps, then subjects; data range = truth's 99.9th percentile",
        "subjects": len({s.subject for s in scores}),
        "seed": protocol.seed,
        "noise": conditions[0].noise,
        "regime": conditions[0].regime,
        **{
            v.name.replace("+", "_"): round(statistics.mean(by_draw(scores, v.name, "psnr")), 2)
            for v in protocol.methods
        },
    }
