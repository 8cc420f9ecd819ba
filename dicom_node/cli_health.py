"""The verb of the command line that says whether the node has all it needs."""

from __future__ import annotations

from dataclasses import asdict

import typer

from .cli_common import AsJson, ConfigFile, open_node, out, print_json
from .errors import TemporaryError


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(health)


def health(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Whether database, spool, listener and worker are there, with reasons; exit code 3 if one is not.

    Example: mrsi-node health --json
    """
    from .measures import Measures
    from .service import open_spool

    settings, store = open_node(config_file)
    checks = Measures(settings, store, open_spool(settings)).checks()
    if as_json:
        print_json([asdict(c) for c in checks])
    else:
        for c in checks:
            out.print(f"{c.name}: {'well' if c.good else 'NOT READY'}, {c.reason}")
    if not all(c.good for c in checks):
        raise TemporaryError("the node is not ready: " + ", ".join(c.name for c in checks if not c.good))
