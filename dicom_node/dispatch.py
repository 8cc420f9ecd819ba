"""One try of one delivery: send what the destination has not taken yet, and read its answers."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from . import log
from .config import DicomDestination, FolderDestination, NodeRules
from .errors import PeerBusy, PeerUnreachable, Refused, TemporaryError
from .spool import Spool, fsync_folder
from .store import Sendable

Taken = Callable[[Sendable, str], None]

_LOG = log.get("dispatch")

# PS3.4 Table B.2-1: stored, though the peer coerced something. 0111: it has the very instance already.
_STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007, 0x0111})


def send(
    destination: DicomDestination | FolderDestination,
    files: Sequence[Sendable],
    spool: Spool,
    node: NodeRules,
    taken: Taken,
) -> None:
    """Bring ``files`` to ``destination``, calling ``taken`` with the status as each is confirmed.

    Raises TemporaryError (the clock may help) or Refused (a person must) once it cannot go on; what was
    taken before stays taken.
    """
    if isinstance(destination, FolderDestination):
        _write(destination, files, spool, taken)
    else:
        _store(destination, files, spool, node, taken)


def echo(destination: DicomDestination, node: NodeRules) -> None:
    """C-ECHO. Raises PeerUnreachable or Refused, saying why."""
    ae = _ae(node)
    ae.add_requested_context(Verification)
    with _associate(ae, destination) as association:
        status = association.send_c_echo()
        if not status or status.Status != 0x0000:
            raise Refused(f"{destination.name} did not answer the echo with Success")


def send_paths(destination: DicomDestination, paths: Sequence[Path], node: NodeRules, sent: Taken) -> None:
    """Send DICOM files that are not results, such as a study from disk. Raises as ``send``."""
    files = []
    for path in paths:
        meta = pydicom.filereader.read_file_meta_info(path)
        uids = (str(meta.MediaStorageSOPInstanceUID), str(meta.MediaStorageSOPClassUID))
        files.append(Sendable(str(path.resolve()), "", path.name, *uids, ""))
    _exchange(destination, files, Path("/"), node, sent)


def _store(
    destination: DicomDestination, files: Sequence[Sendable], spool: Spool, node: NodeRules, taken: Taken
) -> None:
    _exchange(destination, [f for f in files if f.kind in destination.send], spool.root, node, taken)


def _exchange(
    destination: DicomDestination, files: Sequence[Sendable], root: Path, node: NodeRules, taken: Taken
) -> None:
    if not files:
        return
    ae = _ae(node)
    for sop_class, syntax in sorted({(f.sop_class_uid, _syntax(root / f.path)) for f in files}):
        ae.add_requested_context(sop_class, syntax)
    problems: list[str] = []
    with _associate(ae, destination) as association:
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
        for f in files:
            if (f.sop_class_uid, _syntax(root / f.path)) not in accepted:
                problems.append(f"{f.name}: it refuses the SOP class {pydicom.uid.UID(f.sop_class_uid).name}")
                continue
            status = _send_one(association, destination, root / f.path)
            if status in _STORED:
                taken(f, f"{status:04X}")
            else:
                problems.append(f"{f.name}: it answered status {status:04X}")
    if problems:
        distinct = list(dict.fromkeys(problems))
        more = f", and {len(distinct) - 3} more" if len(distinct) > 3 else ""
        raise Refused(f"{destination.name} did not take everything: {'; '.join(distinct[:3])}{more}")


def _send_one(association: Association, destination: DicomDestination, path: Path) -> int:
    try:
        answer = association.send_c_store(path)
    except RuntimeError as e:  # pynetdicom: the association is no longer established
        raise PeerUnreachable(f"{destination.name} ended the association in the middle of a transfer") from e
    if "Status" not in answer:
        raise PeerUnreachable(f"{destination.name} did not answer a C-STORE in time, or broke the connection")
    status = int(answer.Status)
    if 0xA700 <= status <= 0xA7FF:
        raise PeerBusy(f"{destination.name} is out of resources (status {status:04X})")
    return status


def _ae(node: NodeRules) -> AE:
    ae = AE(ae_title=node.ae_title)
    ae.acse_timeout = node.acse_timeout_s
    ae.dimse_timeout = node.dimse_timeout_s
    ae.network_timeout = node.network_timeout_s
    ae.connection_timeout = node.acse_timeout_s
    return ae


@contextmanager
def _associate(ae: AE, destination: DicomDestination) -> Iterator[Association]:
    where = f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if association.is_rejected:
        answer = association.acceptor.primitive
        words = f"{where} rejected the association: {answer.reason_str if answer else 'no reason given'}"
        if answer is None or answer.result == 0x02:  # PS3.8 9.3.4: rejected-transient
            raise PeerUnreachable(words)
        raise Refused(f"{words}. Check that it knows our AE title {ae.ae_title!r} and that its own is right")
    if not association.is_established:
        raise PeerUnreachable(f"no association with {where}: is it running, and is the port right?")
    # Without it Nagle's algorithm and the peer's delayed ACK cost up to 40 ms for each instance.
    wire = association.dul.socket
    if wire is not None and wire.socket is not None:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _syntax(path: Path) -> str:
    return str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)


def _write(destination: FolderDestination, files: Sequence[Sendable], spool: Spool, taken: Taken) -> None:
    for f in files:
        # out/<case>/<revision>-<attempt>/<rest>: the case and its attempt name the folder, no patient does.
        case, attempt, *rest = Path(f.path).parts[1:]
        target = destination.folder.joinpath(f"{case}-{attempt}", *rest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copyfile(spool.path(f.path), part)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(target)
            fsync_folder(target.parent)
        except OSError as e:
            raise TemporaryError(f"{destination.name}: cannot write {target.parent}: {e.strerror}") from e
        taken(f, "written")
