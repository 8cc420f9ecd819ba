"""Objects back from where they were sent: WADO-RS, C-GET, or C-MOVE to this node."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

from dicom_node.archive import DimsePacs, only_part
from dicom_node.config import DicomDestination, DicomWebDestination, NodeRules, PacsRules
from dicom_node.dispatch import fetch_instance
from dicom_node.errors import NodeError, TemporaryError
from dicom_node.spool import Spool
from dicom_node.store import Sendable, Store

from .tidy import set_aside

_ARRIVAL_S = 30.0  # what a C-MOVE sends to the node that is running is looked for so long


class Back:
    """What came back, as files by SOP Instance UID."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.files: dict[str, Path] = {}

    def take(self, content: bytes, sop_class_uid: str, sop_uid: str) -> int:
        path = self._folder / f"{len(self.files):05d}.dcm"
        path.write_bytes(content)
        self.files[sop_uid] = path
        return 0x0000


def fetch_web(
    destination: DicomWebDestination, node: NodeRules, sent: Sequence[tuple[str, str, Sendable]], back: Back
) -> str:
    """Every one of ``sent`` (study, series, object) by WADO-RS; returns how. Raises as ``dispatch.send``."""
    for study, series, f in sent:
        content, kind = fetch_instance(destination, node, study, series, f.sop_uid)
        back.take(only_part(content, kind), f.sop_class_uid, f.sop_uid)
    return "WADO-RS"


def fetch_dicom(
    destination: DicomDestination,
    node: NodeRules,
    sent: Sequence[tuple[str, str, Sendable]],
    back: Back,
    store: Store | None,
    spool: Spool | None,
) -> str:
    """All series of ``sent`` by C-GET, else by C-MOVE to us; returns how.

    While the node runs, C-MOVE brings them to its listener: then they are found in its ``store`` and
    ``spool``, and set aside there. Raises TemporaryError or Refused, in words of both ways.
    """
    series = list(dict.fromkeys((study, uid) for study, uid, _ in sent))
    classes = sorted({f.sop_class_uid for *_, f in sent})
    wanted = {f.sop_uid for *_, f in sent}
    where = {"ae_title": destination.ae_title, "host": destination.host, "port": destination.port,
             "tls": destination.tls}  # fmt: skip
    try:
        pacs = DimsePacs(PacsRules(**where, retrieve="get"), node, back.take, classes)
        for study, uid in series:
            pacs.retrieve(study, uid)
        if wanted <= set(back.files):
            return "C-GET"
        problem = f"C-GET brought {len(back.files)} of {len(wanted)}"
    except NodeError as e:
        problem = f"C-GET: {e}"
    try:
        pacs = DimsePacs(PacsRules(**where, retrieve="move"), node, back.take)
        with _listening(node, classes, back) as alone:
            for study, uid in series:
                pacs.retrieve(study, uid)
                if not alone and store is not None:
                    set_aside(store, study)
            if not alone and store is not None and spool is not None:
                _found_in(store, spool, series[0][0], wanted, back)
    except NodeError as e:
        raise TemporaryError(f"{problem}; C-MOVE: {e}") from e
    return "C-MOVE"


@contextmanager
def _listening(node: NodeRules, classes: Sequence[str], back: Back) -> Iterator[bool]:
    """A Storage SCP in the node's place; False if the node itself listens there."""
    ae = AE(ae_title=node.ae_title)
    for sop_class in classes:
        ae.add_supported_context(sop_class)

    def keep(event: evt.Event) -> int:
        request: Any = event.request
        uids = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        return back.take(event.encoded_dataset(), *uids)

    try:
        server = ae.start_server((node.host, node.port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    except OSError as e:
        if e.errno != errno.EADDRINUSE:
            raise TemporaryError(f"cannot listen on {node.host}:{node.port}: {e.strerror}") from e
        yield False
        return
    try:
        yield True
    finally:
        if server is not None:
            server.shutdown()


def _found_in(store: Store, spool: Spool, study_uid: str, wanted: set[str], back: Back) -> None:
    until = time.monotonic() + _ARRIVAL_S
    while time.monotonic() < until and not wanted <= set(back.files):
        set_aside(store, study_uid)
        for uid, path in store.paths_of(wanted - set(back.files)).items():
            back.files[uid] = spool.path(path)
        time.sleep(0.5)
