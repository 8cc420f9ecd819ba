"""The statement's tables as Markdown, read from settings and code."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.uid import UID

from dicom_node import codes, listener, mpps, tls
from dicom_node.archive.base import SERIES_KEYS, STUDY_KEYS
from dicom_node.arrival import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.association import requestor
from dicom_node.commitment import PUSH_MODEL
from dicom_node.config import Caller, DicomDestination, DicomWebDestination, ProvingRules, Settings
from dicom_node.dispatch.statuses import in_words, verdict
from dicom_node.encode.headers import VERBATIM
from dicom_node.rungs import class_name

from .proposals import Proposal, made, proposals

_PRIVATE = {
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image (private)",
    "1.3.46.670589.11.0.0.12.1": "Philips MR Spectrum (private)",
    "1.3.46.670589.11.0.0.12.2": "Philips MR Series Data (private)",
}
# One of each group that statuses are judged by.
_ANSWERS = (
    0x0000, 0x0001, 0x0107, 0x0110, 0x0111, 0x0116, 0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0x0213,
    0xA700, 0xA900, 0xB000, 0xB006, 0xB007, 0xC000,
)  # fmt: skip
_WHAT_THEN = {
    "taken": "counted as stored",
    "later": "the instance is sent again later",
    "never": "not sent again in this form; the delivery waits for a person",
}


def tables(settings: Settings) -> Mapping[str, str]:
    """Every table and value that statement.md asks for, by name."""
    contexts = _accepted(settings)
    requesting = requestor(settings.node)
    return {
        "version": importlib.metadata.version("mrsi-sr-node"),
        "ae_title": settings.node.ae_title,
        "implementation_class": IMPLEMENTATION_CLASS_UID,
        "implementation_version": IMPLEMENTATION_VERSION,
        "services": _services(contexts),
        "accepted": _accepted_table(contexts),
        "storage_syntaxes": table(
            ("Name", "UID"), [(name_of(x), x) for x in map(UID, listener.TRANSFER_SYNTAXES)]
        ),
        "acceptance": _acceptance(settings),
        "callers": _callers(settings.node.allowed_callers),
        "initiation": table(
            ("Parameter", "Value"),
            [
                ("Maximum PDU length offered", requesting.maximum_pdu_size),
                ("Time-out of connection and association set-up", _seconds(settings.node.acse_timeout_s)),
                ("Time-out of a DIMSE response", _seconds(settings.node.dimse_timeout_s)),
                ("Time-out of a silent connection", _seconds(settings.node.network_timeout_s)),
                ("Asynchronous operations", "not proposed: one at a time"),
            ],
        ),
        "proposed": _proposed(),
        "store_statuses_given": _store_statuses_given(),
        "store_statuses_heard": table(
            ("Status", "Meaning", "Then"), [(_hex(s), _plain(s), _WHAT_THEN[verdict(s)]) for s in _ANSWERS]
        ),
        "mpps_statuses": _mpps_statuses(),
        "study_keys": _attributes(STUDY_KEYS),
        "series_keys": _attributes(SERIES_KEYS),
        "destinations": _destinations(settings),
        "commitment": _commitment(settings),
        "keep_days": f"{settings.retention.keep_days:g}",
        "keep_ignored_days": f"{settings.retention.keep_ignored_days:g}",
        "ports": _ports(settings),
        "ciphers": "\n".join(f"- {c}" for c in tls.CIPHERS.split(":")),
        "made": table(
            ("Kind", "SOP class", "UID"), [(kind, name_of(uid), uid) for kind, uid in made().items()]
        ),
        "verbatim": _attributes(VERBATIM),
        "series_numbers": str(settings.output.base_series),
        "equipment": table(
            ("Attribute", "Value"),
            [
                ("Manufacturer (0008,0070)", settings.output.manufacturer),
                ("Manufacturer's Model Name (0008,1090)", settings.output.model_name),
                ("Device Serial Number (0018,1000)", settings.output.device_serial),
                ("Content Qualification (0018,9004)", settings.output.content_qualification),
            ],
        ),
        "private_scheme": codes.SCHEME,
        "private_codes": table(
            ("Code Value", "Code Meaning"), [(c.value, c.meaning) for c in codes.private_codes()]
        ),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, without an empty line around it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def name_of(uid: UID) -> str:
    """The standard's name of ``uid``; of private ones, who made them."""
    return _PRIVATE.get(uid, class_name(uid))


