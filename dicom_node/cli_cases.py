"""Verbs of the command line that need no running node: process, simulate, demo."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from .cli_common import AsJson, ConfigFile, err, load_settings, told
from .errors import BadConfiguration, UnsuitableInput


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (process, simulate, demo):
        app.command()(verb)


def process(
    case: Annotated[Path, typer.Argument(help="DICOM files (a folder or zip), or a research case (README).")],
    out: Annotated[Path, typer.Option("--out", help="Where dicom/, nifti/ and report.json are written.")],
    method: Annotated[str, typer.Option(help="For instance bicubic, unet+fnlm+dc.")] = "",
    layout: Annotated[str, typer.Option(help="results, or bids: add to a BIDS data set.")] = "results",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Super-resolve one case from disk, without any network or database.

    Example: mrsi-node process case/ --out out/ --method unet+fnlm+dc
    """
    from . import bids
    from .process import NothingToDo
    from .research import solve, with_method

    settings = with_method(load_settings(config_file), method)
    if layout not in ("results", "bids"):
        raise BadConfiguration(f"layout {layout!r}: one of results, bids")
    added = layout == "bids" and bids.is_ours(out)
    if out.exists() and not added and (not out.is_dir() or any(out.iterdir())):
        raise UnsuitableInput(f"{out} is not an empty folder: name a new one, so that no results mix")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "results"
        folder.mkdir()
        try:
            with err.status("starting") as spinner:
                solved = solve(case, folder, settings, spinner.update)
        except NothingToDo as problem:
            for f in problem.findings:
                err.print(f"  {f.description or f.series_uid}: {f.role}: {f.reason}")
            raise
        if layout == "bids":
            bids.arrange(folder, out)
        else:
            if out.exists():
                out.rmdir()
            shutil.move(folder, out)
    report = solved.report
    seconds = report["timings_s"]["total"]
    for warning in report["warnings"]:
        err.print(f"warning: {warning}")
    told(
        as_json,
        f"{len(report['maps'])} maps by {report['method']} in {seconds:.1f} s: {out}",
        folder=str(out),
        maps=report["maps"],
        method=report["method"],
        seconds=seconds,
        warnings=report["warnings"],
    )


def simulate(
    out: Annotated[Path, typer.Argument(help="A new folder for the case and its truth/.")],
    labels: Annotated[Path | None, typer.Option(help="NIfTI label map (FreeSurfer labels).")] = None,
    template: Annotated[str, typer.Option(help="Template brain; icbm152 needs the demo extra.")] = "icbm152",
    seed: Annotated[int, typer.Option(help="Same seed, same case.")] = 0,
    lesion: Annotated[str, typer.Option(help="Regime: match, mismatch or none.")] = "mismatch",
    form: Annotated[str, typer.Option("--format", help="dicom or nifti.")] = "dicom",
    maps: Annotated[str, typer.Option(help="Metabolites: the seven usual ones, or all twenty.")] = "usual",
    as_json: AsJson = False,
) -> None:
    """Write a simulated glioma study as a site would export it, with the truth beside it.

    Example: mrsi-node simulate case/ --template icbm152 --seed 1 --format dicom
    """
    from .simulate import write_case

    began = time.monotonic()
    write_case(out, labels=labels, template=template, seed=seed, lesion=lesion, form=form, maps=maps)
    seconds = round(time.monotonic() - began, 1)
    told(as_json, f"{out} in {seconds} s", folder=str(out), seconds=seconds)


def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder for everything the demo makes.")] = Path(
        "results"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same study.")] = 1,
) -> None:
    """Simulate a study, send it to a node on loopback, and show what comes out.

    Example: mrsi-node demo results/
    """
    from .demo import run

    run(folder, seed)
