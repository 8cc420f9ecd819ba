"""Retention: delivered studies leave the spool after their time; nothing unproven is ever touched."""

from __future__ import annotations

import shutil
import threading

from . import log
from .config import RetentionRules
from .spool import Spool
from .store import Store

_LOG = log.get("clean")


def clean_once(store: Store, spool: Spool, rules: RetentionRules) -> int:
    """Remove the spooled files of cases that are all delivered and old. Returns files removed.

    Rows stay: they are the record of what was received, made and delivered.
    """
    removed = 0
    for case in store.removable(before=store.clock() - rules.keep_days * 86400):
        paths = store.forget_files(case)
        for path in paths:
            spool.path(path).unlink(missing_ok=True)
        shutil.rmtree(spool.root / "out" / case, ignore_errors=True)
        _LOG.info("case.cleaned", case=case, files=len(paths))
        removed += len(paths)
    return removed


def run(store: Store, spool: Spool, rules: RetentionRules, stop: threading.Event) -> None:
    """Sweep every ``rules.sweep_s`` until ``stop`` is set."""
    while not stop.wait(rules.sweep_s):
        clean_once(store, spool, rules)
