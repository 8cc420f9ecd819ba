"""Verbs of the command line that talk to a destination: echo, send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydicom
import typer

from .cli_common import ConfigFile, load_settings, out
from .config import DicomDestination, Settings
from .errors import BadConfiguration, UnsuitableInput


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (echo, send):
        app.command()(verb)


def echo(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    config_file: ConfigFile = None,
) -> None:
    """Ask a destination for a DICOM echo.

    Example: mrsi-node echo PACS
    """
    from . import dispatch

    settings = load_settings(config_file)
    dispatch.echo(_dicom(settings, destination), settings.node)
    out.print(f"{destination} answers")


def send(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders of them.")],
    config_file: ConfigFile = None,
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
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1

    dispatch.send_paths(_dicom(settings, destination), files, settings.node, count)
    out.print(f"{destination} took {sent} of {len(files)} files")


def _dicom(settings: Settings, name: str) -> DicomDestination:
    destination = settings.destination_named(name)
    if not isinstance(destination, DicomDestination):
        raise BadConfiguration(f"{name} is of type {destination.type}, not a DICOM peer")
    return destination
