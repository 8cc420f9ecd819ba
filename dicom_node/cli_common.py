"""What the verbs of the command line share: their options, where they print, how they open the node."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import config, log
from .config import Settings
from .store import Store

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: the one MRSI_NODE_CONFIG names.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class _Terminal(Console):
    """What headers and peers said is printed as text: it steers no terminal, and is no markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As Console.print; control characters other than line ends show as U+FFFD."""
        shown = (_CONTROL.sub("\ufffd", o) if isinstance(o, str) else o for o in objects)
        super().print(*shown, **options)


out = _Terminal()
err = _Terminal(stderr=True)


def load_settings(path: Path | None) -> Settings:
    """The configuration at ``path`` (else the one the environment names), with logging set up as it says."""
    settings = config.load(path)
    log.configure(settings.log.level, settings.log.json_lines)
    return settings


def open_node(path: Path | None) -> tuple[Settings, Store]:
    """The configuration and the store of a node that has run before. Raises BadConfiguration if none has."""
    from .service import open_existing

    settings = load_settings(path)
    return settings, open_existing(settings)


def print_json(value: object) -> None:
    """One JSON document, to standard output, for machines."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def told(as_json: bool, words: str, **facts: object) -> None:
    """What was done: in words for people, or with its ``facts`` as JSON."""
    if as_json:
        print_json({"done": words, **facts})
    else:
        out.print(words)
