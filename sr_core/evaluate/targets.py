"""What was to be reached, and what was: computed from scores, misses included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from . import paper
from .cases import EXTERNAL, INTERNAL
from .gains import Estimate, by_subject, gain, level, level_words, values_of
from .protocol import HEALTHY
from .score import Score
from .statistics import mean

CLINICAL = "unet+fnlm+dc"
MATCHED = "unet2, trained on matching MRI"
PAPERS = "unet, trained on the paper's model"
PLAIN = "bicubic, plain"
_MISMATCHED = ("mismatch", "larger", "shifted", "mrsi_only", "mri_only", "misregistered")
_FALSE_LESION_PERCENT = 5.0
_EXTERNAL_SHARE = 0.7
_GAN_COST_DB = 1.0

Scores = Sequence[Score]


@dataclass(frozen=True)
class Target:
    """One figure to reach. ``reached`` None: what it needs was not run. ``found``: what was measured.

    ``short``: by how much it was missed, in words; "" if it was not.
    """

    number: str
    words: str
    found: str
    reached: bool | None
    short: str = ""


def targets(runs: Mapping[str, Scores]) -> list[Target]:
    """The list, from the scores of the runs "table1", "table2", "matched" and "regimes" that there are.

    "Everywhere" and "never" mean that the 95 % interval of the mean lies on the right side in each cell
    of regime and noise; the worst single map is named with it.
    """
    two = runs.get("table2", ())
    return [
        _at_least("U-Net, one input, as shipped, over aligned bicubic", two, "unet", 3.5),
        _at_least("U-Net, one input, trained on the paper's model", runs.get("matched", ()), PAPERS, 3.5),
        _at_least("U-Net, two inputs, trained on matching MRI", runs.get("matched", ()), MATCHED, 8.0),
        _at_least("U-Net, two inputs, as shipped, MRI matches", two, "unet2", 6.0),
        *(_sharper(two, gan, unet) for gan, unet in (("gan", "unet"), ("gan2", "unet2"))),
        *(
            _papers_gain(n, runs.get(f"table{n}", ()), method)
            for n, methods in ((1, ("unet", "gan")), (2, ("unet+fnlm", "unet2", "gan2")))
            for method in methods
        ),
        *(_ordering(n, runs.get(f"table{n}", ())) for n in (1, 2)),
        *_in_every_cell(runs.get("regimes", ()), ""),
        *(_in_every_cell(runs["regimes_rich"], ", richer model") if "regimes_rich" in runs else ()),
        *(_external(two, m) for m in ("unet", "unet2", "unet+fnlm", "unet+dc", "unet2+dc", CLINICAL)),
    ]


def _in_every_cell(regimes: Scores, model: str) -> list[Target]:
    """The figures that hold for regimes × noise; ``model`` is added to their words."""
    matching = [s for s in regimes if s.regime in (HEALTHY, "match")]
    apart = [s for s in regimes if s.regime in _MISMATCHED]
    return [
        _everywhere(f"unet+dc above TV + DC everywhere{model}", regimes, "unet+dc", "tv", "psnr_full"),
        _everywhere(
            f"unet2+dc at least 1 dB above directional TV + DC where MRI matches{model}",
            *(matching, "unet2+dc", "dtv", "psnr_full", 1.0),
        ),
        _everywhere(
            f"unet2+dc not below TV + DC in the tumour zone where MRI does not match{model}",
            *(apart, "unet2+dc", "tv", "psnr_zone"),
        ),
        _everywhere(
            f"{CLINICAL} never below bicubic in the tumour zone{model}",
            *(regimes, CLINICAL, "bicubic", "psnr_zone"),
        ),
        _false_lesion(regimes, model),
    ]


def cells(scores: Iterable[Score]) -> dict[tuple[str, float, float | None], list[Score]]:
    """Scores by regime and level of noise, in the order in which they come."""
    found: dict[tuple[str, float, float | None], list[Score]] = {}
    for s in scores:
        found.setdefault((s.regime, s.noise, None if np.isnan(s.snr) else s.snr), []).append(s)
    return found


def cell_words(cell: tuple[str, float, float | None]) -> str:
    """A cell, as a report says it."""
    return f"{cell[0]}, {level_words(*cell[1:])}"


def _at_least(words: str, scores: Scores, method: str, goal: float) -> Target:
    """The mean gain in PSNR, full frame, over bicubic interpolation alone; beside it, over the node's."""
    words = f"{words}: ≥ {goal:+g} dB"
    found, over_ours = (gain(scores, method, b, "psnr_full") for b in (PLAIN, "bicubic"))
    if found is None or over_ours is None:
        return _not_run("1", words)
    short = goal - found.mean
    said = f"{_gain_words(found)}; over the node's bicubic, cut to the brain: {_gain_words(over_ours)}"
    return Target("1", words, said, short <= 0, "" if short <= 0 else f"{short:.2f} dB")


