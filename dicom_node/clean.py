"""Retention: ended studies leave the spool after their time; nothing unproven is ever touched."""

from __future__ import annotations

import shutil
import threading

from . import log
from .config import RetentionRules
from .spool import Spool
from .store import Store

_LOG = log.get("clean")


def clean_once(store: Store, spool: Spool, rules: RetentionRules) -> int:
    """Remove the spooled files of cases that ended DONE or IGNORED long ago. Returns files removed.

    FAILED and HELD cases wait for a person. What was received, made and delivered stays on record.
    """
    removed = spool.sweep_temporary(older_than_s=86400)
    store.forget_steps(before=store.clock() - rules.keep_days * 86400)
    for case in store.removable(before=store.clock() - rules.keep_days * 86400):
        files = store.forget_files(case, lambda path: spool.path(path).unlink(missing_ok=True))
        shutil.rmtree(spool.root / "out" / case, ignore_errors=True)
        _LOG.info("case.cleaned", case=case, files=files)
        removed += files
    return removed


def run(store: Store, spool: Spool, rules: RetentionRules, stop: threading.Event) -> None:
    """Sweep every ``rules.sweep_s`` until ``stop`` is set."""
    while not stop.wait(rules.sweep_s):
        clean_once(store, spool, rules)
