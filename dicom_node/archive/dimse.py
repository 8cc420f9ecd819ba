"""A PACS by DICOM: C-FIND, C-MOVE and C-GET in the Study Root model (PS3.4 C.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, MRImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.association import ask, no_association, requestor, tls_to
from dicom_node.config import NodeRules, PacsRules
from dicom_node.errors import PeerBusy, PeerUnreachable, Refused, TemporaryError

from .base import SERIES_KEYS, STUDY_KEYS, Accept

_PENDING = (0xFF00, 0xFF01)
_MOST_ANSWERS = 50_000  # instances of a study, say
_ANATOMY = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
# PS3.4 Table C.4-2 and C.4-3.
_WORDS = {
    0xA701: "it is out of resources",
    0xA702: "it is out of resources",
    0xA801: "it does not know the move destination: add this node to its configuration",
    0xA900: "the request does not match its SOP class",
    0xB000: "some instances could not be sent",
    0xFE00: "it cancelled the transfer",
}


class DimsePacs:
    """One peer. Every question is an association of its own, and ends within the time-outs."""

    def __init__(
        self, rules: PacsRules, node: NodeRules, accept: Accept, classes: Sequence[str] = _ANATOMY
    ) -> None:
        """``classes``: SOP classes that C-GET may bring; C-MOVE brings whatever the listener takes."""
        self._classes = classes
        self._rules = rules
        self._node = node
        self._accept = accept

    def studies(self, **keys: str) -> list[Dataset]:
        """Studies that match ``keys``. Raises TemporaryError or Refused."""
        return self._find("STUDY", keys, STUDY_KEYS)

    def series(self, study_uid: str) -> list[Dataset]:
        """Series of one study, each with Number of Series Related Instances.

        An archive that does not state the number is asked at image level. Raises as ``studies``.
        """
        found = self._find("SERIES", {"StudyInstanceUID": study_uid}, SERIES_KEYS)
        for series in found:
            if series.get("NumberOfSeriesRelatedInstances") in (None, ""):
                uid = str(series.get("SeriesInstanceUID", ""))
                keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": uid}
                series.NumberOfSeriesRelatedInstances = len(self._find("IMAGE", keys, ("SOPInstanceUID",)))
        return found

    def retrieve(self, study_uid: str, series_uid: str) -> None:
        """Have one series sent here, by C-MOVE or C-GET. Raises TemporaryError or Refused."""
        wanted = _query("SERIES", {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}, ())
        if self._rules.retrieve == "get":
            self._get(wanted)
        else:
            self._move(wanted)

    def _find(self, level: str, keys: dict[str, str], wanted: Sequence[str]) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        ae = self._ae()
        ae.add_requested_context(model)
        found = []
        with self._associate(ae) as association:
            for status, answer in association.send_c_find(_query(level, keys, wanted), model):
                self._judge(status, "C-FIND")
                if answer is not None:
                    found.append(answer)
                if len(found) > _MOST_ANSWERS:
                    raise Refused(f"{self._rules.ae_title} answers a query without end")
        return found

    def _move(self, wanted: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        ae = self._ae()
        ae.add_requested_context(model)
        to = self._rules.move_to or self._node.ae_title
        with self._associate(ae) as association:
            for status, _ in association.send_c_move(wanted, to, model):
                self._judge(status, "C-MOVE")

    def _get(self, wanted: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        ae = self._ae()
        ae.add_requested_context(model)
        for sop_class in self._classes:
            ae.add_requested_context(sop_class)
        roles = [build_role(sop_class, scp_role=True) for sop_class in self._classes]
        handlers = [(evt.EVT_C_STORE, self._on_c_store)]
        with self._associate(ae, roles=roles, handlers=handlers) as association:
            for status, _ in association.send_c_get(wanted, model):
                self._judge(status, "C-GET")

    def _on_c_store(self, event: evt.Event) -> int:
        request: Any = event.request
        uids = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        return self._accept(event.encoded_dataset(), *uids)

    def _ae(self) -> AE:
        ae = requestor(self._node)
        ae.acse_timeout = ae.connection_timeout = min(self._node.acse_timeout_s, self._rules.timeout_s)
        ae.dimse_timeout = ae.network_timeout = self._rules.timeout_s
        return ae

    @contextmanager
    def _associate(self, ae: AE, **more: Any) -> Iterator[Association]:
        name, where = self._rules.ae_title, (self._rules.host, self._rules.port)
        tls = tls_to(self._rules)
        association = ask(ae, self._rules, tls, **more)
        if association.is_rejected:
            raise Refused(f"{name} rejects associations of {self._node.ae_title}")
        if not association.is_established:
            raise no_association(f"{name} at {where[0]}:{where[1]}", tls)
        try:
            if not association.accepted_contexts:
                raise Refused(f"{name} offers no query and retrieval")
            yield association
        except (ValueError, RuntimeError) as e:  # pynetdicom: context refused, or association lost
            raise TemporaryError(f"{name} refuses or broke off: {type(e).__name__}") from e
        finally:
            if association.is_established:
                association.release()

    def _judge(self, status: Dataset, what: str) -> None:
        name = self._rules.ae_title
        if "Status" not in status:
            raise PeerUnreachable(f"{name} did not answer a {what} in time, or broke the connection")
        code = int(status.Status)
        if code == 0 or code in _PENDING:
            return
        words = f"{name} answered {what} with {code:04X}" + (f": {_WORDS[code]}" if code in _WORDS else "")
        if code in (0xA801, 0xA900, 0x0122):
            raise Refused(words)
        raise PeerBusy(words)


def _query(level: str, keys: dict[str, str], wanted: Sequence[str]) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword in wanted:
        setattr(query, keyword, None if keyword.startswith("Number") else "")
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query
