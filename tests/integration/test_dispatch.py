"""One try of a delivery, against peers that take, refuse, are busy, vanish or are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage, ParametricMapStorage, Verification

from dicom_node import dispatch
from dicom_node.config import DicomDestination, FolderDestination, NodeRules
from dicom_node.demo import free_port
from dicom_node.encode.capture import set_pixels
from dicom_node.encode.headers import file_meta
from dicom_node.errors import PeerBusy, PeerUnreachable, Refused, TemporaryError
from dicom_node.spool import Spool
from dicom_node.store import Sendable
from tests import phantom
from tests.doors import as_file, mr_slice
from tests.harness import needs_dcmtk

NODE = NodeRules()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def files(spool: Spool) -> list[Sendable]:
    """Three MR slices of a result set, and one object of another SOP class."""
    folder = spool.result_folder("case-0001", 1, 1) / "dicom"
    folder.mkdir()
    made = []
    for n in range(4):
        attributes = {} if n < 3 else {"SOPClassUID": ParametricMapStorage}
        ds = mr_slice(n + 1, **attributes)
        path = folder / f"{n:04d}.dcm"
        path.write_bytes(as_file(ds))
        kind = "MR" if n < 3 else "PM"
        uids = (str(ds.SOPInstanceUID), str(ds.SOPClassUID))
        made.append(Sendable(spool.relative(path), kind, f"{kind}_{n}", *uids, ""))
    return made


@pytest.fixture
def peer() -> Iterator[Callable[..., DicomDestination]]:
    """A Storage SCP whose answers the test chooses."""
    servers = []

    def start(
        answer: Callable[[int], int | None] = lambda _: 0x0000,
        classes=(MRImageStorage, ParametricMapStorage),
        handlers=(),
        **own,
    ):
        ae = AE("PACS")
        for sop_class in (*classes, Verification):
            ae.add_supported_context(sop_class)
        for name, value in own.items():
            setattr(ae, name, value)
        received: list[str] = []

        def store(event: evt.Event) -> int:
            status = answer(len(received))
            if status is None:
                event.assoc.abort()
                return 0xC000
            received.append(str(event.request.AffectedSOPInstanceUID))
            return status

        server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store), *handlers]
        )
        servers.append(server)
        return DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()


def send(destination, files, spool) -> list[tuple[str, str]]:
    """What was taken, also when the try ends in an error."""
    taken: list[tuple[str, str]] = []
    send.taken = taken
    dispatch.send(destination, files, spool, NODE, lambda f, status: taken.append((f.name, status)))
    return taken


def test_every_file_is_taken_with_its_status(peer, files, spool):
    assert send(peer(), files, spool) == [(f.name, "0000") for f in files]


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111])
def test_warnings_and_duplicates_count_as_stored(peer, files, spool, status):
    assert len(send(peer(lambda _: status), files, spool)) == 4


def test_a_busy_peer_is_a_reason_to_wait_and_what_it_took_stays_taken(peer, files, spool):
    with pytest.raises(PeerBusy, match=r"out of resources \(status A700"):
        send(peer(lambda n: 0x0000 if n < 2 else 0xA700), files, spool)
    assert len(send.taken) == 2


def test_a_processing_failure_puts_one_object_off_and_the_others_go(peer, files, spool):
    with pytest.raises(PeerBusy, match=r"put off 1 objects, first MR_1: processing failure \(status 0110"):
        send(peer(lambda n: 0x0110 if n == 1 else 0x0000), files, spool)
    assert [name for name, _ in send.taken] == ["MR_0", "MR_2", "PM_3"]


def test_an_object_refused_for_good_does_not_stop_the_others(peer, files, spool):
    with pytest.raises(dispatch.ObjectsRefused) as caught:
        send(peer(lambda n: 0xA900 if n == 1 else 0x0000), files, spool)
    ((refusal),) = caught.value.refusals
    assert (refusal.file, refusal.status) == (files[1], 0xA900)
    assert [name for name, _ in send.taken] == ["MR_0", "MR_2", "PM_3"]


def test_a_peer_that_takes_no_class_at_all_refuses_each_object_for_good(peer, files, spool):
    with pytest.raises(dispatch.ObjectsRefused) as caught:
        send(peer(classes=()), files, spool)
    assert [(r.file, r.status) for r in caught.value.refusals] == [(f, None) for f in files]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((0x02, 0x03, 0x01), PeerUnreachable, "for now"),
        ((0x02, 0x03, 0x02), PeerUnreachable, "for now"),
        ((0x01, 0x01, 0x03), Refused, "AE title"),
        ((0x01, 0x02, 0x02), Refused, "rejected the association"),
    ],
)
def test_a_rejected_association_is_read_as_transient_or_permanent(peer, files, spool, answer, error, words):
    result, source, reason = answer

    def reject(event: evt.Event) -> None:
        event.assoc.acse.send_reject(result, source, reason)
        event.assoc.kill()

    with pytest.raises(error, match=words):
        send(peer(handlers=[(evt.EVT_REQUESTED, reject)]), files, spool)


def test_a_peer_that_takes_the_default_transfer_syntax_only_gets_the_same_pixels(peer, files, spool):
    """Implicit VR Little Endian is what every application entity must take (PS3.5 10.1)."""
    kept = []

    def keep(event: evt.Event) -> int:
        kept.append(event.dataset)
        return 0x0000

    ae_contexts = [(MRImageStorage, "1.2.840.10008.1.2"), (ParametricMapStorage, "1.2.840.10008.1.2")]
    ae = AE("PACS")
    for sop_class, syntax in ae_contexts:
        ae.add_supported_context(sop_class, syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        port = server.server_address[1]
        there = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port)
        assert len(send(there, files, spool)) == 4
    finally:
        server.shutdown()
    for f, back in zip(files, kept, strict=True):
        sent = pydicom.dcmread(spool.path(f.path))
        assert (back.SOPInstanceUID, back.PixelData) == (sent.SOPInstanceUID, sent.PixelData)


@pytest.fixture
def picture(spool: Spool) -> Sendable:
    """A picture with something on it, of an odd number of rows."""
    base = phantom.header(
        SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="2.25.81", SeriesInstanceUID="2.25.82",
        Modality="OT", SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0,
    )  # fmt: skip
    rows, columns = np.indices((61, 40))
    set_pixels(base, np.stack([rows * 4, columns * 6, (rows // 7 + columns // 9) * 20], -1).astype(np.uint8))
    base.file_meta = file_meta(base)
    folder = spool.result_folder("case-0002", 1, 1)
    base.save_as(folder / "sc.dcm", enforce_file_format=True)
    return Sendable(spool.relative(folder / "sc.dcm"), "SC", "SC_1", "2.25.81", base.SOPClassUID, "")


@pytest.mark.parametrize(
    ("asked", "takes", "refuses", "came"),
    [
        (True, [RLELossless, ExplicitVRLittleEndian], "", [RLELossless]),
        (True, [RLELossless], "", [RLELossless]),
        (True, [ExplicitVRLittleEndian], "", [ExplicitVRLittleEndian]),
        (True, [RLELossless, ImplicitVRLittleEndian], RLELossless, [RLELossless, ImplicitVRLittleEndian]),
        (False, [RLELossless, ExplicitVRLittleEndian], "", [ExplicitVRLittleEndian]),
    ],
    ids=["taken", "nothing else taken", "not taken", "refused by status", "not asked for"],
)
def test_pictures_go_compressed_where_that_is_asked_for_and_taken(
    picture, spool, asked, takes, refuses, came
):
    """The same pixels under the same UID, and else as they are, at once."""
    heard = []

    def on_store(event: evt.Event) -> int:
        d = event.dataset
        d.file_meta = event.file_meta
        heard.append(d)
        return 0xC000 if d.file_meta.TransferSyntaxUID == refuses else 0x0000

    ae = AE("PACS")
    ae.add_supported_context(SecondaryCaptureImageStorage, takes)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        where = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        assert send(DicomDestination(**where, compress_pictures=asked), [picture], spool) == [
            ("SC_1", "0000")
        ]
    finally:
        server.shutdown()
    assert [d.file_meta.TransferSyntaxUID for d in heard] == came
    original = pydicom.dcmread(spool.path(picture.path))
    for d in heard:
        assert np.array_equal(d.pixel_array, original.pixel_array)
        smaller = len(d.PixelData) < len(original.PixelData)
        assert smaller is (d.file_meta.TransferSyntaxUID == RLELossless)
        for keyword in ("SOPInstanceUID", "PhotometricInterpretation", "LossyImageCompression"):
            assert d.get(keyword) == original.get(keyword)


def test_files_that_are_not_of_a_result_set_go_as_they_are(picture, spool, tmp_path):
    """A person's own pictures, whatever transfer syntax they are in."""
    own = tmp_path / "own.dcm"
    d = pydicom.dcmread(spool.path(picture.path))
    d.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    d.PixelData = encapsulate([b"\xff\xd8 not for us to read \xff\xd9"])
    d["PixelData"].is_undefined_length = True
    d.save_as(own, enforce_file_format=True)
    ae, heard = AE("PACS"), []
    ae.add_supported_context(SecondaryCaptureImageStorage, [RLELossless, JPEGBaseline8Bit])

    def on_store(event: evt.Event) -> int:
        heard.append((event.context.transfer_syntax, event.dataset.PixelData))
        return 0x0000

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        where = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        there = DicomDestination(**where, compress_pictures=True)
        dispatch.send_paths(there, [own], NODE, lambda *_: None)
    finally:
        server.shutdown()
    assert heard == [(JPEGBaseline8Bit, d.PixelData)]


