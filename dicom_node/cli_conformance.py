"""The verb of the command line that prints the DICOM Conformance Statement."""

from __future__ import annotations

import sys

import typer

from . import config
from .cli_common import ConfigFile
from .conformance import statement


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(conformance)


def conformance(config_file: ConfigFile = None) -> None:
    """Print the DICOM Conformance Statement (PS3.2) of a configuration, as Markdown.

    Example: mrsi-node conformance --config /etc/mrsi-node/node.toml > CONFORMANCE.md
    """
    sys.stdout.write(statement(config.load(config_file)))
