"""How whoever follows the store's events is told: in order, at least once, later if it cannot be now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from .errors import NodeError
from .log import place_of
from .store import LONGEST_SILENCE_S, Happening, Store

_LEASE_S = 120.0
_FIRST_AGAIN_S = 30.0

Log = structlog.typing.FilteringBoundLogger


def tell(store: Store, name: str, deed: Callable[[Sequence[Happening]], None], log: Log) -> None:
    """Do ``deed`` with what feed ``name`` was not told yet, if it is due and nobody else tells it now.

    A NodeError of ``deed`` puts the feed off, ever longer; what happened meanwhile is told then.
    """
    marks = store.claim_feed(name, _LEASE_S)
    if marks is None:
        return
    try:
        happened, behind = store.happenings(marks)
        deed(happened)
        store.told(name, behind)
    except NodeError as problem:
        again_s = min(LONGEST_SILENCE_S, _FIRST_AGAIN_S * 2 ** min(marks.failures, 10))
        store.not_told(name, store.clock() + again_s)
        log.warning("feed.waits", feed=name, reason=str(problem), again_s=again_s)


def every(seconds: float, deed: Callable[[], None], log: Log, stop: threading.Event) -> None:
    """Do ``deed`` again and again until ``stop`` is set, whatever it raises: nobody would start it again."""
    while not stop.wait(seconds):
        try:
            deed()
        except NodeError as problem:
            log.warning("feed.waits", reason=str(problem))
        except Exception as bug:
            log.error("feed.failed", **place_of(bug))
