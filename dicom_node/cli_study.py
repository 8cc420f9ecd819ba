"""Verbs of the command line over one study: force, hold, release, ignore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import config, log
from .store import Store
from .study import CaseKey

_out = Console(highlight=False, soft_wrap=True)

Study = Annotated[str, typer.Argument(help="Study Instance UID, or case as `status --json` prints it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it is kept in the study's history.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: the one MRSI_NODE_CONFIG names.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (force, hold, release, ignore):
        app.command()(verb)


def force(study: Study, reason: Reason, config_file: ConfigFile = None) -> None:
    """Queue a study now that is still waited for.

    Example: mrsi-node force 1.2.840.113619.2.1 --reason "the FLAIR was never acquired"
    """
    _say(_store(config_file).force(study, f"forced by a person: {reason}"), "is queued")


def hold(study: Study, reason: Reason, config_file: ConfigFile = None) -> None:
    """Keep a study from being worked on until it is released.

    Example: mrsi-node hold 1.2.840.113619.2.1 --reason "wrong patient position, physicist looks"
    """
    _say(_store(config_file).hold(study, f"held by a person: {reason}"), "is held until it is released")


def release(study: Study, reason: Reason, config_file: ConfigFile = None) -> None:
    """Queue a held study.

    Example: mrsi-node release 1.2.840.113619.2.1 --reason "checked"
    """
    _say(_store(config_file).release(study, f"released by a person: {reason}"), "is queued")


def ignore(study: Study, reason: Reason, config_file: ConfigFile = None) -> None:
    """Never work on a study, nor on what still comes for it; `retry` takes that back.

    Example: mrsi-node ignore 1.2.840.113619.2.1 --reason "phantom"
    """
    key = _store(config_file).ignore_study(study, f"ignored by a person: {reason}")
    _say(key, "is ignored, with what still comes for it")


def _store(config_file: Path | None) -> Store:
    from .service import open_existing

    settings = config.load(config_file)
    log.configure(settings.log.level, settings.log.json_lines)
    return open_existing(settings)


def _say(key: CaseKey, what: str) -> None:
    _out.print(f"case {key} {what}")
