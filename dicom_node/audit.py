"""DICOM audit messages (PS3.15 A.5) to an audit repository, by syslog over TLS (RFC 5425) or UDP (RFC 5426).

Told from the store's events, in order and at least once, across restarts: the node started and stopped
(A.5.3.1), a study's instances were received, a destination has all of a delivery (A.5.3.7), somebody
signed in to the page or out, or was refused (A.5.3.12), and was changed in what lets them in (A.5.3.11).
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from . import feeds, log
from .config import Settings
from .destinations import DicomDestination
from .errors import BadConfiguration, NodeError, PeerUnreachable
from .store import Happening, SignIn, Store, Transfer
from .study import DeliveryState, Event
from .telling import AuditRules
from .tls import trusting

_LOG = log.get("audit")

_TIMEOUT_S = 20.0
_POLL_S = 5.0

# RFC 5424: facility 10 (security/authorization), severity 5 (notice); message type as IHE ATNA names it.
_PRIORITY = 10 * 8 + 5
_MESSAGE_TYPE = "DICOM+RFC3881"
_LARGEST_DATAGRAM = 65_000

_STUDY = ("110180", "DCM", "Study Instance UID")
_PATIENT = ("2", "RFC-3881", "Patient Number")
_SOURCE, _DESTINATION = ("110153", "DCM", "Source Role ID"), ("110152", "DCM", "Destination Role ID")
_APPLICATION = ("110150", "DCM", "Application")
_ACTIVITY, _TRANSFERRED, _AUTHENTICATION, _ALERT = (
    ("110100", "DCM", "Application Activity"),
    ("110104", "DCM", "DICOM Instances Transferred"),
    ("110114", "DCM", "User Authentication"),
    ("110113", "DCM", "Security Alert"),
)
_START, _STOP = ("110120", "DCM", "Application Start"), ("110121", "DCM", "Application Stop")
_LOGIN, _LOGOUT = ("110122", "DCM", "Login"), ("110123", "DCM", "Logout")
_ATTRIBUTES_CHANGED = ("110137", "DCM", "User Security Attributes Changed")
_NODE = ("110182", "DCM", "Node ID")
# RFC 3881 5.1.4: failures are minor where the action may be tried again, serious where it may not.
_OUTCOMES = {SignIn.REFUSED: "4", SignIn.LOCKED: "8"}
_NOBODY = "unknown"
_APPLICATION_SERVER = "4"


class Auditor:
    """Writes messages. ``settings`` says who we are and where destinations are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ourselves = f"{socket.gethostname()}/{os.getpid()}"

    def activity(self, started: bool, at: float) -> str:
        """Application Activity: the node starts or stops (PS3.15 A.5.3.1)."""
        root = self._message(_ACTIVITY, "E", at, _START if started else _STOP)
        self._us(root, _APPLICATION, requestor=False)
        self._audit_source(root)
        return _text(root)

    def received(self, transfer: Transfer, at: float) -> str:
        """DICOM Instances Transferred: we hold what a peer sent (PS3.15 A.5.3.7)."""
        root = self._message(_TRANSFERRED, "C", at)
        self._peer(root, _SOURCE, transfer.source, "", requestor=True)
        self._us(root, _DESTINATION, requestor=False)
        self._audit_source(root)
        _objects(root, transfer)
        return _text(root)

    def sent(self, transfer: Transfer, at: float) -> str:
        """DICOM Instances Transferred: a destination has all of a delivery (PS3.15 A.5.3.7)."""
        root = self._message(_TRANSFERRED, "C", at)
        self._us(root, _SOURCE, requestor=True)
        peer = next((d for d in self._settings.destination if d.name == transfer.destination), None)
        host = peer.host if isinstance(peer, DicomDestination) else ""
        title = peer.ae_title if isinstance(peer, DicomDestination) else transfer.destination
        self._peer(root, _DESTINATION, title, host, requestor=False)
        self._audit_source(root)
        _objects(root, transfer)
        return _text(root)

    def signed(self, event: SignIn, name: str, address: str, at: float) -> str:
        """User Authentication: a person signs in to the page or out, or is refused (PS3.15 A.5.3.12)."""
        kind = _LOGOUT if event is SignIn.LOGOUT else _LOGIN
        root = self._message(_AUTHENTICATION, "E", at, kind, _OUTCOMES.get(event, "0"))
        _person(root, name or _NOBODY, address)
        self._us(root, _APPLICATION, requestor=False)
        self._audit_source(root)
        return _text(root)

    def changed(self, name: str, address: str, at: float) -> str:
        """Security Alert: a person was added, removed or given another role, password or key (A.5.3.11).

        ``address`` is set if they did it themselves, on the page.
        """
        root = self._message(_ALERT, "E", at, _ATTRIBUTES_CHANGED)
        if address:
            _person(root, name, address)
        self._us(root, _APPLICATION, requestor=not address)
        self._audit_source(root)
        title = self._settings.node.ae_title
        node = _object(root, title, "2", "13", _NODE, title)  # a system object; a security resource
        said = base64.b64encode(f"what lets {name} in was changed".encode()).decode()
        ET.SubElement(node, "ParticipantObjectDetail", type="Alert Description", value=said)
        return _text(root)

    def _message(
        self,
        event: tuple[str, str, str],
        action: str,
        at: float,
        kind: tuple[str, str, str] | None = None,
        outcome: str = "0",
    ) -> ET.Element:
        root = ET.Element("AuditMessage")
        identification = ET.SubElement(
            root,
            "EventIdentification",
            EventActionCode=action,
            EventDateTime=_time(at),
            EventOutcomeIndicator=outcome,
        )
        _code(identification, "EventID", event)
        if kind is not None:
            _code(identification, "EventTypeCode", kind)
        return root

    def _us(self, root: ET.Element, role: tuple[str, str, str], requestor: bool) -> None:
        who = ET.SubElement(
            root,
            "ActiveParticipant",
            UserID=self._ourselves,
            AlternativeUserID=f"AETITLES={self._settings.node.ae_title}",
            UserIsRequestor=_boolean(requestor),
            NetworkAccessPointID=socket.gethostname(),
            NetworkAccessPointTypeCode="1",
        )
        _code(who, "RoleIDCode", role)

    @staticmethod
    def _peer(root: ET.Element, role: tuple[str, str, str], title: str, host: str, requestor: bool) -> None:
        who = ET.SubElement(
            root,
            "ActiveParticipant",
            UserID=title,
            AlternativeUserID=f"AETITLES={title}",
            UserIsRequestor=_boolean(requestor),
        )
        if host:
            _place(who, host)
        _code(who, "RoleIDCode", role)

    def _audit_source(self, root: ET.Element) -> None:
        source = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=self._settings.node.ae_title)
        if self._settings.audit.site:
            source.set("AuditEnterpriseSiteID", self._settings.audit.site)
        ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})


