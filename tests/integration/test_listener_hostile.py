"""The listener, in a process of its own, against peers that mean harm or are broken.

The numbers are those of the classes of bad input that have broken DICOM receivers.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import (
    AE,
    BasicWorklistManagementPresentationContexts,
    QueryRetrievePresentationContexts,
)

from dicom_node.demo import free_port
from dicom_node.torture import wire
from dicom_node.torture.hostile import bomb, nesting
from dicom_node.torture.studies import data_set_of
from dicom_node.torture.wire import established, read_pdu, status_of
from tests.doors import STUDY, as_file, compressed, mr_slice

UID = f"{STUDY}.1.1"
GROWTH = 50 * 1024**2

_CHILD = """
import json, sys, time
from pathlib import Path
from dicom_node import log
from dicom_node.config import NodeRules
from dicom_node.intake import Intake
from dicom_node.listener import Listener
from dicom_node.spool import Spool
from dicom_node.store import Store, migrate
folder, rules = Path(sys.argv[1]), json.loads(sys.argv[2])
low_water_mb = rules.pop("low_water_mb", 0)
log.configure("WARNING")
store = Store(f"sqlite:///{folder / 'node.sqlite'}")
migrate(store)
spool = Path(rules.pop("spool", folder / "spool"))
Listener(NodeRules(**rules), Intake(Spool(spool, low_water_mb), store)).start()
print("up", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Node:
    port: int
    process: psutil.Process
    spool: Path
    log: Path

    def grown(self, since: int) -> int:
        return int(self.process.memory_info().rss) - since

    @property
    def rss(self) -> int:
        return int(self.process.memory_info().rss)

    def said(self) -> str:
        return self.log.read_text()

    def nothing_is_left_arriving(self) -> None:
        until = time.monotonic() + 20
        while left := list((self.spool / "tmp").iterdir()):
            assert time.monotonic() < until, left
            time.sleep(0.05)


class Starter:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(self, **rules: object) -> Node:
        port = free_port()
        root = Path(__file__).parents[2]
        log = self._folder / "node.log"
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(self._folder), json.dumps({"port": port, **rules})],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=self._stack.enter_context(log.open("w")),
            text=True,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", log.read_text()
        assert wire.echo(port) == 0x0000  # everything is loaded now
        spool = Path(str(rules.get("spool", self._folder / "spool")))
        return Node(port, psutil.Process(process.pid), spool, log)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    with ExitStack() as stack:
        yield Starter(tmp_path, stack)


def closed(peer: socket.socket) -> bool:
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


# 5: oversized, slow and half PDUs, floods


def test_class_5_two_hundred_stalled_connections_of_one_peer_hold_up_nobody_else(start: Starter) -> None:
    node = start(acse_timeout_s=60)
    before = node.rss
    with ExitStack() as stack:
        for number in range(200):
            peer = stack.enter_context(
                socket.create_connection(("127.0.0.1", node.port), source_address=("127.0.0.2", 0))
            )
            peer.sendall(wire.associate()[: 40 * (number % 3)])
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert wire.echo(node.port) == 0x0000
            took.append(time.monotonic() - began)
        assert min(took) < 1, took
        assert wire.echo(node.port, source="127.0.0.2") == 0x0000, "even the same address has room left"
    assert node.grown(before) < GROWTH
    threads = node.process.num_threads()
    assert threads < 20, f"{threads} threads for connections that ask for nothing"


def test_class_5_sizes_that_are_only_announced_or_never_end_cost_nothing(start: Starter) -> None:
    """A 4 GiB PDU header, a 200 MB association request, an endless data set."""
    node = start(max_dataset_bytes=64 * 1024**2, max_pdu_bytes=131072)
    before = node.rss
    piece = bytes(1024**2)
    with socket.create_connection(("127.0.0.1", node.port)) as peer, pytest.raises(OSError, match=r"."):
        peer.sendall(struct.pack(">BxI", 0x01, 200 * 1024**2))
        for _ in range(200):
            peer.sendall(piece)
    with established(node.port) as peer, pytest.raises(OSError, match=r"."):
        peer.sendall(struct.pack(">BxI", 0x04, 0xFFFFFFF0))
        for _ in range(100):
            peer.sendall(piece)
    request = wire.command(wire.C_STORE_RQ, sop_class=MRImageStorage, sop_instance=UID)
    fragment = wire.p_data(bytes(120_000), last=False)
    with established(node.port) as peer, pytest.raises(OSError, match=r"."):
        peer.sendall(wire.p_data(request, command=True))
        for _ in range(2000):
            peer.sendall(fragment)
    node.nothing_is_left_arriving()
    assert node.grown(before) < GROWTH
    assert wire.echo(node.port) == 0x0000
    assert "max_dataset_bytes" in node.said()


