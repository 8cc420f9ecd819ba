"""The one door in: what arrives becomes a durable file and a row, or a reason. Idempotent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import IO

import pydicom
from pydicom import Dataset

from . import boundary, log
from .compare import compare
from .config import IntakeRules
from .deidentify import Pseudonyms, de_identify
from .errors import Conflict, Mismatch, NotDicom, OutOfSpace, PermanentError, UnsuitableInput
from .facts import SEQUENCES, facts_of
from .header import Bounds as HeaderBounds
from .header import read_header, text_of
from .spool import Arriving, Spool
from .store import Compared, Outcome, Receipt, Received, Store, Uncompared
from .zips import Bounds, members

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_PREAMBLES = (b"II*\0", b"MM\0*")  # TIFF beside DICOM (PS3.10 7.1); anything else may be a program
_COPY = 1024**2
_LOG = log.get("intake")

# pydicom warns of odd values by quoting them: those may be a patient's name or date of birth.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


@dataclass(frozen=True)
class Incoming:
    """A Part 10 file: its bytes, or on its way into the spool. ``sop_class_uid`` and ``sop_instance_uid``
    are what the C-STORE request claimed; empty for a file from a folder, where nothing was claimed.
    """

    content: bytes | Arriving
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


class Intake:
    """Takes instances from any source into one spool and one store."""

    def __init__(self, spool: Spool, store: Store, rules: IntakeRules | None = None) -> None:
        self.spool = spool
        self.store = store
        self._rules = rules or IntakeRules()
        self._rows = _Rows(store)
        key = self._rules.deidentify_key_file
        self._pseudonyms = Pseudonyms.from_file(key) if self._rules.deidentify and key else None
        self._bounds = HeaderBounds(
            nesting=self._rules.max_nesting,
            elements=self._rules.max_elements,
            inflated=self._rules.max_inflated_mb * 1024**2,
            ratio=self._rules.max_inflation,
            seconds=self._rules.max_seconds,
        )

    def known_as(self, uid: str, source: str) -> str:
        """Under which UID what ``source`` calls ``uid`` is kept here."""
        if self._pseudonyms is None or not self._rules.deidentifies(source):
            return uid
        return self._pseudonyms.uid(uid)

    def accept(self, incoming: Incoming, source: str) -> Receipt:
        """Returns once the instance is durable: on disk and in the store, even if the power goes now.

        The same instance again gives the same receipt and changes nothing. Raises OutOfSpace (try
        again), NotDicom, Mismatch, or Conflict; what the last three refuse goes to quarantine.
        """
        content = incoming.content
        with self._arrived(content) if isinstance(content, bytes) else nullcontext(content) as arrived:
            return self._accept(arrived, incoming, source)

    def accept_file(self, path: Path, source: str) -> Receipt:
        """As ``accept``, for a file that someone else owns: copied, never held in memory."""
        with path.open("rb") as file:
            return self.accept_stream(file, source)

    def accept_zip(self, path: Path, source: str) -> Iterator[Receipt]:
        """The instances of a zip archive, one by one, as it is unpacked; what is refused goes to quarantine.

        Raises OutOfSpace, and UnsuitableInput if the archive itself is broken or beyond its bounds.
        """
        for member in members(path, Bounds.of(self._rules)):
            try:
                yield self.accept_stream(member, source)
            except UnsuitableInput:
                raise  # the archive's own
            except PermanentError:
                continue

    def accept_stream(self, file: IO[bytes], source: str) -> Receipt:
        """As ``accept_file``, for what can only be read from its beginning to its end."""
        with self.spool.arriving() as arriving:
            arriving.write(_harmless(file.read(132)))
            while piece := file.read(_COPY):
                arriving.write(piece)
            return self._accept(arriving, Incoming(arriving), source)

    @contextmanager
    def _arrived(self, content: bytes) -> Iterator[Arriving]:
        with self.spool.arriving() as arriving:
            arriving.write(_harmless(content[:132]))
            arriving.write(memoryview(content)[132:])
            yield arriving

    def _accept(self, arrived: Arriving, incoming: Incoming, source: str) -> Receipt:
        try:
            header = read_header(arrived.file, self._bounds, SEQUENCES)
            _agree(header, incoming)
            received = _received(header, arrived, source)
        except PermanentError as problem:
            self._quarantine(incoming.sop_instance_uid, "", arrived, source, problem)
            raise
        if self._pseudonyms is None or not self._rules.deidentifies(source):
            return self._keep(arrived, received, source)
        with self._de_identified(arrived, incoming, source) as (clean, under_pseudonyms):
            return self._keep(clean, under_pseudonyms, source)

    @contextmanager
    def _de_identified(
        self, arrived: Arriving, incoming: Incoming, source: str
    ) -> Iterator[tuple[Arriving, Received]]:
        """``arrived`` as it is to be kept: nothing of the original is. Raises NotDicom."""
        assert self._pseudonyms is not None
        with self.spool.arriving() as clean:
            try:
                written = BytesIO()
                arrived.file.seek(0)
                dataset = pydicom.dcmread(arrived.file)
                de_identify(dataset, self._pseudonyms)
                dataset.save_as(written, enforce_file_format=True)
                clean.write(written.getbuffer())
                header = read_header(clean.file, self._bounds, SEQUENCES)
                received = _received(header, clean, source)
            except (OutOfSpace, NotDicom):
                raise
            except Exception as e:  # pydicom raises many kinds; their messages may quote a patient
                problem = NotDicom(f"cannot be de-identified ({type(e).__name__}): nothing of it is kept")
                self._quarantine(incoming.sop_instance_uid, "", arrived, source, problem)
                raise problem from e
            yield clean, received

    def _keep(self, arrived: Arriving, received: Received, source: str) -> Receipt:
        kept = self.spool.keep(arrived)
        received = replace(received, path=kept.path)
        boundary.passed("intake.kept")
        try:
            outcome = self._record(received)
        except Conflict as problem:
            self._quarantine(received.sop_uid, received.study_uid, arrived, source, problem)
            raise
        if outcome is not Outcome.DUPLICATE and not self.spool.path(kept.path).exists():
            self.spool.keep_again(arrived)  # retention removed its like between the two steps
        boundary.passed("intake.recorded")
        _LOG.info(
            "instance.accepted", outcome=outcome, sop_uid=received.sop_uid, source=source, bytes=kept.size
        )
        duplicate = outcome is Outcome.DUPLICATE
        sha256 = self.store.sha256_of_instance(received.sop_uid) if duplicate else kept.sha256
        return Receipt(received.sop_uid, received.study_uid, sha256)

    def _record(self, received: Received) -> Outcome:
        compared: Compared | None = None
        while True:
            try:
                return self._rows.record(received, compared)
            except Uncompared as known:  # outside of the transaction: decoding may take its time
                same = compare(self.spool.path(known.path), self.spool.path(received.path))
                compared = Compared(known.sha256, same.pixels, same.header)

    def _quarantine(
        self, sop_uid: str, study_uid: str, arrived: Arriving, source: str, problem: PermanentError
    ) -> None:
        """``study_uid`` is known of what was kept before: under pseudonyms, if this source has any."""
        as_it_came = not study_uid and self._pseudonyms is not None and self._rules.deidentifies(source)
        if as_it_came and self._pseudonyms is not None:
            sop_uid = self._pseudonyms.uid(sop_uid)
        _LOG.warning("instance.quarantined", sop_uid=sop_uid, source=source, reason=str(problem))
        path = ""
        if self._rules.quarantine and not as_it_came:
            path = self.spool.quarantine(arrived, self._rules.quarantine_mb).path
        self.store.quarantine(
            sop_uid=sop_uid,
            study_uid=study_uid,
            source=source,
            path=path,
            sha256="" if as_it_came else arrived.sha256,
            reason=str(problem),
        )


@dataclass
class _Asked:
    received: Received
    compared: Compared | None
    answer: Outcome | BaseException | None = field(default=None)


class _Rows:
    """Instances that come at the same time are recorded in one transaction: one sync for all of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: list[_Asked] = []
        self._queue = threading.Lock()
        self._turn = threading.Lock()

    def record(self, received: Received, compared: Compared | None) -> Outcome:
        """As Store.record; returns when the row is durable."""
        mine = _Asked(received, compared)
        with self._queue:
            self._asked.append(mine)
        with self._turn:
            if mine.answer is None:  # nobody wrote it along with their own
                self._write_all()
        if isinstance(mine.answer, Outcome):
            return mine.answer
        assert mine.answer is not None
        raise mine.answer

    def _write_all(self) -> None:
        with self._queue:
            batch, self._asked = self._asked, []
        try:
            if len(batch) == 1:
                batch[0].answer = self._store.record(batch[0].received, batch[0].compared)
                return
            answers = self._store.record_all([(a.received, a.compared) for a in batch])
        except BaseException as problem:
            for asked in batch:
                asked.answer = problem
            return
        for asked, answer in zip(batch, answers, strict=True):
            asked.answer = answer