def _objects(root: ET.Element, transfer: Transfer) -> None:
    for study, counts in sorted(transfer.studies.items()):
        found = _object(root, study, "2", "3", _STUDY, study)
        description = ET.SubElement(found, "ParticipantObjectDescription")
        for sop_class, count in sorted(counts.items()):
            ET.SubElement(description, "SOPClass", UID=sop_class, NumberOfInstances=str(count))
    patient = transfer.patient_id
    if transfer.issuer:
        patient = f"{patient}^^^{transfer.issuer}"
    _object(root, patient, "1", "1", _PATIENT, patient)  # no name: the node keeps none


def _object(
    root: ET.Element, name: str, kind: str, role: str, code: tuple[str, str, str], shown: str
) -> ET.Element:
    found = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=name,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(found, "ParticipantObjectIDTypeCode", code)
    ET.SubElement(found, "ParticipantObjectName").text = shown
    return found


def _person(root: ET.Element, name: str, address: str) -> None:
    who = ET.SubElement(root, "ActiveParticipant", UserID=name, UserIsRequestor="true")
    _place(who, address)


def _place(who: ET.Element, host: str) -> None:
    """``host``: a name (1) or an address (2)."""
    who.set("NetworkAccessPointID", host)
    who.set("NetworkAccessPointTypeCode", "2" if host[:1].isdigit() or ":" in host else "1")


