"""Prepare a blinded reading study, and analyse what readers answered.

``python -m sr_core.evaluate.reading prepare --cases FOLDER... --out READING --seed S [--readers 3]``
``python -m sr_core.evaluate.reading analyse --key READING/key.json answers/*.json --out REPORT``
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from pathlib import Path

from .cases import read_cases
from .form import KEY_NAME, PAGE_NAME, prepare
from .study import ReadingError


def main() -> None:
    """Parse arguments and do as told; problems with the study end with status 2 and a message."""
    parser = argparse.ArgumentParser(prog="python -m sr_core.evaluate.reading")
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare", help="write one blinded page per reader, and the key")
    first.add_argument("--cases", nargs="+", type=Path, default=[], metavar="FOLDER",
                       help="a folder per case with a tumor, or lists of cases in TOML")  # fmt: skip
    first.add_argument("--healthy", nargs="+", type=Path, default=[], metavar="FOLDER",
                       help="the same of healthy cases: criteria about the tumor are not asked")  # fmt: skip
    first.add_argument("--out", required=True, type=Path, help="folder of the study")
    first.add_argument("--seed", required=True, type=int, help="of every order; readers must not know it")
    first.add_argument("--readers", type=int, default=3)
    first.add_argument("--colours", default="gray", help="matplotlib's colour map for NIfTI")
    last = commands.add_parser("analyse", help="unblind answers and write the report")
    last.add_argument("--key", required=True, type=Path, help=f"the study's {KEY_NAME}")
    last.add_argument("answers", nargs="+", type=Path, help="the file that each reader saved")
    last.add_argument(
        "--against", nargs="+", default=["bicubic"], metavar="METHOD", help="methods to compare with"
    )
    last.add_argument("--out", required=True, type=Path, help="folder of the report")
    chosen = parser.parse_args()
    try:
        if chosen.command == "prepare":
            _prepare(chosen)
        else:
            _analyse(chosen)
    except ReadingError as e:
        parser.exit(2, f"{e}\n")


def _prepare(chosen: argparse.Namespace) -> None:
    cases = read_cases(chosen.cases, chosen.healthy)
    key = prepare(cases, chosen.out, chosen.seed, chosen.readers, chosen.colours)
    for form in key.forms:
        page = chosen.out / f"reader-{form.reader}" / PAGE_NAME
        print(f"for reader {form.reader}: {page} ({len(form.items)} images)")  # noqa: T201
    print(f"for you alone: {chosen.out / KEY_NAME}")  # noqa: T201


def _analyse(chosen: argparse.Namespace) -> None:
    from sr_core.model import source_commit

    from .answers import read_answers
    from .report import findings, markdown, write
    from .study import read_key

    key = read_key(chosen.key)
    readings = read_answers(key, chosen.answers)
    found = findings(key, readings, chosen.against)
    provenance = {
        "command": "python -m sr_core.evaluate.reading " + shlex.join(sys.argv[1:]),
        "commit": source_commit(),
        **{p.name: f"sha256 {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in chosen.answers},
    }
    report = markdown(found, key, provenance)
    write(found, readings, report, chosen.out)
    print(report)  # noqa: T201


if __name__ == "__main__":
    main()