def test_a_large_data_set_is_never_held_in_memory(start: Starter) -> None:
    """256 MB of pixels: on disk whole, memory flat."""
    node = start()
    before = node.rss
    ds = mr_slice()
    del ds.PixelData
    head = data_set_of(as_file(ds))
    size = 256 * 1024**2
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
    request = wire.command(wire.C_STORE_RQ, sop_class=MRImageStorage, sop_instance=UID)
    peak = 0
    with established(node.port) as peer:
        peer.settimeout(300)
        peer.sendall(wire.p_data(request, command=True) + wire.p_data(head + pixels, last=False))
        step = bytes(131_072 - 8)
        sent = 0
        while sent < size:
            now = step[: size - sent]
            sent += len(now)
            peer.sendall(wire.p_data(now, last=sent == size))
            if sent % (1 << 24) < len(step):
                peak = max(peak, node.grown(before))
        assert status_of(read_pdu(peer)[1]) == 0x0000
    (kept,) = (node.spool / "in").rglob("*.dcm")
    assert kept.stat().st_size > size
    assert max(peak, node.grown(before)) < GROWTH


def test_what_was_received_stays_on_disk_and_not_in_memory(shared: Node) -> None:
    """250 instances of 33 kB: were they kept, it would be seen."""
    series = f"{STUDY}.4.1"
    ds = mr_slice(size=128, StudyInstanceUID=f"{STUDY}.4", SeriesInstanceUID=series)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.1000"
    data_set = data_set_of(as_file(ds))
    before = 0
    with established(shared.port) as peer:
        for number in range(1000, 1300):
            if number == 1050:  # what is loaded once is loaded now
                before = shared.rss
            uid = f"{series}.{number}"
            mine = data_set.replace(f"{series}.1000".encode(), uid.encode())
            peer.sendall(wire.store(mine, MRImageStorage, uid))
            assert status_of(read_pdu(peer)[1]) == 0x0000
    assert shared.grown(before) < 5 * 1024**2


# 6, 8, 9: bombs, broken lengths, nesting; over the network, each with its status


def test_classes_6_8_9_hostile_data_sets_are_refused_each_and_the_association_goes_on(start: Starter) -> None:
    node = start()
    good = data_set_of(as_file(mr_slice()))
    contexts = [(MRImageStorage, ExplicitVRLittleEndian), (MRImageStorage, DeflatedExplicitVRLittleEndian)]
    before = node.rss
    with established(node.port, wire.associate(contexts)) as peer:

        def answer(data_set: bytes, context: int = 1, uid: str = UID, sop_class: str = MRImageStorage) -> int:
            peer.sendall(wire.store(data_set, sop_class, uid, context=context))
            return status_of(read_pdu(peer)[1])

        assert answer(bomb(), context=3) == 0xC000
        assert answer(nesting(10_000)) == 0xC000
        assert answer(good[:-100]) == 0xC000
        assert answer(b"\xff" * 5000) == 0xC000
        assert answer(good, uid="../../../evil") == 0xA900
        assert answer(good, sop_class=CTImageStorage) == 0xA900
        assert answer(good, uid="1.2.3") == 0xA900
        assert answer(b"") in (0xA900, 0xC000)
        assert answer(good) == 0x0000
    assert node.grown(before) < GROWTH
    assert len(list((node.spool / "in").rglob("*.dcm"))) == 1
    assert len(list((node.spool / "quarantine").iterdir())) >= 6
    node.nothing_is_left_arriving()