def _harmless(start: bytes) -> bytes:
    """The first 132 bytes of a file, its preamble emptied unless it is TIFF's (CVE-2019-11687)."""
    if start[128:] != b"DICM" or start.startswith(_PREAMBLES):
        return start
    return bytes(128) + b"DICM"


def _agree(header: Dataset, incoming: Incoming) -> None:
    for keyword, claimed in (
        ("SOPClassUID", incoming.sop_class_uid),
        ("SOPInstanceUID", incoming.sop_instance_uid),
    ):
        if claimed and text_of(header, keyword) != claimed:
            raise Mismatch(f"{keyword} in the data set is not the one that the C-STORE request named")


def _uids(header: Dataset) -> dict[str, str]:
    uids = {}
    for keyword in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = text_of(header, keyword)
        if len(value) > 64 or not _UID.fullmatch(value):
            raise NotDicom(f"{keyword} is missing or not a UID (PS3.5 9.1)")
        uids[keyword] = value
    return uids


def _if_short(uid: str) -> str:
    """What is longer than any UID says nothing that could be compared (PS3.5 9.1)."""
    return uid if len(uid) <= 64 else ""


def _received(header: Dataset, arrived: Arriving, source: str) -> Received:
    """What the header says; ``path`` is known once it is kept."""
    uids = _uids(header)
    return Received(
        sop_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=_if_short(text_of(header.file_meta, "TransferSyntaxUID")),
        frame_of_reference_uid=_if_short(text_of(header, "FrameOfReferenceUID")),
        accession_number=text_of(header, "AccessionNumber"),
        patient_id=text_of(header, "PatientID"),
        issuer=text_of(header, "IssuerOfPatientID"),
        path="",
        sha256=arrived.sha256,
        size=arrived.size,
        source=source,
        study_date=text_of(header, "StudyDate")[:8],
        facts=facts_of(header),
    )
