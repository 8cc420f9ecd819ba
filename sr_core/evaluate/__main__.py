"""Evaluate methods on simulated studies: predictions are kept, scored, and reported in RESULTS.md.

``python -m sr_core.evaluate CONFIG [--part test] [--jobs N] …`` goes on where it stopped.
``python -m sr_core.evaluate --publish OUT …`` makes one page of finished runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from sr_core.model import source_commit
from sr_core.resolve import SHIPPED

from .cases import cases
from .illustrate import illustrate
from .protocol import read
from .publish import publish, record
from .report import Run, markdown, of_protocol, write
from .report import read as read_run
from .run import Bench, run
from .score import Score

_PAGE = Path(__file__).parent / "RESULTS.md"
_PICTURES = Path(__file__).parents[2] / "deploy" / "docs" / "figures"


def main() -> None:
    """Parse arguments, evaluate, print and write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m sr_core.evaluate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "config", type=Path, nargs="?", help="a protocol, such as config/evaluate/default.toml"
    )
    parser.add_argument("--part", help="part of the split, instead of the protocol's")
    parser.add_argument("--data", help="folder of label maps, instead of the protocol's")
    parser.add_argument(
        "--pool-data", help="folder that a pool's paths are relative to, instead of the protocol's"
    )
    parser.add_argument(
        "--weights", type=Path, default=SHIPPED, help="folder of the networks; else the shipped ones"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the run, instead of runs/evaluate/<protocol>/<part>"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side, of one thread each")
    parser.add_argument("--fresh", action="store_true", help="resolve again what is kept")
    parser.add_argument("--report", action="store_true", help="only write the report of a finished run again")
    parser.add_argument("--record", action="store_true", help="write the figures on the networks' cards")
    parser.add_argument("--publish", type=Path, nargs="+", metavar="OUT", help="folders of finished runs")
    chosen = parser.parse_args()
    if chosen.publish:
        publish(chosen.publish, _PAGE, _PICTURES)
        return
    if chosen.config is None:
        parser.error("a protocol is needed")
    protocol = read(chosen.config)
    protocol = replace(
        protocol,
        part=chosen.part or protocol.part,
        data=chosen.data or protocol.data,
        pool_data=chosen.pool_data or protocol.pool_data,
    )
    out = chosen.out or Path("runs/evaluate") / protocol.name / protocol.part
    bench = Bench(protocol, out, chosen.weights, source_commit(), chosen.fresh)
    if chosen.report:
        found = of_protocol(protocol, read_run(out).scores, read_run(out).provenance)
    else:
        found = evaluate(bench, chosen.jobs)
    write(found, out)
    illustrate(replace(bench, fresh=False), found, out / "figures")
    print(markdown(found))  # noqa: T201
    if chosen.record:
        used = {
            key: [v.name for v in protocol.methods if bench.network_of(v) == key] for key in bench.networks()
        }
        record(found, used)


def evaluate(bench: Bench, jobs: int) -> Run:
    """Resolve and score every case of ``bench``, with a progress bar."""
    protocol = bench.protocol
    provenance = {"command": "python -m sr_core.evaluate " + shlex.join(sys.argv[1:])}
    for (folder, name), digest in bench.networks().items():
        where = "" if folder == SHIPPED else f" in {folder}"
        provenance[f"weights of {name}{where}"] = f"sha256 {digest}"
    scores: list[Score] = []
    with Progress() as bar:
        task = bar.add_task(f"{protocol.name}, {protocol.part}", total=len(cases(protocol)))
        for of_case in run(bench, jobs):
            scores += of_case
            bar.advance(task)
    return of_protocol(protocol, scores, provenance)


if __name__ == "__main__":
    main()
