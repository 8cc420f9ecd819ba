"""A PACS whose every answer the test chooses: a Storage, Query and Storage Commitment SCP on a socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    MRImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node import commitment
from dicom_node.association import BOUNDED
from dicom_node.commitment import INSTANCE, Reference, Report
from dicom_node.config import DicomDestination
from dicom_node.demo import free_port

STORAGE = (
    MRImageStorage,
    SecondaryCaptureImageStorage,
    ParametricMapStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
    ComprehensiveSRStorage,
)


class Pacs:
    """``store(uid)`` gives the status of a C-STORE; ``keeps(uid)`` whether it then keeps the object.

    ``shows(uid, study)``: whether a query for ``study`` finds the object ``uid`` among those it keeps.
    ``commits``: "here" reports on the association of the request, "later" when the test says so.
    """

    def __init__(self, *classes: Any, port: int = 0) -> None:
        self.port = port or free_port()
        self.classes = classes or (*STORAGE, StudyRootQueryRetrieveInformationModelFind, Verification)
        self.store: Callable[[str], int] = lambda uid: 0x0000
        self.keeps: Callable[[str], bool] = lambda uid: True
        self.shows: Callable[[str, str], bool] = lambda uid, study: uid.startswith(study + ".")
        self.find_status = 0x0000
        self.action_status = 0x0000
        self.commits = ""
        self.asked: list[tuple[str, tuple[Reference, ...]]] = []
        self.received: list[str] = []
        self.kept: set[str] = set()
        self.associations = 0
        self.reporting: list[threading.Thread] = []  # that report on the association of the request
        self.answered: list[int | None] = []  # what they heard
        self._server: Any = None

    def __enter__(self) -> Pacs:
        ae = AE("PACS")
        for sop_class in self.classes:
            ae.add_supported_context(sop_class)
        if self.commits:
            ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_CONN_OPEN, self._on_open),
        ]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def destination(self, **changed: Any) -> DicomDestination:
        """As the node's configuration names it."""
        rules = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": self.port, **changed}
        return DicomDestination(**rules)

    def report(self, request: int = -1, reason: int = 0x0112) -> Report:
        """The honest answer to one request for commitment."""
        uid, references = self.asked[request]
        kept = tuple(r for r in references if r.sop_uid in self.kept)
        failed = tuple((r, reason) for r in references if r.sop_uid not in self.kept)
        return Report(uid, kept, failed)

    def tell(self, port: int, report: Report, role: bool = True, ae_title: str = "MRSISR") -> int:
        """N-EVENT-REPORT on an association of our own; the status that came back."""
        ae = AE("PACS")
        ae.add_requested_context(StorageCommitmentPushModel, "1.2.840.10008.1.2")
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
        association = ae.associate(
            "127.0.0.1", port, ae_title=ae_title, ext_neg=roles, evt_handlers=[BOUNDED]
        )
        assert association.is_established
        try:
            if not role:  # pynetdicom will not report in the SCU's role: some PACS do
                for context in association.accepted_contexts:
                    context._as_scp = True
            status, _ = association.send_n_event_report(
                commitment.report(report), report.event_type, StorageCommitmentPushModel, INSTANCE
            )
            return int(status.Status)
        finally:
            association.release()

    def _on_open(self, event: evt.Event) -> None:
        self.associations += 1

    def _on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.received.append(uid)
        status = self.store(uid)
        if status in (0x0000, 0xB000) and self.keeps(uid):
            self.kept.add(uid)
        return status

    def _on_find(self, event: evt.Event) -> Any:
        query = event.identifier
        assert query.QueryRetrieveLevel == "IMAGE"
        if self.find_status:
            yield self.find_status, None
            return
        for uid in sorted(self.kept):
            if self.shows(uid, str(query.StudyInstanceUID)):
                match = Dataset()
                match.QueryRetrieveLevel = "IMAGE"
                match.SOPInstanceUID = uid
                yield 0xFF00, match

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        self.asked.append(commitment.read_request(event.action_information))
        if self.commits == "here":
            reporting = threading.Thread(target=self._report_here, args=(event.assoc, self.report()))
            reporting.start()
            self.reporting.append(reporting)
        return self.action_status, None

    def _report_here(self, association: Any, report: Report) -> None:
        time.sleep(0.5)  # after the response to N-ACTION
        status, _ = association.send_n_event_report(
            commitment.report(report), report.event_type, StorageCommitmentPushModel, INSTANCE
        )
        self.answered.append(status.get("Status"))
