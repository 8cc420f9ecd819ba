"""A finished evaluation on disk and as a page; several of them as RESULTS.md."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from . import statistics
from .cases import EXTERNAL, INTERNAL
from .protocol import HEALTHY, Protocol
from .score import FIGURES, Score
from .tables import Lines, gain_cells, level_cells, map_table, merit_table, paper_table, target_table
from .targets import cell_words, cells, targets

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
_FEW_CELLS = 3  # up to so many conditions each has a table of its own figures; beyond, they share one
_CSV = "scores.csv"
_ABOUT = "run.json"


@dataclass(frozen=True)
class Run:
    """A finished evaluation: what its report is written from, and nothing else.

    ``methods`` by name, the baseline first. ``about``: sentences on how it was made. ``provenance``:
    command, commit, weights.
    """

    name: str
    part: str
    methods: tuple[str, ...]
    table: int | None
    about: tuple[str, ...]
    provenance: Mapping[str, str]
    scores: tuple[Score, ...]


def of_protocol(protocol: Protocol, scores: Sequence[Score], provenance: Mapping[str, str]) -> Run:
    """The run of ``protocol`` that gave ``scores``."""
    names = {source: _names(scores, source) for source in (INTERNAL, EXTERNAL)}
    who = "; ".join(f"{len(n)} {source}: {', '.join(n)}" for source, n in names.items() if n)
    model = "the paper's model, τ evenly from its seven" if protocol.model == "paper" else "seven metabolites"
    truth = "1 mm maps cropped in k-space to the SR grid"
    if protocol.truth == 2:
        truth = "what the FNLM pipeline makes of exact LR maps: figures say agreement with FNLM, not accuracy"
    about = [
        f"n = {len(_names(scores))} subjects ({who}), each simulated {protocol.draws} time(s) per regime and",
        f"level of noise ({model}); seed {protocol.seed}; k-space filter: {protocol.psf}. Truth: {truth}.",
    ]
    if any(c.noisy for c in protocol.conditions()):
        export = "values in the brain" if protocol.masked else "values in the whole field of view"
        about.append(f"With noise: {'with' if protocol.artefacts else 'no'} artefacts, {export}.")
    seen = {"commit": ", ".join(sorted({s.commit for s in scores})), **_used_otherwise(scores)}
    return Run(
        protocol.name,
        protocol.part,
        tuple(v.name for v in protocol.methods),
        protocol.table,
        tuple(about),
        {**provenance, **seen},
        tuple(scores),
    )


def _used_otherwise(scores: Sequence[Score]) -> dict[str, str]:
    """Methods that some case did not allow as they are, in words."""
    other: dict[tuple[str, str], int] = {}
    for s in scores:
        if s.used != s.requested:
            other[s.method, s.used] = other.get((s.method, s.used), 0) + 1
    words = [f"{method} as {used} on {n} map(s)" for (method, used), n in other.items()]
    return {"ran otherwise": "; ".join(words)} if words else {}


def write(run: Run, folder: Path) -> None:
    """Scores as CSV, what they are of as JSON, and the page; ``read`` takes the first two back."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(run.scores, folder / _CSV)
    about = {f.name: getattr(run, f.name) for f in fields(run) if f.name != "scores"}
    (folder / _ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False, default=dict))
    (folder / "RESULTS.md").write_text(markdown(run))


def read(folder: Path) -> Run:
    """A run that was written to ``folder``. Raises FileNotFoundError if there is none."""
    about = json.loads((folder / _ABOUT).read_text())
    for key in ("methods", "about"):
        about[key] = tuple(about[key])
    return Run(**about, scores=tuple(_read_csv(folder / _CSV)))


def markdown(run: Run) -> str:
    """The page of one run: how it was made, its tables, each condition's figures, and its targets."""
    lines = [f"# Evaluation {run.name} on {run.part} subjects", "", *_made(run), *_legend(run)]
    lines += _paper_tables(run)
    lines += _regimes(run)
    for cell, own in cells(run.scores).items():
        lines += [f"## {cell_words(cell)} ({_WORDS[cell[0]]})", "", *merit_table(own, run.methods)]
        lines += map_table(own, run.methods)
    return "\n".join([*lines, *_targets({run.name: run.scores})]).rstrip() + "\n"