def _accepted(settings: Settings) -> list[tuple[UID, tuple[UID, ...], str]]:
    """(abstract syntax, transfer syntaxes in order of preference, role) of every context that is taken."""
    ae = listener.accepting_entity(settings.node, commitment=True)
    return [
        (
            UID(c.abstract_syntax or ""),
            tuple(UID(t) for t in c.transfer_syntax or ()),
            "SCP, SCU" if c.abstract_syntax == PUSH_MODEL else "SCP",
        )
        for c in sorted(ae.supported_contexts, key=lambda c: name_of(UID(c.abstract_syntax or "")))
    ]


def _accepted_table(contexts: Sequence[tuple[UID, tuple[UID, ...], str]]) -> str:
    storage = tuple(listener.TRANSFER_SYNTAXES)
    return table(
        ("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation"),
        [
            (
                name_of(uid),
                uid,
                "those of storage" if syntaxes == storage else "; ".join(x.name for x in syntaxes),
                role,
                "Role Selection" if "SCU" in role else "none",
            )
            for uid, syntaxes, role in contexts
        ],
    )


def _services(contexts: Sequence[tuple[UID, tuple[UID, ...], str]]) -> str:
    as_scp = {uid for uid, _, _ in contexts}
    as_scu = {p.sop_class for p in proposals() if p.role == "SCU"}
    rows = sorted((name_of(u), u in as_scu, u in as_scp) for u in as_scp | as_scu)
    return table(("SOP class", "User (SCU)", "Provider (SCP)"), [(n, _yes(u), _yes(p)) for n, u, p in rows])


def _proposed() -> str:
    def row(p: Proposal) -> tuple[str, ...]:
        syntaxes = "; ".join(x.name for x in p.syntaxes)
        role = "Role Selection" if p.negotiated else "none"
        return p.activity, name_of(p.sop_class), p.sop_class, syntaxes, p.role, role

    head = ("Activity", "Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation")
    return table(head, map(row, proposals()))


def _acceptance(settings: Settings) -> str:
    node = settings.node
    called = "refused" if node.require_called_ae else "accepted"
    return table(
        ("Parameter", "Value"),
        [
            ("Called AE title other than the node's", called),
            ("Associations at one time", node.max_associations),
            ("Associations at one time from one address", node.max_associations_per_address),
            ("Maximum PDU length offered", node.max_pdu_bytes),
            ("Largest data set of one instance, bytes", node.max_dataset_bytes),
            ("Time for an association request to arrive", _seconds(node.acse_timeout_s)),
            ("Time-out of a silent association", _seconds(node.network_timeout_s)),
            ("Asynchronous operations", "not accepted: one at a time"),
        ],
    )


def _callers(callers: Sequence[Caller]) -> str:
    if not callers:
        return "No calling AE title is listed: any is accepted, and the node listens on this machine alone."
    return table(
        ("Calling AE title", "From", "Certificate bound", "May store"),
        [
            (
                c.ae_title,
                ", ".join(map(str, c.networks)) or "anywhere",
                _yes(bool(c.certificates)),
                _yes(c.store),
            )
            for c in callers
        ],
    )


