"""The DIMSE server against real senders: DCMTK's tools, and pynetdicom where bytes must be chosen."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, Verification  # type: ignore[attr-defined]
from structlog.testing import capture_logs

from dicom_node.association import BOUNDED
from dicom_node.config import NodeRules
from dicom_node.errors import BadConfiguration
from dicom_node.intake import Intake
from dicom_node.listener import STORED, TRANSFER_SYNTAXES, Listener
from dicom_node.spool import Spool, sha256_of
from dicom_node.store import Store
from dicom_node.torture.wire import echo as wire_echo
from tests.doors import STUDY, as_file, compressed, mr_slice, open_intake


def dcmtk(name: str) -> str:
    """The path of a DCMTK tool; the interpreter's own scripts of the same name are not meant."""
    found = shutil.which(name, path="/usr/bin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install dcmtk)")
    return found


def run_tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [dcmtk(name), *map(str, arguments)],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


class Running:
    """A listener on a port and a folder of its own."""

    def __init__(self, folder: Path, low_water_mb: int = 0, **rules: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.intake = open_intake(folder, low_water_mb)
        self.store = self.intake.store
        self.listener = Listener(NodeRules(**{"port": self.port, **rules}), self.intake)  # type: ignore[arg-type]
        self.listener.start()

    def kept(self) -> dict[str, Path]:
        """Files in the spool by SOP Instance UID."""
        return {
            str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID): p
            for p in (self.folder / "spool" / "in").rglob("*.dcm")
        }

    def quarantine(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = self.store.status()["quarantine"]
        return rows


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(**options: object) -> Running:
        running.append(Running(tmp_path, **options))  # type: ignore[arg-type]
        return running[-1]

    yield begin
    for node in running:
        node.listener.stop(drain_s=2)


@contextmanager
def association(
    port: int, *contexts: tuple[str, str], called: str = "MRSISR", calling: str = "TESTER"
) -> Iterator[Association]:
    """An association of pynetdicom's, one presentation context per (SOP Class, transfer syntax)."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = 20
    for sop_class, transfer_syntax in contexts or ((MRImageStorage, ExplicitVRLittleEndian),):
        ae.add_requested_context(sop_class, transfer_syntax)
    peer = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=[BOUNDED])
    try:
        yield peer
    finally:
        if peer.is_established:
            peer.release()


def send(port: int, ds: Dataset, calling: str = "TESTER") -> Dataset:
    with association(port, (ds.SOPClassUID, ds.file_meta.TransferSyntaxUID), calling=calling) as peer:
        assert peer.is_established
        return peer.send_c_store(ds)


def data_set_of(content: bytes) -> bytes:
    """What follows the File Meta Information: the part that travels."""
    (length,) = struct.unpack_from("<I", content, 128 + 4 + 8)  # of (0002,0000)
    return content[128 + 4 + 12 + length :]


# Real senders


@pytest.mark.peers
def test_dcmsend_delivers_a_series(start: Callable[..., Running], tmp_path: Path) -> None:
    node = start()
    files = []
    for number in range(1, 13):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(as_file(mr_slice(number)))
    report = tmp_path / "report.txt"
    sent = run_tool("dcmsend", "-v", "-aec", "MRSISR", "+crf", report, "127.0.0.1", node.port, *files)
    assert sent.returncode == 0, sent.stderr
    assert "with status SUCCESS  : 12" in report.read_text(), report.read_text()
    assert node.store.count_instances() == 12
    for number in range(1, 13):
        kept = pydicom.dcmread(node.kept()[f"{STUDY}.1.{number}"])
        assert kept.PixelData == mr_slice(number).PixelData
        assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.peers
def test_dcmsend_again_changes_nothing(start: Callable[..., Running], tmp_path: Path) -> None:
    node = start()
    (tmp_path / "1.dcm").write_bytes(as_file(mr_slice()))
    for _ in range(3):
        assert (
            run_tool("dcmsend", "-aec", "MRSISR", "127.0.0.1", node.port, tmp_path / "1.dcm").returncode == 0
        )
    assert node.store.count_instances() == 1
    assert len(node.kept()) == 1
    (case,) = node.store.status()["cases"]
    assert [r["revision"] for r in case["revisions"]] == [1]


@pytest.mark.peers
@pytest.mark.parametrize(
    ("option", "transfer_syntax"),
    [("-xr", RLELossless), ("-xt", JPEGLSLossless), ("-xv", JPEG2000Lossless)],
    ids=["RLE", "JPEG-LS", "JPEG 2000"],
)
def test_storescu_delivers_compressed_pixels_as_they_are(
    start: Callable[..., Running], tmp_path: Path, option: str, transfer_syntax: str
) -> None:
    node = start()
    ds = compressed(mr_slice(), transfer_syntax)
    (tmp_path / "1.dcm").write_bytes(as_file(ds))
    sent = run_tool("storescu", "-v", option, "-aec", "MRSISR", "127.0.0.1", node.port, tmp_path / "1.dcm")
    assert sent.returncode == 0, sent.stderr
    (path,) = node.kept().values()
    kept = pydicom.dcmread(path)
    assert kept.file_meta.TransferSyntaxUID == transfer_syntax
    assert kept.PixelData == ds.PixelData
    assert (kept.pixel_array == mr_slice().pixel_array).all()


@pytest.mark.peers
def test_echoscu_is_answered_under_the_right_name_only(start: Callable[..., Running]) -> None:
    node = start()
    assert run_tool("echoscu", "-aec", "MRSISR", "127.0.0.1", node.port).returncode == 0
    wrong = run_tool("echoscu", "-aec", "WRONG", "127.0.0.1", node.port)
    assert wrong.returncode != 0
    assert "Called AE Title Not Recognized" in wrong.stderr


@pytest.mark.peers
def test_a_caller_that_is_not_listed_is_refused(start: Callable[..., Running]) -> None:
    node = start(allowed_callers=("SCANNER",))
    refused = run_tool("echoscu", "-aet", "STRANGER", "-aec", "MRSISR", "127.0.0.1", node.port)
    assert "Calling AE Title Not Recognized" in refused.stderr
    assert run_tool("echoscu", "-aet", "SCANNER", "-aec", "MRSISR", "127.0.0.1", node.port).returncode == 0


@pytest.mark.peers
def test_dcmftest_takes_what_is_kept_for_a_dicom_file(start: Callable[..., Running]) -> None:
    """The File Meta Information is ours."""
    node = start()
    send(node.port, mr_slice())
    (path,) = node.kept().values()
    assert run_tool("dcmftest", path).stdout.startswith("yes")
    meta = pydicom.dcmread(path).file_meta
    assert meta.MediaStorageSOPClassUID == MRImageStorage
    assert meta.MediaStorageSOPInstanceUID == f"{STUDY}.1.1"


# Bit for bit


@pytest.mark.parametrize(
    "transfer_syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", RLELossless]
)
def test_the_data_set_is_kept_bit_for_bit(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transfer_syntax: str
) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # sends the file's own bytes
    ds = mr_slice()
    if transfer_syntax == RLELossless:
        ds = compressed(ds, RLELossless)
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    content = as_file(ds)
    (tmp_path / "1.dcm").write_bytes(content)
    node = start()
    with association(node.port, (MRImageStorage, transfer_syntax)) as peer:
        assert peer.send_c_store(tmp_path / "1.dcm").Status == 0x0000
    (path,) = node.kept().values()
    assert data_set_of(path.read_bytes()) == data_set_of(content)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == transfer_syntax


def test_the_same_instance_is_the_same_file_whoever_sends_it(start: Callable[..., Running]) -> None:
    node = start()
    for caller in ("SCANNER", "PACS"):
        assert send(node.port, mr_slice(), calling=caller).Status == 0x0000
    assert len(list((node.folder / "spool" / "in").rglob("*.dcm"))) == 1


def test_every_listed_class_is_taken_in_every_listed_transfer_syntax(start: Callable[..., Running]) -> None:
    node = start()
    pairs = [(c, t) for c in STORED for t in TRANSFER_SYNTAXES]
    for first in range(0, len(pairs), 100):
        with association(node.port, *pairs[first : first + 100]) as peer:
            taken = {(c.abstract_syntax, c.transfer_syntax[0]) for c in peer.accepted_contexts}
        assert taken == set(pairs[first : first + 100])


def test_private_spectra_are_kept(start: Callable[..., Running]) -> None:
    node = start()
    for number, sop_class in enumerate(("1.3.12.2.1107.5.9.1", "1.3.46.670589.11.0.0.12.1"), 1):
        ds = mr_slice(number, SOPClassUID=sop_class)
        assert send(node.port, ds).Status == 0x0000
    assert node.store.count_instances() == 2


# Statuses


def test_other_pixels_under_a_known_uid_are_refused_and_shown(start: Callable[..., Running]) -> None:
    node = start()
    assert send(node.port, mr_slice()).Status == 0x0000
    answer = send(node.port, mr_slice(pixels=1), calling="WORKSTATION")
    assert answer.Status == 0xC100
    assert "UID already used" in answer.ErrorComment
    (row,) = node.quarantine()
    assert (row["sop_uid"], row["source"]) == (f"{STUDY}.1.1", "WORKSTATION")


def test_another_patient_under_a_known_study_is_refused_and_shown(start: Callable[..., Running]) -> None:
    node = start()
    assert send(node.port, mr_slice(1)).Status == 0x0000
    assert send(node.port, mr_slice(2, PatientID="P2")).Status == 0xC100
    assert len(node.quarantine()) == 1


def test_the_same_pixels_in_another_transfer_syntax_are_a_success(start: Callable[..., Running]) -> None:
    node = start()
    assert send(node.port, mr_slice()).Status == 0x0000
    assert send(node.port, compressed(mr_slice(), RLELossless)).Status == 0x0000
    assert node.store.count_instances() == 1
    assert node.quarantine() == []


def test_a_caller_that_may_not_store_is_told_so_and_may_ask_whether_we_are_there(
    start: Callable[..., Running],
) -> None:
    node = start(allowed_callers=({"ae_title": "MONITOR", "store": False},))
    assert send(node.port, mr_slice(), calling="MONITOR").Status == 0x0124
    assert node.store.count_instances() == 0
    assert list((node.folder / "spool" / "tmp").iterdir()) == []
    assert wire_echo(node.port, calling="MONITOR") == 0x0000


def test_class_17_a_title_from_another_address_is_refused(start: Callable[..., Running]) -> None:
    node = start(allowed_callers=({"ae_title": "SCANNER", "networks": ["127.0.0.2/32"]},))
    with association(node.port, calling="SCANNER") as peer:
        assert peer.is_rejected
    assert wire_echo(node.port, calling="SCANNER", source="127.0.0.2") == 0x0000


@pytest.mark.parametrize("uid", ["../../evil", "1.2/3", "1.2.03"])
def test_class_1_a_uid_that_is_a_path_is_refused_and_leaves_the_spool_alone(
    start: Callable[..., Running], tmp_path: Path, uid: str
) -> None:
    node = start()
    before = around(tmp_path)
    ds = mr_slice()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    assert send(node.port, ds).Status == 0xC000
    assert {p.name for p in around(tmp_path) - before} <= {"node.sqlite-wal", "node.sqlite-shm"}
    assert node.store.count_instances() == 0


def around(folder: Path) -> set[Path]:
    """What lies in ``folder`` outside of the spool, and beside it."""
    inside = (p for p in folder.rglob("*") if p.is_file() and "spool" not in p.parts)
    return {*inside, *folder.parent.iterdir()}


def raw_store(peer: Association, content: bytes, sop_class: str, sop_instance: str, context_id: int) -> int:
    """A C-STORE request whose parts need not agree."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = pydicom.uid.UID(sop_class)
    request.AffectedSOPInstanceUID = pydicom.uid.UID(sop_instance)
    request.Priority = 2
    request.DataSet = BytesIO(content)
    peer._reactor_checkpoint.clear()
    while not peer._is_paused:
        time.sleep(0.01)
    peer.dimse.send_msg(request, context_id)
    _, answer = peer.dimse.get_msg(block=True)
    peer._reactor_checkpoint.set()
    assert isinstance(answer, C_STORE)
    return int(answer.Status or 0)


def test_requests_that_contradict_themselves_are_refused_and_the_association_lives(
    start: Callable[..., Running],
) -> None:
    """SOP Class against context, UID against data set, a data set cut short; then a good one."""
    node = start()
    good, uid = data_set_of(as_file(mr_slice())), f"{STUDY}.1.1"
    with association(
        node.port, (MRImageStorage, ExplicitVRLittleEndian), (CTImageStorage, ExplicitVRLittleEndian)
    ) as peer:
        assert raw_store(peer, good, CTImageStorage, uid, 1) == 0xA900
        assert raw_store(peer, good, CTImageStorage, uid, 3) == 0xA900
        assert raw_store(peer, good, MRImageStorage, "1.2.3", 1) == 0xA900
        assert raw_store(peer, good[:100], MRImageStorage, uid, 1) in (0xA900, 0xC000)
        assert raw_store(peer, good[:-1000], MRImageStorage, uid, 1) == 0xC000
        assert raw_store(peer, b"\xff" * 1000, MRImageStorage, uid, 1) in (0xA900, 0xC000)
        assert node.store.count_instances() == 0
        assert raw_store(peer, good, MRImageStorage, uid, 1) == 0x0000
    assert node.store.count_instances() == 1


def test_a_bug_of_ours_is_a_status_and_neither_a_crash_nor_a_leak(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start()
    real, quoted = node.store.record, "^".join(["Doe", "Jane"])

    def broken(*_: object) -> object:
        monkeypatch.setattr(node.store, "record", real)
        raise RuntimeError(quoted)

    monkeypatch.setattr(node.store, "record", broken)
    with capture_logs() as events, association(node.port) as peer:
        assert peer.send_c_store(mr_slice()).Status == 0x0110
        assert peer.send_c_store(mr_slice()).Status == 0x0000
    (failed,) = [e for e in events if e["event"] == "instance.failed"]
    assert failed["error"] == "RuntimeError"
    assert "Doe" not in str(events)


# Associations


def test_associations_are_logged_with_titles_and_address(start: Callable[..., Running]) -> None:
    with capture_logs() as events:
        node = start()
        send(node.port, mr_slice(), calling="SCANNER")
        with association(node.port, called="WRONG") as peer:
            assert peer.is_rejected
        until = time.monotonic() + 5
        while len([e for e in events if e["event"].startswith("association.")]) < 3:
            assert time.monotonic() < until, events
            time.sleep(0.02)
    logged = [e for e in events if e["event"].startswith("association.")]
    assert [e["event"] for e in logged] == [
        "association.accepted",
        "association.released",
        "association.rejected",
    ]
    assert {e["address"] for e in logged} == {"127.0.0.1"}
    assert logged[0]["caller"] == "SCANNER"
    assert "node.ae_title" in logged[2]["reason"]
    assert "P1" not in str([{k: v for k, v in e.items() if k != "sop_uid"} for e in events])
    assert "Nobody" not in str(events)


def test_four_senders_at_once_lose_nothing(start: Callable[..., Running]) -> None:
    node = start()
    statuses: list[int] = []

    def work(sender: int) -> None:
        with association(node.port) as peer:
            for number in range(10):
                ds = mr_slice(100 * sender + number + 1, size=16, SeriesInstanceUID=f"{STUDY}.{sender + 5}")
                statuses.append(int(peer.send_c_store(ds).Status))

    threads = [threading.Thread(target=work, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0x0000] * 40
    assert node.store.count_instances() == 40


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except OSError:
        return False
    return True


def test_stopping_lets_a_running_association_finish(start: Callable[..., Running]) -> None:
    node = start()
    with association(node.port) as peer:
        assert peer.send_c_store(mr_slice(1)).Status == 0x0000
        stopping = threading.Thread(target=node.listener.stop, kwargs={"drain_s": 10})
        stopping.start()
        until = time.monotonic() + 9
        while connects(node.port):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert peer.send_c_store(mr_slice(2)).Status == 0x0000
    stopping.join(30)
    assert not stopping.is_alive()
    assert node.store.count_instances() == 2


def test_stopping_does_not_wait_for_ever(start: Callable[..., Running]) -> None:
    node = start()
    with association(node.port) as peer, socket.create_connection(("127.0.0.1", node.port)):
        begun = time.monotonic()
        node.listener.stop(drain_s=0.5)
        assert time.monotonic() - begun < 20  # the association itself would go on for a minute
        until = time.monotonic() + 20
        while not peer.is_aborted:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listener = Listener(NodeRules(port=other.getsockname()[1]), open_intake(tmp_path))
        with pytest.raises(BadConfiguration, match="cannot listen"):
            listener.start()


# kill -9

_CHILD = """
import sys, time
from pathlib import Path
from dicom_node.config import NodeRules
from dicom_node.listener import Listener
from tests.doors import open_intake
Listener(NodeRules(port=int(sys.argv[2])), open_intake(Path(sys.argv[1]))).start()
print("up", flush=True)
time.sleep(600)
"""


@contextmanager
def listener_process(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), str(port)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        while process.stdout.readline() != "up\n":
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Killed in the middle of an association, started again, everything sent again: each kept once."""
    slices = [mr_slice(number) for number in range(1, 61)]
    port, acknowledged = free_port(), []
    with listener_process(tmp_path, port) as process, association(port) as peer:
        for ds in slices:
            if len(acknowledged) == 20:  # while the next ones are on their way
                threading.Timer(0.02, process.kill).start()
            if not peer.is_established:
                break
            answer = peer.send_c_store(ds)
            if "Status" not in answer:
                break
            assert answer.Status == 0x0000
            acknowledged.append(str(ds.SOPInstanceUID))
    assert 20 <= len(acknowledged) < 60, "the listener was not killed in the middle"

    def whole() -> dict[str, str]:
        """SOP Instance UIDs to sha256, of files that are what their row and their name say."""
        store, spool = Store(f"sqlite:///{tmp_path / 'node.sqlite'}"), Spool(tmp_path / "spool")
        found = {}
        with store.engine.connect() as connection:
            for row in connection.exec_driver_sql("SELECT sop_uid, path, sha256 FROM instances"):
                assert sha256_of(spool.path(row.path)) == row.sha256
                found[row.sop_uid] = row.sha256
        store.close()
        return found

    assert set(acknowledged) <= set(whole())
    with listener_process(tmp_path, port), association(port) as peer:
        assert [peer.send_c_store(ds).Status for ds in slices] == [0x0000] * 60
    assert set(whole()) == {str(ds.SOPInstanceUID) for ds in slices}
    assert len(list((tmp_path / "spool" / "in").rglob("*.dcm"))) == 60
    intake: Intake = open_intake(tmp_path)
    (case,) = intake.store.status()["cases"]
    assert [r["revision"] for r in case["revisions"]] == [1]
    assert intake.store.status()["quarantine"] == []


def test_who_may_not_store_is_offered_nothing_that_changes_a_study(start: Callable[..., Running]) -> None:
    node = start(allowed_callers=[{"ae_title": "MONITOR", "store": False}])
    ae = AE("MONITOR")
    for sop_class in (Verification, MRImageStorage, ModalityPerformedProcedureStep):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    peer = ae.associate("127.0.0.1", node.port, ae_title="MRSISR", evt_handlers=[BOUNDED])
    try:
        taken = {c.abstract_syntax for c in peer.accepted_contexts}
        assert taken == {Verification, MRImageStorage}  # of the latter it hears why not: 0124H
        assert peer.send_c_store(mr_slice()).Status == 0x0124
    finally:
        peer.release()
