"""Retention by state, age and space: ended studies leave the spool; nothing unproven goes before its time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence

from . import log
from .config import RetentionRules
from .errors import NodeError
from .spool import Spool
from .store import Ended, Store
from .study import State

_LOG = log.get("clean")

_DAY_S = 86400.0


def clean_once(store: Store, spool: Spool, rules: RetentionRules) -> int:
    """Remove the spooled files of cases that ended DONE or IGNORED long ago, or of proven ones for space.

    FAILED and HELD cases wait for a person, unless a newer revision has ended well. What was received, made
    and delivered stays on record. A file that no row names, as a copy in another transfer syntax or what was
    refused, goes as soon as it is older than ``keep_days``.
    Returns files removed.
    """
    now = store.clock()
    removed = spool.sweep_temporary(older_than_s=_DAY_S)
    store.forget_steps(before=now - rules.keep_days * _DAY_S)
    for state, days in ((State.DONE, rules.keep_days), (State.IGNORED, rules.keep_ignored_days)):
        ended = Ended(now - days * _DAY_S, state)
        for case in store.removable(ended):
            removed += _remove(store, spool, case, ended, f"{state} for {days:g} days")
    if spool.free_bytes() < rules.make_room_mb * 1024**2:
        proven = Ended(now, State.DONE, proven=True)
        for case in store.removable(proven):
            removed += _remove(store, spool, case, proven, "proven at every destination, and space is short")
            if spool.free_bytes() >= rules.make_room_mb * 1024**2:
                break
    unnamed = store.forget_unnamed(spool.kept_before(rules.keep_days * _DAY_S), spool.remove)
    if unnamed:
        _LOG.info("spool.swept", files=unnamed)
    return removed + unnamed


def _remove(store: Store, spool: Spool, case: str, ended: Ended, reason: str) -> int:
    def remove(paths: Sequence[str]) -> None:
        spool.remove(paths)
        shutil.rmtree(spool.root / "out" / case, ignore_errors=True)

    files = store.forget_files(case, remove, ended)
    if files is None:  # an instance came, or a person retried it, since it was listed
        return 0
    _LOG.info("case.cleaned", case=case, files=files, reason=reason)
    return files


def run(store: Store, spool: Spool, rules: RetentionRules, stop: threading.Event) -> None:
    """Sweep every ``rules.sweep_s`` until ``stop`` is set."""
    while not stop.wait(rules.sweep_s):
        try:
            clean_once(store, spool, rules)
        except NodeError as problem:
            _LOG.warning("clean.waits", reason=str(problem))
        except Exception as bug:  # nobody would start the sweeps again
            _LOG.error("clean.failed", **log.place_of(bug))