@needs_dcmtk
@pytest.mark.peers
def test_a_compressed_picture_is_the_same_to_dcmtk(picture, spool, tmp_path):
    packed, plain = tmp_path / "packed.dcm", tmp_path / "plain.dcm"
    dispatch.dicom._compressed(spool.path(picture.path)).save_as(packed, enforce_file_format=True)
    subprocess.run(["/usr/bin/dcmdrle", packed, plain], check=True, timeout=60)
    before, after = pydicom.dcmread(spool.path(picture.path)), pydicom.dcmread(plain)
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert before.PixelData == after.PixelData and before.PlanarConfiguration == after.PlanarConfiguration


def test_a_refused_sop_class_is_named_and_the_rest_is_delivered(peer, files, spool):
    with pytest.raises(Refused, match="refuses the SOP class Parametric Map Storage"):
        send(peer(classes=(MRImageStorage,)), files, spool)
    assert [name for name, _ in send.taken] == ["MR_0", "MR_1", "MR_2"]


def test_a_refused_status_is_named(peer, files, spool):
    with pytest.raises(Refused, match="status 0124"):
        send(peer(lambda _: 0x0124), files, spool)


def test_an_association_that_breaks_is_a_reason_to_wait(peer, files, spool):
    with pytest.raises(PeerUnreachable):
        send(peer(lambda n: 0x0000 if n < 1 else None), files, spool)
    assert len(send.taken) == 1


