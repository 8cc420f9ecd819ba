"""The DICOM Conformance Statement (PS3.2) of a configuration: prose in statement.md, tables from the code."""

from __future__ import annotations

import importlib.resources
import string

from dicom_node.config import Settings

from .tables import tables

__all__ = ["statement"]


def statement(settings: Settings) -> str:
    """The statement as Markdown; what it says of contexts, statuses and limits is read from the code."""
    template = string.Template(
        importlib.resources.files(__package__).joinpath("statement.md").read_text("utf-8")
    )
    return template.substitute(tables(settings))
