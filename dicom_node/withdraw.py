"""Results taken back: a note that rejects them for every destination that has them, delivered as results are.

A PACS gets a Key Object Selection (IHE IOCM); what it then hides or deletes is its own affair. A folder
gets WITHDRAWN.txt beside the results, which stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom import Dataset

from . import log
from .config import FolderDestination, Settings
from .encode.notes import REJECTED_FOR_QUALITY, REJECTED_FOR_SAFETY, rejection_note
from .errors import UnsuitableInput
from .spool import Spool, sha256_of
from .store import Made, Sendable, Store

_LOG = log.get("withdraw")


@dataclass(frozen=True)
class Withdrawn:
    """``objects`` by destination; ``deliveries`` of their notes."""

    case: str
    objects: dict[str, int]
    deliveries: tuple[str, ...]


def withdraw(
    settings: Settings,
    store: Store,
    spool: Spool,
    study_or_case: str,
    *,
    by: str,
    because: str,
    patient_safety: bool = False,
) -> Withdrawn:
    """Take back every result of a study that was sent, and send no more of them.

    Raises UnsuitableInput if there is nothing to take back or its files have left the spool, TemporaryError
    if something of it is being sent at this moment.
    """
    if not by.strip() or not because.strip():
        raise UnsuitableInput("say who withdraws the results, and why")
    kept = store.kept_results(study_or_case)
    title = REJECTED_FOR_SAFETY if patient_safety else REJECTED_FOR_QUALITY
    folders = {d.name for d in settings.destination if isinstance(d, FolderDestination)}
    notes: list[tuple[Made, str | None]] = []
    target = spool.root / "out" / kept.key.case / f"{kept.key.revision}-{kept.attempt + 1}" / "dicom"
    for name, files in kept.files.items():
        if name in folders:
            continue
        for n, headers in enumerate(_by_study(files, spool)):
            identity = (kept.key.case, str(kept.key.revision), str(kept.attempt + 1), name, str(n))
            note = rejection_note(headers, title, by, because, settings.output, *identity)
            path = target / f"withdrawn-{name}-{n}.dcm"
            _save(note, path, spool)
            uids = (str(note.SOPInstanceUID), str(note.SOPClassUID))
            made = Made(spool.relative(path), "NOTE", "withdrawal", *uids, sha256_of(path))
            notes.append((made, name))
    if folders & kept.files.keys():
        words = _words(by, because, title.meaning)
        for folder in sorted({Path(f.path).parts[:3] for n in folders for f in kept.files.get(n, ())}):
            path = spool.root.joinpath(*folder, f"WITHDRAWN-{kept.attempt + 1}.txt")
            with spool.durable(path) as f:
                f.write(words.encode())
            made = Made(spool.relative(path), "TEXT", "withdrawal", "", "", sha256_of(path))
            notes.append((made, None))
    deliveries = store.withdraw(kept, notes, by, because, title.value)
    _LOG.info("results.withdrawn", case=kept.key.case, destinations=len(kept.files), title=title.value)
    return Withdrawn(
        kept.key.case,
        {n: sum(bool(f.sop_uid) for f in fs) for n, fs in kept.files.items()},
        tuple(deliveries),
    )


def _by_study(files: Sequence[Sendable], spool: Spool) -> Iterator[list[Dataset]]:
    """Headers of the DICOM objects among ``files``, study by study."""
    studies: dict[str, list[Dataset]] = {}
    for f in files:
        if not f.sop_uid:
            continue
        try:
            header = pydicom.dcmread(spool.path(f.path), stop_before_pixels=True)
        except FileNotFoundError:
            raise UnsuitableInput(
                f"{f.name} has left the spool, its retention time is over: withdraw it in the PACS itself"
            ) from None
        studies.setdefault(str(header.StudyInstanceUID), []).append(header)
    yield from studies.values()


def _save(note: Dataset, path: Path, spool: Spool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with spool.durable(path) as f:
        note.save_as(f, enforce_file_format=True)


def _words(by: str, because: str, title: str) -> str:
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"These results were withdrawn at {at} by {by}: {because}\n{title}. Do not use them.\n"
