"""The verb of the command line that prints the DICOM Conformance Statement."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import config
from .conformance import statement

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: the one MRSI_NODE_CONFIG names.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(conformance)


def conformance(config_file: ConfigFile = None) -> None:
    """Print the DICOM Conformance Statement (PS3.2) of a configuration, as Markdown.

    Example: mrsi-node conformance --config /etc/mrsi-node/node.toml > CONFORMANCE.md
    """
    sys.stdout.write(statement(config.load(config_file)))