def test_class_7_dimensions_that_lie_do_not_bring_the_listener_down(start: Starter) -> None:
    """The same UID again with compressed pixels that claim to be 65535 × 65535: decoded apart, refused."""
    node = start()
    ds = compressed(mr_slice(), RLELossless)
    ds.Rows = ds.Columns = 65535
    contexts = [(MRImageStorage, ExplicitVRLittleEndian), (MRImageStorage, RLELossless)]
    with established(node.port, wire.associate(contexts)) as peer:
        peer.settimeout(150)
        peer.sendall(wire.store(data_set_of(as_file(mr_slice())), MRImageStorage, UID))
        assert status_of(read_pdu(peer)[1]) == 0x0000
        before = node.rss
        peer.sendall(wire.store(data_set_of(as_file(ds)), MRImageStorage, UID, context=3))
        assert status_of(read_pdu(peer)[1]) == 0xC100
    assert node.grown(before) < GROWTH


# 16: DIMSE-level


@pytest.mark.parametrize(
    "message",
    [
        wire.p_data(wire.command(0x7777, sop_class=MRImageStorage), command=True),
        wire.p_data(b"\xff" * 100, command=True),
        wire.p_data(b"", command=True),
        wire.p_data(bytes(100)),
        wire.pdu(0x04, b""),
        wire.pdu(0x04, struct.pack(">IBB", 0xFFFFFF, 1, 3) + bytes(10)),
        wire.store(bytes(100), MRImageStorage, UID, context=99),
        wire.p_data(wire.command(wire.C_STORE_RQ), command=True) + wire.p_data(bytes(10)),
        wire.pdu(0x06, bytes(4)),
        wire.pdu(0x02, bytes(100)),
        wire.associate(),
        wire.p_data(
            wire.command(0x8001, sop_class=MRImageStorage, sop_instance=UID, data_set=0x0101), command=True
        ),
    ],
    ids=[
        "unknown command",
        "garbage command",
        "empty command",
        "data set first",
        "empty PDU",
        "value longer than its PDU",
        "context not agreed",
        "no UIDs",
        "release answered unasked",
        "accepted unasked",
        "second request",
        "answer unasked",
    ],
)
def test_class_16_a_message_out_of_order_ends_its_association_at_most(message: bytes, shared: Node) -> None:
    with established(shared.port) as peer:
        peer.sendall(message)
        peer.settimeout(1)
        with suppress(TimeoutError):  # passed over: as good
            closed(peer)
    assert wire.echo(shared.port) == 0x0000
    shared.nothing_is_left_arriving()
    assert "Traceback" not in shared.said()


def test_class_16_an_abort_storm_leaves_nothing(shared: Node) -> None:
    before, threads = shared.rss, shared.process.num_threads()
    request = wire.command(wire.C_STORE_RQ, sop_class=MRImageStorage, sop_instance=UID)
    for number in range(60):
        with established(shared.port) as peer:
            peer.sendall(wire.p_data(request, command=True) + wire.p_data(bytes(20_000), last=False))
            if number % 3 == 0:
                peer.sendall(wire.pdu(0x07, bytes(4)))
            elif number % 3 == 1:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
    shared.nothing_is_left_arriving()
    until = time.monotonic() + 20
    while shared.process.num_threads() > threads:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert shared.grown(before) < GROWTH
    assert wire.echo(shared.port) == 0x0000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Starter(tmp_path_factory.mktemp("shared"), stack)()


# 3, 11: what is said to the node is text, and nothing can be asked of it


def test_class_3_titles_and_tags_that_are_commands_are_only_text(shared: Node) -> None:
    order = "$(touch pwned)"
    words = dict.fromkeys(("PatientID", "SeriesDescription", "StationName", "AccessionNumber"), order)
    ds = mr_slice(StudyInstanceUID=f"{STUDY}.3", SeriesInstanceUID=f"{STUDY}.3.1", **words)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.3.1.1"
    for calling in (order, "`touch pwned`", "x;touch pwned", "|touch pwned"):
        with established(shared.port, wire.associate(calling=calling)) as peer:
            peer.sendall(wire.store(data_set_of(as_file(ds)), MRImageStorage, ds.SOPInstanceUID))
            assert status_of(read_pdu(peer)[1]) == 0x0000
    kept = [p for p in shared.spool.rglob("*") if p.is_file()]
    assert all(p.stat().st_mode & 0o111 == 0 for p in kept)
    places = (Path(shared.process.cwd()), shared.spool.parent, shared.spool, Path.home(), Path("/"))
    assert not [p for p in places if (p / "pwned").exists()]
    assert shared.process.children() == []


