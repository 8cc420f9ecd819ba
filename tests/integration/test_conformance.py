"""A live node accepts, refuses and proposes what its Conformance Statement says: seen by its peers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from dicom_node import dispatch
from dicom_node.archive.dimse import DimsePacs
from dicom_node.arrival import IMPLEMENTATION_CLASS_UID
from dicom_node.config import DicomDestination, NodeRules, PacsRules, PeerRules
from dicom_node.conformance.proposals import Proposal, made, proposals, sent
from dicom_node.errors import NodeError
from dicom_node.safekeeping import Safekeeper
from dicom_node.store import Sendable
from tests.doors import as_file, mr_slice, open_intake
from tests.harness import needs_dcmtk
from tests.integration.test_listener import free_port, run_tool
from tests.results import Office

_STATEMENT = (Path(__file__).parents[2] / "deploy/docs/CONFORMANCE.md").read_text()
_MOST = 128  # presentation contexts in one association

# Never in the statement: film, waveforms, radiotherapy; video and newer codecs.
_OTHER_CLASSES = (
    "1.2.840.10008.5.1.1.1", "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.481.3",
    "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.1.1.2",
)  # fmt: skip
_OTHER_SYNTAXES = ("1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.92")


def rows(after: str) -> list[list[str]]:
    """Cells of the first table after a heading of the statement."""
    text = _STATEMENT[_STATEMENT.index(after) :]
    block = text[text.index("\n| ") + 1 :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A node with the shipped rules, listening."""
    made_here = Office(tmp_path_factory.mktemp("node"))
    with made_here.listening():
        yield made_here


@pytest.fixture(scope="module")
def a_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "mr.dcm"
    path.write_bytes(as_file(mr_slice(1)))
    return path


