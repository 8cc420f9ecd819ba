"""Scores as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from . import paper, statistics
from .gains import Estimate, by_subject, gain, level, values_of
from .score import Score
from .targets import Target, cell_words, cells

Scores = Sequence[Score]
Lines = list[str]

# Heading, figure, digits. Gains of the first two are shown too.
_MERITS = (
    ("NRMSE", "nrmse", 4),
    ("SSIM", "ssim_brain", 4),
    ("MS-SSIM", "ms_ssim", 4),
    ("FSIM", "fsim_brain", 4),
    ("GMSD", "gmsd", 4),
    ("HFEN", "hfen", 3),
    ("gradient ratio", "sharpness", 3),
    ("GM/WM contrast", "contrast", 3),
    ("DC error", "dc_error", 5),
    ("Dice", "dice", 3),
    ("HD95 mm", "hd95_mm", 2),
    ("bias %", "bias_percent", 2),
    ("recovery", "recovery", 3),
    ("false lesion %", "false_lesion_percent", 2),
    ("s", "seconds", 1),
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table, and an empty line."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def paper_table(scores: Scores, methods: Sequence[str], number: int) -> Lines:
    """PSNR, SSIM and FSIM of the full frame with gains over the first method, beside the paper's gains.

    p of PSNR: Wilcoxon over subjects with Holm over the methods, and Mann–Whitney as in the paper.
    """
    baseline = methods[0]
    figures = paper.FIGURES
    gains = {f: {m: gain(scores, m, baseline, f"{f}_full") for m in methods[1:]} for f in figures}
    adjusted = holm(gains["psnr"])
    heads = ["method"]
    for f in figures:
        heads += [f.upper(), f"Δ{f.upper()} [95 %], worst", "paper"]
    heads += ["p, Wilcoxon (Holm)", "p, Mann–Whitney (paper's test)"]
    rows = []
    for m in methods:
        published = paper.gain(number, m)
        cells_ = [m]
        for f in figures:
            digits = 2 if f == "psnr" else 3
            theirs = "–" if published is None else f"{getattr(published, f):+.{digits}f}"
            cells_ += [_mean(scores, m, f"{f}_full", digits), _gain(gains[f].get(m), digits), theirs]
        found = gains["psnr"].get(m)
        cells_ += [_p(adjusted.get(m)), _p(found.p_unpaired if found else None)]
        rows.append(cells_)
    return table(heads, rows)


def merit_table(scores: Scores, methods: Sequence[str]) -> Lines:
    """Every figure that was computed, by method, and gains in PSNR over the first one."""
    baseline = methods[0]
    frames = [(f"PSNR {f}", f"psnr_{f}") for f in ("full", "brain", "zone") if _any(scores, f"psnr_{f}")]
    merits = [m for m in _MERITS if _any(scores, m[1])]
    gains = {figure: {m: gain(scores, m, baseline, figure) for m in methods[1:]} for _, figure in frames}
    adjusted = {figure: holm(found) for figure, found in gains.items()}
    heads = ["method"]
    for words, _ in frames:
        heads += [words, "gain [95 %], worst, p"]
    rows = []
    for m in methods:
        cells_ = [m]
        for _, figure in frames:
            found, p = gains[figure].get(m), adjusted[figure].get(m)
            words = _gain(found, 2) + (f"; p {_p(p)}" if p is not None else "")
            cells_ += [_mean(scores, m, figure, 2), words]
        rows.append([*cells_, *(_mean(scores, m, figure, digits) for _, figure, digits in merits)])
    return table([*heads, *(words for words, _, _ in merits)], rows)


def map_table(scores: Scores, methods: Sequence[str]) -> Lines:
    """PSNR in the brain (in the zone) by map; nothing for one map."""
    maps = list(dict.fromkeys(s.metabolite for s in scores))
    if len(maps) < 2:
        return []
    rows = []
    for m in methods:
        cells_ = [m]
        for name in maps:
            own = [s for s in scores if s.metabolite == name]
            zone = _mean(own, m, "psnr_zone", 2)
            cells_.append(_mean(own, m, "psnr_brain", 2) + ("" if zone == "–" else f" ({zone})"))
        rows.append(cells_)
    return ["PSNR in the brain (in the zone) by map:", "", *table(["method", *maps], rows)]


def cell_table(
    scores: Scores, methods: Sequence[str], find: Callable[[Scores, str], Estimate | None], digits: int
) -> Lines:
    """``find`` for each regime and level of noise (rows) and method (columns); empty rows are left out."""
    rows = []
    for cell, own in cells(scores).items():
        found = [find(own, m) for m in methods]
        if any(found):
            rows.append([cell_words(cell), *(_estimate(e, digits) for e in found)])
    return table(["regime, noise", *methods], rows) if rows else []


def gain_cells(scores: Scores, methods: Sequence[str], figure: str) -> Lines:
    """Gains in ``figure`` over the first method, by regime and level of noise."""
    return cell_table(scores, methods[1:], lambda own, m: gain(own, m, methods[0], figure), 2)


def level_cells(scores: Scores, methods: Sequence[str], figure: str, digits: int) -> Lines:
    """``figure`` itself, by regime and level of noise."""
    return cell_table(scores, methods, lambda own, m: level(own, m, figure), digits)


def target_table(found: Iterable[Target]) -> Lines:
    """The check list."""
    verdict = {True: "reached", False: "missed", None: "not run"}
    return table(
        ["", "figure to reach", "found", "", "short by"],
        [[t.number, t.words, t.found, verdict[t.reached], t.short] for t in found],
    )


def holm(gains: dict[str, Estimate | None]) -> dict[str, float]:
    """Holm's p by method, of those that have one."""
    raw = {name: g.p for name, g in gains.items() if g is not None and g.p is not None}
    return dict(zip(raw, statistics.holm(list(raw.values())), strict=True))


def _any(scores: Scores, figure: str) -> bool:
    return any(np.isfinite(s[figure]) for s in scores)


def _mean(scores: Scores, method: str, figure: str, digits: int) -> str:
    values = values_of(scores, method, figure)
    return f"{statistics.mean(by_subject(values)):.{digits}f}" if values else "–"


def _gain(g: Estimate | None, digits: int) -> str:
    if g is None:
        return "–"
    d = digits
    return f"{g.mean:+.{d}f} [{g.low:+.{d}f}, {g.high:+.{d}f}], {g.worst:+.{d}f} ({g.where.subject})"


def _estimate(e: Estimate | None, digits: int) -> str:
    if e is None:
        return "–"
    d = digits
    return f"{e.mean:+.{d}f} [{e.low:+.{d}f}, {e.high:+.{d}f}]; {e.worst:+.{d}f}"


def _p(p: float | None) -> str:
    return "–" if p is None else f"{p:.2g}"