def _sharper(scores: Scores, gan: str, unet: str) -> Target:
    """Gradient ratio nearer to 1, HFEN lower or equal, at most 1 dB of PSNR lost."""
    words = (
        f"{gan} sharper than {unet}: gradient ratio nearer to 1, HFEN not higher, ≤ {_GAN_COST_DB:g} dB lost"
    )
    found = {name: [_mean(scores, m, name) for m in (gan, unet)] for name in ("sharpness", "hfen")}
    cost = gain(scores, gan, unet, "psnr_full")
    if cost is None:
        return _not_run("1", words)
    (sharp, blunt), (ours, theirs) = found["sharpness"], found["hfen"]
    said = f"gradient ratio {sharp:.3f} against {blunt:.3f}, HFEN {ours:.3f} against {theirs:.3f}, "
    said += f"{cost.mean:+.2f} dB [{cost.low:+.2f}, {cost.high:+.2f}]"
    missed = [
        *(
            [f"gradient ratio {abs(sharp - 1) - abs(blunt - 1):.3f} farther from 1"]
            if abs(sharp - 1) >= abs(blunt - 1)
            else []
        ),
        *([f"HFEN {ours - theirs:.3f} higher"] if ours > theirs else []),
        *([f"{-cost.mean - _GAN_COST_DB:.2f} dB too dear"] if cost.mean < -_GAN_COST_DB else []),
    ]
    return Target("1", words, said, not missed, "; ".join(missed))


def _papers_gain(table: int, scores: Scores, method: str) -> Target:
    """The paper's own gains over its bicubic, in PSNR, SSIM and FSIM."""
    published = paper.gain(table, method)
    assert published is not None  # only methods of the tables are asked for
    goals = {figure: float(getattr(published, figure)) for figure in paper.FIGURES}
    goal = ", ".join(_amount(f, v) for f, v in goals.items())
    words = f"Table {table}, {method}: the paper's gains over bicubic, {goal}"
    if table == 1:
        words += " (reported; agreement with FNLM)"
    ours, over_plain = (
        {f: g.mean for f in goals if (g := gain(scores, method, b, f"{f}_full")) is not None}
        for b in ("bicubic", PLAIN)
    )
    if len(ours) < len(goals):
        return _not_run("1", words)
    missed = [f"{_amount(f, ours[f] - goals[f])}" for f in goals if ours[f] < goals[f]]
    said = ", ".join(_amount(f, v) for f, v in ours.items())
    if over_plain:
        said += "; over interpolation alone: " + ", ".join(_amount(f, v) for f, v in over_plain.items())
    return Target("1", words, said, not missed, "; ".join(missed))


