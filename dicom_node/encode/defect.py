"""How a check says what is wrong."""

from __future__ import annotations


class Defect(Exception):
    """What is wrong with an object, in words."""


def demand(holds: bool, otherwise: str) -> None:
    """Raises Defect, saying ``otherwise``, unless it ``holds``."""
    if not holds:
        raise Defect(otherwise)