def _code(parent: ET.Element, name: str, code: tuple[str, str, str]) -> None:
    value, scheme, meaning = code
    ET.SubElement(parent, name, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _text(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


class Syslog:
    """A syslog receiver. Every message is a frame of its own."""

    def __init__(self, rules: AuditRules) -> None:
        self._rules = rules

    def send(self, messages: Sequence[str], at: float) -> None:
        """Hand ``messages`` over. Raises PeerUnreachable or BadConfiguration; some may have arrived then."""
        try:
            with self._connected() as connection:
                for message in messages:
                    self._send(connection, _frame(message, at))
        except OSError as e:
            where = f"{self._rules.host}:{self._rules.port}"
            raise PeerUnreachable(f"audit: {where} does not take messages: {e.strerror or e}") from e

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        rules = self._rules
        where = (rules.host, rules.port)
        if rules.transport == "udp":
            family = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)[0][0]
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.connect(where)
                yield datagrams
            return
        with (
            socket.create_connection(where, timeout=_TIMEOUT_S) as plain,
            _context(rules).wrap_socket(plain, server_hostname=rules.host) as stream,
        ):
            yield stream
            # Who answers our end with their own has read everything; one that is gone by then may not have.
            with suppress(ssl.SSLEOFError):  # some close without a word (RFC 5425 4.4 wants one)
                stream.unwrap()

    def _send(self, connection: socket.socket, frame: bytes) -> None:
        if self._rules.transport == "udp":
            connection.send(frame[:_LARGEST_DATAGRAM])
        else:
            connection.sendall(str(len(frame)).encode() + b" " + frame)  # RFC 5425 4.3


def _context(rules: AuditRules) -> ssl.SSLContext:
    context = trusting("audit", rules.ca_file)
    if rules.certificate is not None:
        try:
            context.load_cert_chain(rules.certificate, rules.key, password=lambda: "")
        except OSError as e:
            raise BadConfiguration(f"audit: cannot use certificate and key: {e.strerror or e}") from e
    return context


def _frame(message: str, at: float) -> bytes:
    """RFC 5424. The byte order mark says that what follows is UTF-8 (6.4)."""
    head = f"<{_PRIORITY}>1 {_time(at)} {socket.gethostname()} mrsi-node {os.getpid()} {_MESSAGE_TYPE} - "
    return head.encode() + b"\xef\xbb\xbf" + message.encode()


def tell(store: Store, auditor: Auditor, syslog: Syslog) -> None:
    """Tell the repository what happened since it was told last; put off if it does not answer."""

    def send(happened: Sequence[Happening]) -> None:
        messages = [m for h in happened for m in _messages(h, store, auditor)]
        if messages:
            syslog.send(messages, store.clock())

    feeds.tell(store, "audit", send, _LOG)


def _messages(happening: Happening, store: Store, auditor: Auditor) -> list[str]:
    if happening.about == "study" and happening.event in (Event.COMPLETED, Event.FORCED):
        case, _, revision = happening.subject.rpartition("/")
        return [auditor.received(t, happening.at) for t in store.received(case, int(revision))]
    if happening.about == "delivery" and happening.state == DeliveryState.DELIVERED:
        transfer = store.sent(happening.subject)
        return [auditor.sent(transfer, happening.at)] if transfer is not None else []
    if happening.about == "sign-in":
        event, who, address = SignIn(happening.event), happening.subject, happening.reason
        if event is SignIn.CHANGED:
            return [auditor.changed(who, address, happening.at)]
        return [auditor.signed(event, who, address, happening.at)]
    return []


def run(settings: Settings, store: Store, stop: threading.Event) -> None:
    """Tell the repository every few seconds until ``stop`` is set."""
    auditor, syslog = Auditor(settings), Syslog(settings.audit)
    _tell_activity(auditor, syslog, store.clock(), started=True)
    feeds.every(_POLL_S, lambda: tell(store, auditor, syslog), _LOG, stop)
    _tell_activity(auditor, syslog, store.clock(), started=False)


def _tell_activity(auditor: Auditor, syslog: Syslog, at: float, started: bool) -> None:
    try:
        syslog.send([auditor.activity(started, at)], at)
    except NodeError as problem:
        _LOG.warning("audit.activity_not_told", started=started, reason=str(problem))
