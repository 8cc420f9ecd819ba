"""What a rehearsal brought to the node that runs: no study to work on, and nothing that stays."""

from __future__ import annotations

import time
from contextlib import suppress

from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.study import CaseKey, Event, IllegalTransition, State

_BEGUN_S = 60.0  # a worker that has begun on it finds our own results, and is soon done

_WORDS = "the test patient of a rehearsal, back from where it was sent"


def set_aside(store: Store, study_uid: str) -> bool:
    """Nothing is made of ``study_uid``, whatever of it comes late; whether all of that is settled."""
    under_way = _under_way(store, study_uid)
    for key, state in under_way.items():
        if state in (State.RECEIVING, State.QUEUED):
            with suppress(IllegalTransition):  # a worker took it at this moment
                store.advance(key, Event.IGNORED, _WORDS)
    return not any(state is State.RESOLVING for state in under_way.values())


def tidy(store: Store, spool: Spool, study_uid: str) -> None:
    """Files of ``study_uid`` that came to this node leave it again; what came and went stays on record."""
    case = store.case_of(study_uid)
    if case is None:
        return
    until = time.monotonic() + _BEGUN_S
    while not set_aside(store, study_uid) and time.monotonic() < until:
        time.sleep(0.5)
    store.forget_files(case, spool.remove)


def _under_way(store: Store, study_uid: str) -> dict[CaseKey, State]:
    case = store.case_of(study_uid)
    revisions = store.revisions_in(State.RECEIVING, State.QUEUED, State.RESOLVING)
    return {r.key: r.state for r in revisions if r.key.case == case}
