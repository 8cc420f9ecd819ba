"""Scores as a table for people (Markdown), for machines (CSV), and on the weights' card."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from .protocol import Protocol, Score

_FIGURES = ("psnr", "nrmse", "ssim", "psnr_lesion")


def by_subject(scores: Sequence[Score], method: str, figure: str) -> dict[str, float]:
    """``figure`` of ``method`` per subject, mean over its maps (NaN: not scored): subjects are the sample."""
    found: dict[str, list[float]] = {}
    for s in scores:
        value = float(getattr(s, figure))
        if s.method == method and np.isfinite(value):
            found.setdefault(s.subject, []).append(value)
    return {subject: float(np.mean(values)) for subject, values in found.items()}


def summary(scores: Sequence[Score], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean over subjects of every figure, by method; and its paired gain in PSNR over the first method."""
    table: dict[str, dict[str, float]] = {}
    reference = by_subject(scores, methods[0], "psnr")
    for method in methods:
        row = {figure: _mean(by_subject(scores, method, figure)) for figure in _FIGURES}
        own = by_subject(scores, method, "psnr")
        gains = [own[s] - reference[s] for s in own]
        row |= {"gain": float(np.mean(gains)), "gain_least": min(gains), "gain_most": max(gains)}
        table[method] = row
    return table


def markdown(scores: Sequence[Score], protocol: Protocol, provenance: dict[str, str]) -> str:
    """The report: how it was made, the methods, and PSNR by metabolite."""
    methods, names = protocol.methods, sorted({s.subject for s in scores})
    lines = [
        f"# Evaluation on {protocol.part} subjects",
        "",
        f"n = {len(names)} subjects ({', '.join(names)}), one simulated study each;",
        f"noise × {protocol.noise}, regime {protocol.regime}, seed {protocol.seed}.",
        "Figures are means over maps, then over subjects. Truth: 1 mm maps cropped in k-space to the SR",
        "grid. PSNR and SSIM in the brain, data range = the truth's 99.9th percentile there. Lesion: with",
        "a border of 4 SR voxels.",
        "",
        *(f"- {key}: {value}" for key, value in provenance.items()),
        "",
        f"| method | PSNR (dB) | over {methods[0]} (dB; least to most) | NRMSE | SSIM | lesion PSNR (dB) |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in summary(scores, methods).items():
        lines.append(
            f"| {method} | {row['psnr']:.2f} | {row['gain']:+.2f} ({row['gain_least']:+.2f} to "
            f"{row['gain_most']:+.2f}) | {row['nrmse']:.4f} | {row['ssim']:.4f} | {row['psnr_lesion']:.2f} |"
        )
    metabolites = list(dict.fromkeys(s.metabolite for s in scores))
    lines += ["", "PSNR in the brain (dB) by map:", ""]
    lines += ["| method | " + " | ".join(metabolites) + " |", "|---" * (len(metabolites) + 1) + "|"]
    for method in methods:
        cells = [
            f"{_mean({s.subject: s.psnr for s in scores if (s.method, s.metabolite) == (method, m)}):.2f}"
            for m in metabolites
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_csv(scores: Sequence[Score], path: Path) -> None:
    """One line per subject, method and map."""
    with path.open("w", newline="") as f:
        rows = csv.DictWriter(f, [field.name for field in fields(Score)])
        rows.writeheader()
        rows.writerows(asdict(s) for s in scores)


def card_figures(scores: Sequence[Score], protocol: Protocol) -> dict[str, Any]:
    """What a card says of this evaluation: PSNR in the brain by method, and how it was obtained."""
    table = summary(scores, protocol.methods)
    return {
        "what": "mean in-brain PSNR in dB over maps, then subjects; data range = truth's 99.9th percentile",
        "subjects": len({s.subject for s in scores}),
        "seed": protocol.seed,
        "noise": protocol.noise,
        "regime": protocol.regime,
        **{method.replace("+", "_"): round(row["psnr"], 2) for method, row in table.items()},
    }


def _mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")
