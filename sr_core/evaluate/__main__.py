"""Evaluate methods on simulated studies and write RESULTS.md and scores.csv.

``python -m sr_core.evaluate CONFIG [--part test] [--data FOLDER] [--weights FOLDER] [--out FOLDER]
[--record]``
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from sr_core.model import load_model, source_commit, to_toml

from .protocol import read, subjects
from .report import card_figures, markdown, write_csv
from .score import Score, run

_NETWORK = "unet"


def main() -> None:
    """Parse arguments, evaluate, print and write the report."""
    parser = argparse.ArgumentParser(prog="python -m sr_core.evaluate", description=__doc__)
    parser.add_argument("config", type=Path, help="a protocol, such as config/evaluate/default.toml")
    parser.add_argument("--part", help="part of the split, instead of the protocol's")
    parser.add_argument("--data", help="folder of label maps, instead of the protocol's")
    parser.add_argument("--weights", type=Path, help="folder of the networks; the shipped ones if left out")
    parser.add_argument("--out", type=Path, help="folder for the report, instead of runs/evaluate/<protocol>")
    parser.add_argument("--record", action="store_true", help="write the figures on the network's card")
    chosen = parser.parse_args()
    protocol = read(chosen.config)
    if chosen.part:
        protocol = replace(protocol, part=chosen.part)
    if chosen.data:
        protocol = replace(protocol, data=chosen.data)
    if chosen.record:
        card_figures((), protocol)  # refuses before hours are spent
    folder = chosen.weights or Path(__file__).parent.parent / "weights"
    provenance = {
        "command": "python -m sr_core.evaluate " + shlex.join(sys.argv[1:]),
        "commit": source_commit(),
    }
    if any(v.method.startswith(_NETWORK) for v in protocol.methods):
        provenance["weights"] = f"sha256 {load_model(folder, _NETWORK).sha256}"

    scores: list[Score] = []
    studies = len(subjects(protocol)) * len(protocol.conditions())
    with Progress() as bar:
        task = bar.add_task(protocol.part, total=studies * len(protocol.methods))
        seen = set()
        for s in run(protocol, chosen.weights):
            scores.append(s)
            seen.add((s.subject, s.regime, s.noise, str(s.snr), s.draw, s.method))
            bar.update(task, completed=len(seen))
    report = markdown(scores, protocol, provenance)
    out = (chosen.out or Path("runs/evaluate") / chosen.config.stem) / protocol.part
    out.mkdir(parents=True, exist_ok=True)
    (out / "RESULTS.md").write_text(report)
    write_csv(scores, out / "scores.csv")
    print(report)  # noqa: T201
    if chosen.record:
        card = folder / f"{_NETWORK}.card.toml"
        table = tomllib.loads(card.read_text())
        table["figures"] = {**table["figures"], protocol.part: card_figures(scores, protocol)}
        part = card.with_suffix(".part")
        part.write_text(to_toml(table))
        part.replace(card)


if __name__ == "__main__":
    main()