def test_class_11_nothing_can_be_asked_of_the_node(shared: Node) -> None:
    """It answers no query and hands out nothing: there is no handler that could crash or leak."""
    ae = AE("TESTER")
    for context in QueryRetrievePresentationContexts + BasicWorklistManagementPresentationContexts:
        ae.add_requested_context(context.abstract_syntax)
    ae.add_requested_context("1.2.840.10008.1.1")
    peer = ae.associate("127.0.0.1", shared.port, ae_title="MRSISR")
    assert [str(c.abstract_syntax) for c in peer.accepted_contexts] == ["1.2.840.10008.1.1"]
    peer.release()
    for request in (0x0020, 0x0021, 0x0010):  # C-FIND, C-MOVE, C-GET all the same, where images are taken
        with established(shared.port) as raw:
            asked = wire.command(request, sop_class="1.2.840.10008.5.1.4.1.2.2.1")
            raw.sendall(wire.p_data(asked, command=True) + wire.p_data(bytes(20)))
            raw.settimeout(1)
            with suppress(TimeoutError):
                closed(raw)
    assert wire.echo(shared.port) == 0x0000
    assert "Traceback" not in shared.said()


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def lets_go_of_the_refused(node: Node) -> None:
    """Peers that are refused and stay on the line hold no file for more than a moment."""
    before = node.process.num_fds()
    with ExitStack() as stack:
        for _ in range(40):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=30))
            peer.sendall(wire.associate())
            assert read_pdu(peer)[0] == 0x03
        until = time.monotonic() + 20
        while node.process.num_fds() > before:
            assert time.monotonic() < until, node.process.num_fds() - before
            time.sleep(0.1)


def test_a_filling_disk_is_noticed_before_it_is_full_and_recovers_by_itself(
    start: Starter, small_disk: Path
) -> None:
    node = start(low_water_mb=8, spool=str(small_disk / "spool"))
    with established(node.port) as peer:
        statuses = []
        for number in range(1, 40):
            content = data_set_of(as_file(mr_slice(number, size=1000)))  # 2 MB
            peer.sendall(wire.store(content, MRImageStorage, f"{STUDY}.1.{number}"))
            statuses.append(status_of(read_pdu(peer)[1]))
            if statuses[-1] != 0x0000:
                break
        assert statuses[-1] == 0xA700
        assert set(statuses[:-1]) == {0x0000}
        assert shutil.disk_usage(small_disk).free > 4 * 1024**2
        node.nothing_is_left_arriving()
        with socket.create_connection(("127.0.0.1", node.port), timeout=30) as second:
            second.sendall(wire.associate())
            assert read_pdu(second) == (0x03, bytes((0, 2, 3, 1))), "transient: temporary congestion"
        lets_go_of_the_refused(node)
        for path in (node.spool / "in").rglob("*.dcm"):
            path.unlink()
        peer.sendall(wire.store(data_set_of(as_file(mr_slice(99))), MRImageStorage, f"{STUDY}.1.99"))
        assert status_of(read_pdu(peer)[1]) == 0x0000
    assert wire.echo(node.port) == 0x0000


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(start: Starter, small_disk: Path) -> None:
    """No mark set: the disk is full in the middle of a data set."""
    node = start(spool=str(small_disk / "spool"))
    with established(node.port) as peer:
        peer.sendall(wire.store(bytes(48 * 1024**2), MRImageStorage, UID))
        assert status_of(read_pdu(peer)[1]) == 0xA700
        node.nothing_is_left_arriving()
        peer.sendall(wire.store(data_set_of(as_file(mr_slice())), MRImageStorage, UID))
        assert status_of(read_pdu(peer)[1]) == 0x0000