def _store_statuses_given() -> str:
    return table(
        ("Service status", "Status", "When", "Stored"),
        [
            ("Success", _hex(listener.SUCCESS), "instance and record are on disk (or were)", "yes"),
            ("Refused: out of resources", _hex(listener.OUT_OF_RESOURCES), "no space, database away", "no"),
            (
                "Error: data set does not match SOP class",
                _hex(listener.NO_MATCH),
                "the data set's SOP Class or Instance UID is not that of the request or its context",
                "no",
            ),
            ("Error: cannot understand", _hex(listener.CANNOT_UNDERSTAND), "no DICOM, or too much", "no"),
            (
                "Error: cannot understand",
                _hex(listener.CONFLICT),
                "the SOP Instance UID is known with other pixels, series or patient",
                "no",
            ),
            ("Refused: not authorized", _hex(listener.NOT_AUTHORIZED), "this caller may verify only", "no"),
            ("Processing failure", _hex(listener.PROCESSING_FAILURE), "an error of the node's own", "no"),
        ],
    )  # fmt: skip


def _mpps_statuses() -> str:
    return table(
        ("Service", "Status", "When"),
        [
            ("N-CREATE, N-SET", _hex(mpps.SUCCESS), "the step is kept"),
            ("N-CREATE", _hex(mpps.DUPLICATE), "this step is known already; nothing changes"),
            ("N-CREATE", _hex(mpps.MISSING_ATTRIBUTE), "no Performed Procedure Step Status"),
            ("N-CREATE, N-SET", _hex(mpps.INVALID_VALUE), "a status that the service does not know here"),
            ("N-CREATE, N-SET", _hex(mpps.INVALID_INSTANCE), "the request names no SOP Instance UID"),
            ("N-SET", _hex(mpps.NO_SUCH_INSTANCE), "no such step was created here"),
            (
                "N-SET",
                f"{_hex(mpps.PROCESSING_FAILURE)} with Error ID {_hex(mpps.NO_LONGER_UPDATED)}",
                "the step is COMPLETED or DISCONTINUED already",
            ),
            ("N-CREATE, N-SET", _hex(mpps.RESOURCE_LIMITATION), "the database is away"),
        ],
    )


def _destinations(settings: Settings) -> str:
    rows = []
    for d in settings.destination:
        if isinstance(d, DicomDestination):
            rows.append((d.name, "C-STORE", f"{d.ae_title} at {d.host}:{d.port}", ", ".join(d.send), d.proof))
        elif isinstance(d, DicomWebDestination):
            rows.append((d.name, "STOW-RS", d.url, ", ".join(d.send), d.proof))
        else:
            rows.append((d.name, "folder", str(d.folder), "all, and NIfTI", d.proof))
    if not rows:
        return "No destination is configured."
    return table(("Destination", "Service", "Where", "Objects", "Proof of storage"), rows)


def _commitment(settings: Settings) -> str:
    first = next((d.proving for d in settings.destination if isinstance(d, DicomDestination)), ProvingRules())
    return table(
        ("Parameter", "Value"),
        [
            ("Answer waited for on the association of the request", _seconds(first.stay_s)),
            ("No answer after this: asked again", _seconds(first.event_s)),
            ("Rounds in which instances that are not kept are sent again", first.resend),
        ],
    )


def _ports(settings: Settings) -> str:
    node, secure = settings.node, settings.tls
    protected = f"{node.host}:{secure.port}, client certificate {secure.client}"
    return table(
        ("Port", "Where", "Protocol"),
        [
            ("DICOM", f"{node.host}:{node.port}", "DICOM upper layer over TCP (PS3.8)"),
            (
                "DICOM over TLS",
                protected if secure.certificate else "off: no certificate is set",
                "PS3.15 B.12",
            ),
        ],
    )


def _attributes(keywords: Iterable[str]) -> str:
    rows = []
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        assert tag is not None
        rows.append(
            (dictionary_description(tag), f"({tag >> 16:04X},{tag & 0xFFFF:04X})", dictionary_VR(tag))
        )
    return table(("Attribute", "Tag", "VR"), rows)


def _plain(status: int) -> str:
    return in_words(status).partition(" (status")[0]


def _hex(status: int) -> str:
    return f"{status:04X}H"


def _seconds(value: float) -> str:
    return f"{value:g} s"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
