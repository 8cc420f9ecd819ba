"""C-STORE, C-FIND and C-ECHO to a DICOM destination."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node import log
from dicom_node.association import NothingAccepted, associate, requestor
from dicom_node.config import DicomDestination, NodeRules
from dicom_node.errors import PeerBusy, PeerUnreachable, Refused
from dicom_node.rungs import class_name
from dicom_node.store import Sendable

from .answers import Answers, Took
from .refusals import ObjectsRefused, Refusal
from .statuses import Verdict, in_words, verdict

_LOG = log.get("dispatch")

_MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers in a byte


def echo(destination: DicomDestination, node: NodeRules) -> None:
    """C-ECHO. Raises PeerUnreachable or Refused, saying why."""
    ae = requestor(node)
    ae.add_requested_context(Verification)
    with associate(ae, destination, destination.name) as association:
        status = association.send_c_echo()
        if not status or status.Status != 0x0000:
            raise Refused(f"{destination.name} did not answer the echo with Success")


def store(
    destination: DicomDestination, files: Sequence[Sendable], root: Path, node: NodeRules, taken: Took
) -> None:
    """C-STORE each of ``files`` (paths under ``root``), calling ``taken`` with the status in hex.

    Pictures of ours go compressed where the destination is configured for it and takes it, else as they are.
    An object that is refused for good does not stop the others. Raises PeerUnreachable or PeerBusy if
    the rest may go later, else ObjectsRefused, or Refused where the association is.
    """
    if not files:
        return
    try:
        _store(destination, files, root, node, taken)
    except NothingAccepted:
        raise ObjectsRefused(destination.name, [_class_refused(f) for f in files]) from None


def _class_refused(f: Sendable) -> Refusal:
    return Refusal(f, None, f"it refuses the SOP class {class_name(f.sop_class_uid)}")


def _store(
    destination: DicomDestination, files: Sequence[Sendable], root: Path, node: NodeRules, taken: Took
) -> None:
    ae = requestor(node)
    needed = sorted({(f.sop_class_uid, _syntax(root / f.path)) for f in files})
    pictures = {f.path for f in files if f.kind == "SC" and destination.compress_pictures}
    # The default transfer syntax too (PS3.5 10.1): pynetdicom converts for who takes nothing else.
    plain = [(c, ImplicitVRLittleEndian) for c, syntax in needed if syntax == ExplicitVRLittleEndian]
    packed = sorted({(f.sop_class_uid, RLELossless) for f in files if f.path in pictures})
    for sop_class, syntax in [*needed, *plain, *packed][:_MOST_CONTEXTS]:
        ae.add_requested_context(sop_class, syntax)
    answers = Answers(destination.name, taken)
    with associate(ae, destination, destination.name) as association:
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
        for f in files:
            syntax = _syntax(root / f.path)
            default = (f.sop_class_uid, ImplicitVRLittleEndian)
            plain_goes = (f.sop_class_uid, syntax) in accepted or (
                syntax == ExplicitVRLittleEndian and default in accepted
            )
            status = None
            if f.path in pictures and (f.sop_class_uid, RLELossless) in accepted:
                status = _store_one(association, destination, _compressed(root / f.path))
            if plain_goes and (status is None or verdict(status) is Verdict.NEVER):
                status = _store_one(association, destination, root / f.path)
            if status is None:
                answers.refused(_class_refused(f))
                continue
            answers.heard(f, status)
            if 0xA700 <= status <= 0xA7FF:
                break  # it is full: the rest would only press on
    answers.conclude()


def _compressed(path: Path) -> Dataset:
    """The picture at ``path`` in RLE Lossless (PS3.5 G): the same pixels, hence the same instance."""
    d = pydicom.dcmread(path)
    d.compress(RLELossless, generate_instance_uid=False)
    return d


def _store_one(association: Association, destination: DicomDestination, what: Path | Dataset) -> int:
    try:
        answer = association.send_c_store(what)
    except RuntimeError as e:  # pynetdicom: the association is no longer established
        raise PeerUnreachable(f"{destination.name} ended the association in the middle of a transfer") from e
    if "Status" not in answer:
        raise PeerUnreachable(f"{destination.name} did not answer a C-STORE in time, or broke the connection")
    return int(answer.Status)


def _syntax(path: Path) -> str:
    return str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)


def shown(destination: DicomDestination, files: Sequence[Sendable], root: Path, node: NodeRules) -> set[str]:
    """SOP Instance UIDs that C-FIND shows of the series of ``files`` (Study Root, level IMAGE, PS3.4 C.6.2).

    Raises PeerUnreachable or PeerBusy if it cannot answer now, Refused if it answers no such question.
    """
    ae = requestor(node)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    found: set[str] = set()
    with associate(ae, destination, destination.name) as association:
        for study_uid, series_uid in series_of(files, root):
            found |= _find(association, destination, study_uid, series_uid)
    return found


def series_of(files: Sequence[Sendable], root: Path) -> list[tuple[str, str]]:
    """Study and Series Instance UIDs that ``files`` carry, each pair once."""
    pairs: dict[tuple[str, str], None] = {}  # in order, each once
    for f in files:
        ds = pydicom.dcmread(
            root / f.path,
            stop_before_pixels=True,
            specific_tags=["StudyInstanceUID", "SeriesInstanceUID"],
        )
        pairs[(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))] = None
    return list(pairs)


def _find(
    association: Association, destination: DicomDestination, study_uid: str, series_uid: str
) -> set[str]:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.SOPInstanceUID = ""
    found = set()
    try:
        answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        for answer, match in answers:
            if "Status" not in answer:
                raise PeerUnreachable(
                    f"{destination.name} did not answer a C-FIND, or ended the association: "
                    f"does it allow {association.requestor.ae_title} to query?"
                )
            status = int(answer.Status)
            if status in (0xFF00, 0xFF01) and match is not None:
                found.add(str(match.get("SOPInstanceUID", "")))
            elif 0xA700 <= status <= 0xA7FF:
                raise PeerBusy(f"{destination.name} cannot answer a C-FIND now: {in_words(status)}")
            elif status != 0x0000:
                raise Refused(f"{destination.name} answered a C-FIND with {in_words(status)}")
    except RuntimeError as e:
        raise PeerUnreachable(f"{destination.name} ended the association in the middle of a query") from e
    return found
