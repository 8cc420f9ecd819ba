"""Secrets come from the environment or from files, never from the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import BadConfiguration


def read_secret(whose: str, variable: str, path: Path | None) -> str:
    """What the environment's ``variable``, else the file at ``path``, holds; "" if neither is named.

    Raises BadConfiguration, naming ``whose`` it is, if it is not there.
    """
    if variable:
        found = os.environ.get(variable, "")
        if not found:
            raise BadConfiguration(f"{whose}: the environment variable {variable} is not set")
        return found
    if path is not None:
        try:
            return path.read_text().strip()
        except OSError as e:
            raise BadConfiguration(f"{whose}: cannot read {path}: {e.strerror}") from e
    return ""
