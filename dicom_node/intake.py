"""The one door in: bytes become a durable file and a row, or a reason. Idempotent."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian

from . import log
from .errors import Conflict, Mismatch, NotDicom, PermanentError
from .facts import facts_of
from .spool import Kept, Spool
from .store import Outcome, Receipt, Received, Store

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
# Elements that carry an instance's samples, in the order they are looked for.
_SAMPLES = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "SpectroscopyData")
_CSA_SAMPLES = 0x7FE11010
_PIXELS = 0x7FE0  # the group of Pixel Data, Float and Double Float Pixel Data
_UNDEFINED = 0xFFFFFFFF
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"  # (FFFE,E0DD) ends encapsulated pixels (PS3.5 A.4)
_TAIL = 64 * 1024  # signatures and padding may follow them
_LOG = log.get("intake")

# pydicom warns of odd values by quoting them: those may be a patient's name or date of birth.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


@dataclass(frozen=True)
class Incoming:
    """A Part 10 file as bytes. ``sop_class_uid`` and ``sop_instance_uid`` are what the C-STORE request
    claimed; empty for a file from a folder, where nothing was claimed.
    """

    content: bytes
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


class Intake:
    """Takes instances from any source into one spool and one store."""

    def __init__(self, spool: Spool, store: Store) -> None:
        self.spool = spool
        self.store = store

    def accept(self, incoming: Incoming, source: str) -> Receipt:
        """Returns once the instance is durable: on disk and in the store, even if the power goes now.

        The same instance again gives the same receipt and changes nothing. Raises OutOfSpace (try
        again), NotDicom, Mismatch, or Conflict; bytes of the last three are kept in quarantine.
        """
        self.spool.require_space()
        kept = self.spool.keep(incoming.content)
        try:
            header = read_header(incoming.content)
            _agree(header, incoming)
            received = _received(header, kept, source)
        except PermanentError as problem:
            self._quarantine(incoming.sop_instance_uid, "", kept, source, problem)
            raise
        try:
            outcome = self.store.record(received, self._same_samples, self._same_header)
        except Conflict as problem:
            self._quarantine(received.sop_uid, received.study_uid, kept, source, problem)
            raise
        if outcome is not Outcome.DUPLICATE and not self.spool.path(kept.path).exists():
            self.spool.keep(incoming.content)  # retention removed its like between the two steps
        _LOG.info(
            "instance.accepted", outcome=outcome, sop_uid=received.sop_uid, source=source, bytes=kept.size
        )
        duplicate = outcome is Outcome.DUPLICATE
        sha256 = self.store.sha256_of_instance(received.sop_uid) if duplicate else kept.sha256
        return Receipt(received.sop_uid, received.study_uid, sha256)

    def _quarantine(
        self, sop_uid: str, study_uid: str, kept: Kept, source: str, problem: PermanentError
    ) -> None:
        _LOG.warning("instance.quarantined", sop_uid=sop_uid, source=source, reason=str(problem))
        self.store.quarantine(
            sop_uid=sop_uid,
            study_uid=study_uid,
            source=source,
            path=kept.path,
            sha256=kept.sha256,
            reason=str(problem),
        )

    def _same_samples(self, one: str, other: str) -> bool:
        a, b = (pydicom.dcmread(self.spool.path(p)) for p in (one, other))
        return _samples(a) == _samples(b)

    def _same_header(self, one: str, other: str) -> bool:
        a, b = (pydicom.dcmread(self.spool.path(p)) for p in (one, other))
        for dataset in (a, b):
            for keyword in (*_SAMPLES, "LossyImageCompression"):
                if keyword in dataset:
                    del dataset[keyword]
        return bool(a == b)


def read_header(content: bytes) -> Dataset:
    """The data set up to its pixels. Raises NotDicom with what is wrong, never with what it says."""
    stream = BytesIO(content)
    try:
        header = pydicom.dcmread(stream, stop_before_pixels=True)
    except InvalidDicomError as e:
        raise NotDicom("not a DICOM file: the preamble and DICM prefix are missing (PS3.10 7.1)") from e
    except RecursionError as e:
        raise NotDicom("sequences are nested too deep to be read") from e
    except Exception as e:  # pydicom raises many kinds on broken bytes; all mean the same to the sender
        raise NotDicom(
            f"the data set is broken ({type(e).__name__}): ask the sender to export it again"
        ) from e
    if _is_cut_short(header, memoryview(content)[stream.tell() :]):
        raise NotDicom("the data set breaks off before the end of its pixels: send or copy it again")
    return header


def _is_cut_short(header: Dataset, rest: memoryview) -> bool:
    """Whether ``rest``, what follows the header, lacks pixels that were announced.

    Half an image must not come first: it would make the whole one, when it comes, a conflict.
    """
    syntax = UID(header.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
    if syntax.is_deflated:
        return False  # inflating it to its end has proven it whole
    order = "<" if syntax.is_little_endian else ">"
    if len(rest) < 12 or struct.unpack_from(f"{order}H", rest)[0] != _PIXELS:
        elsewhere = "SpectroscopyData" in header or UID(header.get("SOPClassUID", "")).is_private
        return "BitsAllocated" in header and not elsewhere
    explicit = bytes(rest[4:6]).isalpha()  # VR and two reserved bytes come before the length
    (length,) = struct.unpack_from(f"{order}I", rest, 8 if explicit else 4)
    if length == _UNDEFINED:
        return _DELIMITER not in bytes(rest[-_TAIL:])
    return len(rest) - (12 if explicit else 8) < int(length)


def _agree(header: Dataset, incoming: Incoming) -> None:
    for keyword, claimed in (
        ("SOPClassUID", incoming.sop_class_uid),
        ("SOPInstanceUID", incoming.sop_instance_uid),
    ):
        if claimed and str(header.get(keyword, "")) != claimed:
            raise Mismatch(f"{keyword} in the data set is not the one that the C-STORE request named")


def _received(header: Dataset, kept: Kept, source: str) -> Received:
    uids = {}
    for keyword in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = str(header.get(keyword) or "")
        if len(value) > 64 or not _UID.fullmatch(value):
            raise NotDicom(f"{keyword} is missing or not a UID (PS3.5 9.1)")
        uids[keyword] = value
    return Received(
        sop_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=str(header.file_meta.get("TransferSyntaxUID", "")),
        frame_of_reference_uid=_text(header, "FrameOfReferenceUID"),
        accession_number=_text(header, "AccessionNumber"),
        patient_id=_text(header, "PatientID"),
        issuer=_text(header, "IssuerOfPatientID"),
        path=kept.path,
        sha256=kept.sha256,
        size=kept.size,
        source=source,
        study_date=_text(header, "StudyDate")[:8],
        facts=facts_of(header),
    )


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _samples(dataset: Dataset) -> bytes:
    """An instance's samples as decoded values, whatever the transfer syntax; empty if it has none.

    Samples that cannot be decoded are compared as stored, with their transfer syntax.
    """
    if "PixelData" in dataset:
        try:
            pixels = np.ascontiguousarray(dataset.pixel_array)
        except Exception:  # no decoder, or broken: only equal bytes prove equal pixels
            return str(dataset.file_meta.get("TransferSyntaxUID", "")).encode() + bytes(dataset.PixelData)
        return (
            f"{pixels.dtype.str[1:]}{pixels.shape}".encode()
            + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        )
    for tag in (*_SAMPLES[1:], _CSA_SAMPLES):
        if tag in dataset:
            little = UID(dataset.file_meta.TransferSyntaxUID).is_little_endian
            value = dataset[tag].value
            stored = value if isinstance(value, bytes) else np.asarray(value, dtype="<f8").tobytes()
            return (b"" if little else b"big") + stored
    return b""
