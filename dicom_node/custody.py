"""Custody: a receipt for one study, and the proof that ledger, rows and files still agree. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .errors import UnsuitableInput
from .spool import Spool, sha256_of
from .store import GENESIS, Entry, Kind, Store


@dataclass(frozen=True)
class Verified:
    """``problems`` in words, none if all agree; ``head``: digest of the last entry, to be filed elsewhere.

    ``entries`` were recomputed, ``files`` re-read; ``before``: instances from before the ledger began.
    """

    entries: int
    files: int
    before: int
    head: str
    problems: tuple[str, ...]


def receipt(store: Store, study_or_case: str) -> dict[str, Any]:
    """What the ledger says of one study: received, made, delivered, removed, as plain values.

    Raises UnsuitableInput if the study is not known.
    """
    case = store.case_of(study_or_case)
    if case is None:
        raise UnsuitableInput(f"no study or case {study_or_case} is known here (see: mrsi-node status)")
    entries = list(store.ledger(case))
    kinds = {kind: [_plain(e) for e in entries if e.kind == kind] for kind in Kind}
    return {
        "case": case,
        "studies": store.studies_of(case),
        **{str(kind): found for kind, found in kinds.items()},
        "head": entries[-1].digest if entries else GENESIS,
    }


def _plain(e: Entry) -> dict[str, Any]:
    at = datetime.fromtimestamp(e.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"entry": e.number, "at": at, "subject": e.subject, "sha256": e.sha256, **json.loads(e.detail)}


def verify(store: Store, spool: Spool, expected_head: str = "") -> Verified:
    """Recompute every entry, compare with the rows, and re-read every file that is kept.

    ``expected_head``: a digest filed earlier; the chain must still contain it. A chain that was cut at
    its end and has gone on since is found only so.
    """
    problems: list[str] = []
    current: dict[str, str] = {}
    previous, number, begun = GENESIS, 0, None
    seen_head = not expected_head or expected_head == GENESIS
    for e in store.ledger():
        problems += _broken(e, number, previous)
        number, previous = e.number, e.digest
        begun = e.at if begun is None else begun
        seen_head |= e.digest == expected_head
        if e.kind in (Kind.RECEIVED, Kind.CORRECTED):
            current[e.subject] = e.sha256
        elif e.kind == Kind.REMOVED:
            current.pop(e.subject, None)
    if not seen_head:
        problems.append(f"the ledger does not contain {expected_head}: it was cut, or is another node's")
    files, before = 0, 0
    for sop_uid, path, sha256, received_at in store.kept():
        entered = current.pop(sop_uid, None)
        if entered is None and (begun is None or received_at < begun):
            before += 1
        elif entered != sha256:
            problems.append(f"instance {sop_uid} is not the one in the ledger")
        files += 1
        problems += _unlike(spool, sop_uid, path, sha256)
    problems += [f"instance {uid} is in the ledger and no longer kept" for uid in current]
    return Verified(number, files, before, previous, tuple(problems))


def _broken(e: Entry, number: int, previous: str) -> Iterator[str]:
    if e.number != number + 1:
        yield f"entry {number + 1} is missing" + (
            f", and on to {e.number - 1}" if e.number > number + 2 else ""
        )
    if e.previous != previous:
        yield f"entry {e.number} does not follow the one before it"
    if e.kind not in set(Kind) or e.digest_now() != e.digest:
        yield f"entry {e.number} was changed"


def _unlike(spool: Spool, sop_uid: str, path: str, sha256: str) -> Iterator[str]:
    try:
        if sha256_of(spool.path(path)) != sha256:
            yield f"the file of instance {sop_uid} has other bytes than were received"
    except OSError as e:
        yield f"the file of instance {sop_uid} cannot be read: {e.strerror}"
