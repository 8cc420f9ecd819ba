"""A result set on its way down a destination's ladder, until each object is taken or has no form left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from .config import DicomDestination, DicomWebDestination
from .destinations import Kind
from .dispatch import ObjectsRefused, Refusal, Taken
from .ladder import Ladder, refers
from .store import Sendable

Send = Callable[[Sequence[Sendable], Taken], None]


def send_by_ladder(ladder: Ladder, files: Sequence[Sendable], send: Send, taken: Taken) -> list[Refusal]:
    """``send`` what is left, in forms that the destination takes; what has none does not stop the rest.

    What refers to others goes in a round of its own, once it is settled in which form those went. Returns
    the refusals that are final. Raises whatever ``send`` raises, save ObjectsRefused.
    """
    over: set[str] = set()
    final: list[Refusal] = []

    def took(f: Sendable, status: str) -> None:
        taken(f, status)
        over.add(f.path)

    for referring in (False, True):
        left = [f for f in files if refers(f) is referring]
        while left:
            left, refused = ladder.forms_of(left)
            try:
                send(left, took)
                left = []
            except ObjectsRefused as problem:
                refused += ladder.learn(problem.refusals)  # each turn knows of one refused form more
            final += refused
            over |= {r.file.path for r in refused}
            left = [f for f in left if f.path not in over]
    return final


def stuck(destination: DicomDestination | DicomWebDestination, refusals: Sequence[Refusal]) -> ObjectsRefused:
    """What to raise over ``refusals`` that are final; where all of a kind is refused, with what helps."""
    kinds = {r.file.kind for r in refusals if r.status is None}.intersection(get_args(Kind))
    listed = ", ".join(sorted(kinds))
    advice = f"list {listed} in its may_lack, or rehearse if it takes more by now; then retry"
    return ObjectsRefused(destination.name, refusals, advice if kinds else "")