def offered(
    office: Office, a_file: Path, contexts: list[tuple[str, str]], folder: Path
) -> dict[tuple[str, str], bool]:
    """Which (abstract, transfer syntax) contexts the node accepts from DCMTK, each proposed by itself."""
    found: dict[tuple[str, str], bool] = {}
    for start in range(0, len(contexts), _MOST):
        part = contexts[start : start + _MOST]
        syntaxes = sorted({t for _, t in part})
        lines = ["[[TransferSyntaxes]]"]
        for n, t in enumerate(syntaxes):
            lines += [f"[T{n}]", f"TransferSyntax1 = {t}"]
        lines += ["[[PresentationContexts]]", "[All]"]
        for n, (abstract, t) in enumerate(part, start=1):
            lines.append(f"PresentationContext{n} = {abstract}\\T{syntaxes.index(t)}")
        lines += ["[[Profiles]]", "[All]", "PresentationContexts = All"]
        (folder / "contexts.cfg").write_text("\n".join(lines) + "\n")
        done = run_tool(
            "storescu", "-d", "-xf", folder / "contexts.cfg", "All", "-aec", "MRSISR", "127.0.0.1",
            office.node.port, a_file,
        )  # fmt: skip
        answer = done.stderr[done.stderr.index("A-ASSOCIATE-AC") :] if "A-ASSOCIATE-AC" in done.stderr else ""
        verdicts = re.findall(r"Context ID:\s+(\d+) \((\w+)", answer)
        assert len(verdicts) == len(part), done.stderr[-2000:]
        found |= {part[(int(i) - 1) // 2]: verdict == "Accepted" for i, verdict in verdicts}
    return found


@needs_dcmtk
def test_the_node_accepts_from_dcmtk_just_the_contexts_of_the_statement(office, a_file, tmp_path):
    """Every SOP class of table 4-1 in every transfer syntax of table 4-2, each in a context of its own."""
    storage = [r[1] for r in rows("Table 4-2")]
    by_name = {UID(t).name: str(t) for t in storage}
    wanted: dict[tuple[str, str], bool] = {}
    for _, uid, syntaxes, _, _ in rows("Table 4-1"):
        accepted = set(
            storage if syntaxes == "those of storage" else (by_name[n] for n in syntaxes.split("; "))
        )
        wanted |= {(uid, t): t in accepted for t in (*storage, *_OTHER_SYNTAXES)}
    wanted |= {(uid, "1.2.840.10008.1.2"): False for uid in _OTHER_CLASSES}
    assert sum(wanted.values()) > 400 and not all(wanted.values())
    found = offered(office, a_file, list(wanted), tmp_path)
    assert {c: a for c, a in found.items() if a != wanted[c]} == {}


def test_of_several_transfer_syntaxes_the_first_of_the_statement_is_taken(office):
    storage = [r[1] for r in rows("Table 4-2")]
    ae = AE("SCU")
    ae.add_requested_context(made()["MR"], storage[:4:-1])  # from the last to the sixth
    association = ae.associate("127.0.0.1", office.node.port, ae_title="MRSISR")
    try:
        taken = {c.abstract_syntax: c.transfer_syntax[0] for c in association.accepted_contexts}
        assert taken[made()["MR"]] == storage[5]
        maximum = next(r[1] for r in rows("#### 4.2.2 ") if r[0] == "Maximum PDU length offered")
        assert association.acceptor.maximum_length == int(maximum)
        assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    finally:
        association.release()


@needs_dcmtk
def test_another_called_title_is_rejected_for_good_and_the_right_one_verified(office):
    assert run_tool("echoscu", "-aec", "MRSISR", "127.0.0.1", office.node.port).returncode == 0
    wrong = run_tool("echoscu", "-v", "-aec", "SOMEBODY", "127.0.0.1", office.node.port)
    assert wrong.returncode != 0
    assert "Rejected Permanent" in wrong.stderr and "Called AE Title Not Recognized" in wrong.stderr


class Eavesdropper:
    """An SCP that takes every context and notes what each association proposed."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: list[set[tuple[str, tuple[str, ...], str, bool]]] = []
        self.classes: set[str] = set()
        ae = AE("PEER")
        for p in proposals():
            ae.add_supported_context(p.sop_class, list(p.syntaxes), scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, lambda event: 0),
            (evt.EVT_C_FIND, lambda event: iter(())),
            (evt.EVT_C_MOVE, lambda event: iter((None, None))),
            (evt.EVT_C_GET, lambda event: iter((0,))),
            (evt.EVT_N_ACTION, lambda event: (0, None)),
            (evt.EVT_N_EVENT_REPORT, lambda event: (0, None)),
        ]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _on_requested(self, event: evt.Event) -> None:
        asked = event.assoc.requestor
        self.classes.add(str(asked.implementation_class_uid))
        roles = {str(uid): item for uid, item in asked.role_selection.items()}
        heard = set()
        for c in asked.requested_contexts:
            role = roles.get(str(c.abstract_syntax))
            as_scp = role is not None and bool(role.scp_role)
            syntaxes = tuple(sorted(map(str, c.transfer_syntax)))
            heard.add((str(c.abstract_syntax), syntaxes, "SCP" if as_scp else "SCU", role is not None))
        self.heard.append(heard)


def test_each_activity_proposes_just_the_contexts_of_the_statement(tmp_path):
    """Table 4-5, activity by activity, as the peer hears it."""
    peer = Eavesdropper()
    node = NodeRules(port=free_port(), acse_timeout_s=5.0, dimse_timeout_s=5.0, network_timeout_s=5.0)
    there = DicomDestination(
        name="PEER", ae_title="PEER", host="127.0.0.1", port=peer.port, compress_pictures=True
    )
    files = []
    for number, uid in enumerate(sent()):
        d = mr_slice(number + 1, SOPClassUID=uid)
        (tmp_path / f"{number}.dcm").write_bytes(as_file(d))
        kind = "SC" if uid == SecondaryCaptureImageStorage else ""
        files.append(Sendable(f"{number}.dcm", kind, str(number), d.SOPInstanceUID, uid, ""))
    pacs = [
        DimsePacs(
            PacsRules(ae_title="PEER", host="127.0.0.1", port=peer.port, retrieve=how, timeout_s=5.0),
            node,
            lambda *_: 0,
        )
        for how in ("move", "get")
    ]
    (tmp_path / "node").mkdir()
    intake = open_intake(tmp_path / "node")
    keeper = Safekeeper(
        node, [PeerRules(ae_title="PEER", host="127.0.0.1", port=peer.port)], intake.spool, intake.store
    )
    intake.store.request_commitment("PEER", "1.2.3", [("1.2.840.10008.5.1.4.1.1.4", "1.2.3.4")], 0.0)
    activities = {
        "Verify a destination": lambda: dispatch.echo(there, node),
        "Send results": lambda: dispatch.dicom.store(there, files, tmp_path, node, lambda *_: None),
        "Ask for storage commitment": lambda: dispatch.ask_commitment(
            there, files, "1.2.4", node, lambda event: 0, lambda: True
        ),
        "Query what a destination keeps": lambda: dispatch.dicom.shown(there, files, tmp_path, node),
        "Ask the archive for counts": lambda: pacs[0].series("1.2.3"),
        "Fetch anatomy by C-MOVE": lambda: pacs[0].retrieve("1.2.3", "1.2.3.4"),
        "Fetch anatomy by C-GET": lambda: pacs[1].retrieve("1.2.3", "1.2.3.4"),
        "Report storage commitment": keeper.answer_due,
    }
    assert set(activities) == {p.activity for p in proposals()} == {r[0] for r in rows("Table 4-5")}
    try:
        for activity, act in activities.items():
            peer.heard.clear()
            with suppress(NodeError):  # what this peer answers does not matter
                act()
            wanted = {as_heard(p) for p in proposals() if p.activity == activity}
            assert peer.heard and peer.heard[0] == wanted, activity
        assert peer.classes == {IMPLEMENTATION_CLASS_UID}
    finally:
        peer.server.shutdown()


def as_heard(p: Proposal) -> tuple[str, tuple[str, ...], str, bool]:
    return str(p.sop_class), tuple(sorted(map(str, p.syntaxes))), p.role, p.negotiated