def test_nobody_listening_is_a_reason_to_wait(files, spool):
    nobody = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=free_port())
    with pytest.raises(PeerUnreachable, match="is it running"):
        send(nobody, files, spool)


def test_a_wrong_ae_title_is_for_a_person(peer, files, spool):
    ours = peer(require_called_aet=True).model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(Refused, match="AE title"):
        send(ours, files, spool)


def test_a_destination_gets_only_the_kinds_it_asks_for(peer, files, spool):
    only_maps = peer().model_copy(update={"send": ("PM",)})
    assert send(only_maps, files, spool) == [("PM_3", "0000")]


def test_echo_tells_a_peer_that_answers_from_one_that_does_not(peer):
    dispatch.echo(peer(), NODE)
    with pytest.raises(PeerUnreachable):
        dispatch.echo(DicomDestination(name="X", ae_title="X", host="127.0.0.1", port=free_port()), NODE)


def test_a_folder_gets_whole_files_under_a_name_without_a_patient(tmp_path, files, spool):
    folder = tmp_path / "out"
    taken = send(FolderDestination(name="results", folder=folder), files, spool)
    assert taken == [(f.name, "written") for f in files]
    written = sorted(p for p in folder.rglob("*") if p.is_file())
    assert [p.relative_to(folder).parts for p in written] == [
        ("case-0001-1-1", "dicom", f"{n:04d}.dcm") for n in range(4)
    ]
    assert pydicom.dcmread(written[0]).SOPInstanceUID == files[0].sop_uid


def test_a_folder_is_named_by_the_case_and_the_attempt_whichever_worker_made_it(tmp_path, files, spool):
    made = spool.result_folder("case-0003", 1, 2, "left.box") / "dicom" / "0000.dcm"
    made.parent.mkdir()
    made.write_bytes(spool.path(files[0].path).read_bytes())
    file = replace(files[0], path=spool.relative(made))
    send(FolderDestination(name="results", folder=tmp_path), [file], spool)
    assert (tmp_path / "case-0003-1-2" / "dicom" / "0000.dcm").is_file()


def test_a_folder_that_cannot_be_written_is_a_reason_to_wait(tmp_path, files, spool):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TemporaryError, match="cannot write"):
        send(FolderDestination(name="results", folder=tmp_path / "file"), files, spool)


def test_the_command_line_echoes_and_sends(peer, files, spool, tmp_path):
    there = peer()
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'[storage]\nfolder = "{tmp_path / "data"}"\n[[destination]]\ntype = "dicom"\nname = "PACS"\n'
        f'ae_title = "PACS"\nhost = "127.0.0.1"\nport = {there.port}\n'
    )

    def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dicom_node.cli", *map(str, arguments), "--config", str(toml)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert cli("echo", "PACS").stdout == "PACS answers\n"
    assert "took 4 of 4 files" in cli("send", "PACS", spool.root / "out").stdout
    unknown = cli("echo", "ELSEWHERE")
    assert unknown.returncode == 2 and "there are: PACS" in unknown.stderr
