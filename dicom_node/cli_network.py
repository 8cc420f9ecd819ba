"""Verbs of the command line that talk to a destination: echo, send, rehearse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydicom
import typer
from rich.progress import Progress

from .cli_common import AsJson, ConfigFile, err, load_settings, out, print_json, told
from .config import DicomDestination, Settings
from .errors import BadConfiguration, Refused, UnsuitableInput

if TYPE_CHECKING:
    from .rehearse import Rehearsal


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (echo, send, rehearse):
        app.command()(verb)


def echo(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask a destination for a DICOM echo.

    Example: mrsi-node echo PACS
    """
    from . import dispatch

    settings = load_settings(config_file)
    dispatch.echo(_dicom(settings, destination), settings.node)
    told(as_json, f"{destination} answers", destination=destination)


def send(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders of them.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send DICOM files to a destination.

    Example: mrsi-node send PACS results/
    """
    from . import dispatch

    settings = load_settings(config_file)
    files = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob("*"))) if f.is_file()]
    files = [f for f in files if pydicom.misc.is_dicom(f)]
    if not files:
        raise UnsuitableInput("no DICOM file among these paths")
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task(f"to {destination}", total=len(files))
        dispatch.send_paths(
            _dicom(settings, destination), files, settings.node, lambda *_: progress.advance(task)
        )
        sent = int(progress.tasks[task].completed)
    told(
        as_json,
        f"{destination} took {sent} of {len(files)} files",
        destination=destination,
        sent=sent,
        files=len(files),
    )


def rehearse(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    patient_name: Annotated[str, typer.Option(help="The test patient's name, in any script.")] = "",
    patient_id: Annotated[str, typer.Option(help="The test patient's ID.")] = "",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send a small test study, fetch it back, and say what the destination keeps, changes or refuses.

    What it refuses replaces what was known of it. The test study stays there: it bears the test
    patient's name. Exit code 4 if anything is refused, changed or does not come back.

    Example: mrsi-node rehearse PACS
    Example: mrsi-node rehearse PACS --patient-name "ТЕСТ^РЕПЕТИЦИЯ" --json
    """
    from .rehearse import PATIENT_ID, PATIENT_NAME
    from .rehearse import rehearse as run
    from .service import open_spool, open_store

    settings = load_settings(config_file)
    settings.destination_named(destination)
    with err.status("begin") as spinner:
        found = run(
            settings,
            destination,
            patient_name=patient_name or PATIENT_NAME,
            patient_id=patient_id or PATIENT_ID,
            store=open_store(settings),
            spool=open_spool(settings),
            progress=spinner.update,
        )
    print_json(found.as_table()) if as_json else _print_rehearsal(found)
    if not found.good:
        bad = [f"{w.objects} {w.form} {w.became}" for w in found.went if not w.good]
        raise Refused(f"{destination} does not keep everything as it was sent: {'; '.join(bad)}")


def _print_rehearsal(found: Rehearsal) -> None:
    came = f", fetched by {found.fetched_by}" if found.fetched_by else ""
    out.print(f"study {found.study_uid} of patient {found.patient_id}{came}, {found.seconds} s")
    for w in found.went:
        because = f": {w.words}" if w.words else ""
        out.print(f"{w.kind:4} {w.objects:4} {w.form}: {w.became}{because}")
    for name, words in found.otherwise.items():
        out.print(f"     {name} {words}")
    for c in found.changes:
        mark = "!" if c["grave"] else " "
        said = f"{c['kind']:4} {c['objects']:4} {c['attribute']} {c['what']} ({c['about']})"
        out.print(f"{mark} {said}")


def _dicom(settings: Settings, name: str) -> DicomDestination:
    destination = settings.destination_named(name)
    if not isinstance(destination, DicomDestination):
        raise BadConfiguration(f"{name} is of type {destination.type}, not a DICOM peer")
    return destination
