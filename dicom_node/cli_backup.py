"""The verb of the command line that copies rows and files while the node runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .backup import Saved, back_up
from .cli_common import AsJson, ConfigFile, open_node, out, print_json
from .errors import UnsuitableInput


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(backup)


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy rows and files, while the node runs, and prove the copy against its custody ledger.

    Example: mrsi-node backup /backup/mrsi-2026-11-23
    """
    settings, _ = open_node(config_file)
    saved = back_up(settings.storage, target)
    if as_json:
        print_json({**asdict(saved), "rows": str(saved.rows)})
    else:
        _print(saved)
    if saved.verified is not None and saved.verified.problems:
        raise UnsuitableInput("the copy is not whole: " + "; ".join(saved.verified.problems))


def _print(saved: Saved) -> None:
    out.print(f"{saved.files} files, {saved.bytes // 1024**2} MB, and rows in {saved.rows}")
    v = saved.verified
    if v is None:
        out.print("rows are a dump of PostgreSQL: pg_restore them, then mrsi-node custody --verify")
    elif not v.problems:
        out.print(f"proven: {v.entries} entries recomputed, {v.files} files read again, head {v.head}")