def published(runs: Sequence[Run], pictures: Mapping[str, Sequence[str]]) -> str:
    """RESULTS.md of several runs. ``pictures``: paths to show, by the run's name."""
    lines = [
        "# Results",
        "",
        "Simulated MRSI on anatomies that no weight was trained on: internal ones are label maps of the",
        "collection that training subjects come from, external ones of other collections. Written by",
        "`python -m sr_core.evaluate --publish`; nothing in it is typed by hand.",
        "",
        "## Figures to reach",
        "",
        *_targets({r.name: r.scores for r in runs}, heading=False),
        *_legend(runs[0]),
    ]
    for run in runs:
        lines += [f"## {run.name}, {run.part} subjects", "", *_made(run)]
        lines += _paper_tables(run, depth=3)
        lines += _regimes(run, depth=3)
        if len(cells(run.scores)) <= _FEW_CELLS:
            for cell, own in cells(run.scores).items():
                lines += [f"### {cell_words(cell)} ({_WORDS[cell[0]]})", "", *merit_table(own, run.methods)]
        for path in pictures.get(run.name, ()):
            lines += [f"![{run.name}: {Path(path).stem}]({path})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _made(run: Run) -> Lines:
    return [*run.about, "", *(f"- {key}: {value}" for key, value in run.provenance.items()), ""]


def _legend(run: Run) -> Lines:
    return [
        "Figures are means over maps, then studies, then subjects. PSNR, SSIM and FSIM: data range = the",
        "truth's maximum. Full: the whole field of view (SSIM, FSIM: its planes that hold brain); zone: the",
        "metabolic lesion (where only anatomy shows one, that) with a border of 4 SR voxels. Gains are",
        f"paired, over {run.methods[0]}; in brackets the 95 % interval of the mean (bootstrap: subjects,",
        "studies within), then the worst single map. p: Wilcoxon over subjects, Holm over the methods of a",
        f"table; left out with fewer than {statistics.FEWEST_PAIRS} subjects. Gradient ratio: 1 is as sharp",
        "as the truth. Dice and HD95 at half maximum, midway between the truth's medians in normal tissue",
        "and lesion. Recovery: share of the lesion's true contrast; false lesion: what a lesion only on",
        "anatomy adds, in % of the contrast it would have had.",
        "",
    ]


def _paper_tables(run: Run, depth: int = 2) -> Lines:
    """The paper's table redone: all subjects, and internal, external, healthy and tumour apart."""
    if run.table is None:
        return []
    hashes = "#" * depth
    kind = "agreement with FNLM (ground truth of type 2)" if run.table == 1 else "ground truth of type 1"
    lines = [f"{hashes} Table {run.table} of the paper, redone: {kind}", ""]
    sets = {"healthy and tumour, all subjects": run.scores}
    for source in (INTERNAL, EXTERNAL):
        sets[f"{source} subjects"] = tuple(s for s in run.scores if s.source == source)
    sets["healthy"] = tuple(s for s in run.scores if s.regime == HEALTHY)
    sets["tumour"] = tuple(s for s in run.scores if s.regime != HEALTHY)
    for words, scores in sets.items():
        if scores and (scores is run.scores or len(scores) < len(run.scores)):
            n = len(_names(scores))
            lines += [f"{hashes}# {words} (n = {n})", "", *paper_table(scores, run.methods, run.table)]
    return lines


def _regimes(run: Run, depth: int = 2) -> Lines:
    """Regimes × noise, where there are many of them."""
    if len(cells(run.scores)) <= _FEW_CELLS:
        return []
    hashes = "#" * depth
    lines = [f"{hashes} Regimes × noise", "", *(f"- {r}: {_WORDS[r]}" for r in _regimes_of(run)), ""]
    for figure, words in (("psnr_full", "full frame"), ("psnr_brain", "brain"), ("psnr_zone", "tumour zone")):
        rows = gain_cells(run.scores, run.methods, figure)
        lines += [f"{hashes}# Gain in PSNR over {run.methods[0]}, {words}, dB", "", *rows] if rows else []
    for figure, words, digits, regime in (
        ("recovery", "Lesion recovery where anatomy shows none: share of the true contrast", 3, "mrsi_only"),
        ("false_lesion_percent", "False lesion, % of the true contrast", 2, "mri_only"),
    ):
        rows = level_cells([s for s in run.scores if s.regime == regime], run.methods, figure, digits)
        lines += [f"{hashes}# {words}", "", *rows] if rows else []
    return lines


def _regimes_of(run: Run) -> list[str]:
    return list(dict.fromkeys(s.regime for s in run.scores))


def _targets(runs: Mapping[str, Sequence[Score]], heading: bool = True) -> Lines:
    """The check list, of what these runs can say; nothing if they say nothing."""
    found = targets(runs)
    if all(t.reached is None for t in found):
        return []
    if heading:
        found = [t for t in found if t.reached is not None]
    return [*(["## Figures to reach", ""] if heading else []), *target_table(found)]


def _names(scores: Sequence[Score], source: str | None = None) -> list[str]:
    return list(dict.fromkeys(s.subject for s in scores if source in (None, s.source)))


def _write_csv(scores: Sequence[Score], path: Path) -> None:
    """One line per case, method and map."""
    plain = [f.name for f in fields(Score) if f.name != "figures"]
    with path.open("w", newline="") as f:
        rows = csv.DictWriter(f, [*plain, *FIGURES], restval="nan")
        rows.writeheader()
        for s in scores:
            row = asdict(s)
            rows.writerow(row | row.pop("figures"))


def _read_csv(path: Path) -> list[Score]:
    with path.open(newline="") as f:
        return [
            Score(
                subject=row["subject"],
                source=row["source"],
                regime=row["regime"],
                noise=float(row["noise"]),
                snr=float(row["snr"]),
                draw=int(row["draw"]),
                tau=float(row["tau"]),
                method=row["method"],
                metabolite=row["metabolite"],
                requested=row["requested"],
                used=row["used"],
                commit=row["commit"],
                figures={n: float(row[n]) for n in FIGURES if row[n] != "nan"},
            )
            for row in csv.DictReader(f)
        ]