def _ordering(table: int, scores: Scores) -> Target:
    """Of every two of the paper's methods, whether the better one in PSNR is the better one here."""
    words = f"Table {table}: the paper's order of methods by PSNR"
    methods = [m for m in paper.TABLES[table] if values_of(scores, m, "psnr_full")]
    if len(methods) < 2:
        return _not_run("1", words)
    turned = []
    pairs = list(combinations(methods, 2))
    for a, b in pairs:
        theirs = paper.TABLES[table][a].psnr - paper.TABLES[table][b].psnr
        ours = gain(scores, a, b, "psnr_full")
        assert ours is not None  # both have scores, on the same cases
        if theirs * ours.mean < 0:
            better, worse = (a, b) if ours.mean > 0 else (b, a)
            turned.append(
                f"{better} above {worse} by {abs(ours.mean):.2f} dB (paper: {abs(theirs):.2f} below)"
            )
    said = f"{len(pairs) - len(turned)} of {len(pairs)} pairs as in the paper"
    return Target("1", words, said, not turned, "; ".join(turned))


def _everywhere(
    words: str, scores: Scores, method: str, baseline: str, figure: str, goal: float = 0.0
) -> Target:
    """In each cell, the interval of the mean gain lies at or above ``goal``."""
    found = {
        cell: g
        for cell, own in cells(scores).items()
        if (g := gain(own, method, baseline, figure)) is not None
    }
    if not found:
        return _not_run("2", words)
    below = {cell: g for cell, g in found.items() if g.low < goal}
    least = min(found, key=lambda c: found[c].low)
    worst = min(found.values(), key=lambda g: g.worst)
    said = f"{len(found) - len(below)} of {len(found)} cells; "
    said += f"lowest {cell_words(least)}: {_gain_words(found[least])}; "
    said += f"worst map of all {worst.worst:+.2f} dB ({worst.where})"
    short = "; ".join(f"{cell_words(c)}: {goal - g.low:.2f} dB" for c, g in below.items())
    return Target("2", words, said, not below, short)


def _false_lesion(scores: Scores, model: str) -> Target:
    """A lesion only in MRI must not appear: its amplitude in the result, at every level of noise."""
    words = (
        f"Lesion only in MRI, {CLINICAL}: amplitude < {_FALSE_LESION_PERCENT:g} % of the true contrast{model}"
    )
    found = {
        cell: e
        for cell, own in cells(scores).items()
        if (e := level(own, CLINICAL, "false_lesion_percent")) is not None
    }
    if not found:
        return _not_run("3", words)
    said = "; ".join(
        f"{level_words(*cell[1:])}: {e.mean:.2f} % [{e.low:.2f}, {e.high:.2f}], "
        f"worst {e.worst:.2f} % ({e.where.subject})"
        for cell, e in found.items()
    )
    above = {cell: e for cell, e in found.items() if e.high >= _FALSE_LESION_PERCENT}
    short = "; ".join(
        f"{level_words(*c[1:])}: {e.high - _FALSE_LESION_PERCENT:.2f} points" for c, e in above.items()
    )
    return Target("3", words, said, not above, short)


def _external(scores: Scores, method: str) -> Target:
    """The gain over bicubic on external anatomies, against the internal one."""
    words = f"External anatomies, {method}: gain over bicubic within 30 % of the internal one"
    inner, outer = (
        gain([s for s in scores if s.source == source], method, "bicubic", "psnr_full")
        for source in (INTERNAL, EXTERNAL)
    )
    if inner is None or outer is None:
        return _not_run("4", words)
    said = f"{_gain_words(outer)} (n = {outer.n}) against {_gain_words(inner)} (n = {inner.n})"
    short = _EXTERNAL_SHARE * inner.mean - outer.mean
    return Target("4", words, said, short <= 0, "" if short <= 0 else f"{short:.2f} dB")


def _not_run(number: str, words: str) -> Target:
    return Target(number, words, "not run", None)


def _mean(scores: Scores, method: str, figure: str) -> float:
    return mean(by_subject(values_of(scores, method, figure)))


def _gain_words(g: Estimate) -> str:
    return f"{g.mean:+.2f} dB [{g.low:+.2f}, {g.high:+.2f}]"


def _amount(figure: str, value: float) -> str:
    return f"{value:+.2f} dB" if figure == "psnr" else f"{figure.upper()} {value:+.3f}"
