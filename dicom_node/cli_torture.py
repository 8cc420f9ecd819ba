"""The verb of the command line that proves the node's promises the hard way."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .cli_common import AsJson, err

# A load comes as fast as the node takes it, and waits in its own queue: a day's studies, done in two hours.
_LOAD_DONE_S = 7200.0


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(torture)


def torture(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long trouble is made.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Same seed, same plan.")] = 0,
    load: Annotated[
        int, typer.Option(min=0, help="No trouble, but so many studies as fast as the node takes them.")
    ] = 0,
    only: Annotated[
        str,
        typer.Option(metavar="WORDS", help='Only troubles with these words in their name, e.g. "kill -9".'),
    ] = "",
    echo_s: Annotated[
        float,
        typer.Option(min=0.01, help="Seconds in which a C-ECHO must be answered."),
    ] = 1.0,
    out: Annotated[Path | None, typer.Option(help="A folder for report.md and report.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Torture a throw-away node and report what was lost, doubled or late. Exit code 0: nothing was.

    No configured node is touched: this one has its own folder and ports, and is removed if all is well.

    Example: mrsi-node torture --minutes 30 --seed 7 --out report/
    Example: mrsi-node torture --minutes 60 --only "kill -9" --out kills/
    Example: mrsi-node torture --load 1500 --out load/
    """
    from .torture import Orders, run
    from .torture.reckoning import Limits
    from .torture.run import throw_away
    from .torture.troubles import catalogue

    kinds = [trouble for trouble in catalogue() if only in trouble.name]
    if not kinds:
        names = ", ".join(trouble.name for trouble in catalogue())
        raise typer.BadParameter(f"no trouble has {only!r} in its name, only: {names}", param_hint="--only")
    limits = Limits(echo_s=echo_s, done_s=_LOAD_DONE_S) if load else Limits(echo_s=echo_s)
    folder = throw_away()
    with Progress(
        BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("starting", total=1.0)
        report = run(
            Orders(minutes=minutes, seed=seed, load=load, limits=limits, troubles=kinds),
            folder,
            lambda words, share: bar.update(task, description=words, completed=share),
        )
    as_text = json.dumps(report.as_json(), indent=1, ensure_ascii=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(report.as_markdown())
        (out / "report.json").write_text(as_text + "\n")
    sys.stdout.write((as_text if as_json else report.as_markdown()) + "\n")
    if report.clean:
        shutil.rmtree(folder.parent, ignore_errors=True)
        return
    err.print(f"what is left of the node and the PACS, for whoever looks into it: {folder}")
    raise typer.Exit(1)
