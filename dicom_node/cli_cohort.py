"""The verb of the command line for many cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .cli_common import AsJson, ConfigFile, err, load_settings, print_json
from .cli_common import out as console
from .errors import BadConfiguration


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(cohort)


def cohort(
    folder: Annotated[Path, typer.Argument(help="A folder with a case in each of its folders.")],
    out: Annotated[Path, typer.Option("--out", help="Results, cohort.csv, .parquet and .html.")],
    method: Annotated[str, typer.Option(help="For instance bicubic, unet+fnlm+dc.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Cases at once; each may need 3 GB.")] = 1,
    layout: Annotated[
        str, typer.Option(help="results, or bids: one BIDS data set in <out>/bids.")
    ] = "results",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Super-resolve many cases; one table and one report of all. Goes on where it was interrupted.

    A case that fails is listed with its reason and does not stop the others; the exit code is then 2.

    Example: mrsi-node cohort study/ --out results/ --method unet+fnlm+dc --jobs 2
    """
    from .cohort import CaseRef, run_cohort
    from .research import with_method

    if layout not in ("results", "bids"):
        raise BadConfiguration(f"layout {layout!r}: one of results, bids")
    settings = with_method(load_settings(config_file), method)
    columns = (
        TextColumn("cases"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        shown = bar.add_task("cases", total=None, last="")

        def begun(total: int, before: int) -> None:
            bar.update(shown, total=total, completed=before)
            if before:
                err.print(f"{before} of {total} cases were done before")

        def told(case: CaseRef, why: str) -> None:
            name = " ".join(filter(None, (case.subject, case.session)))
            bar.update(shown, advance=1, last=name)
            if why:
                err.print(f"failed: {name}: {why}")

        ended = run_cohort(folder, out, settings, jobs=jobs, layout=layout, begun=begun, told=told)
    if as_json:
        print_json({"done": ended.done, "before": ended.before, "failed": ended.failed})
    else:
        console.print(f"{ended.done} cases done, {ended.before} before, {len(ended.failed)} failed")
        for path in ended.files:
            console.print(f"  {path}")
    if ended.failed:
        raise typer.Exit(2)
