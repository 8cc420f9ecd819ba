"""Broken and hostile inputs by the thousand: each is read, or refused in words, and nothing is left of it.

Every input follows from its seed alone: a failure names it. What was found is kept as a test of the
part that was at fault.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from pathlib import Path

import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.presentation import PresentationContext

from dicom_node.config import NodeRules
from dicom_node.demo import free_port
from dicom_node.errors import NotDicom
from dicom_node.guard import GuardedAssociation
from dicom_node.header import Bounds, read_header, text_of
from dicom_node.listener import Listener
from dicom_node.spool import Spool
from dicom_node.torture import wire
from dicom_node.torture.hostile import messages, mutated
from tests.doors import as_file, compressed, mr_slice, open_intake


def corpus() -> list[bytes]:
    """Small files of every structure there is."""
    inner = Dataset()
    inner.CodeValue = "1"
    ds = mr_slice(size=4)
    ds.ReferencedImageSequence = Sequence([inner, Dataset()])
    ds.add_new((0x0029, 0x0010), "LO", "PRIVATE")
    ds.add_new((0x0029, 0x1001), "SQ", [inner])
    files = []
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        ds.file_meta.TransferSyntaxUID = syntax
        files.append(as_file(ds))
    files.append(as_file(compressed(mr_slice(size=4), RLELossless)))
    return files


@pytest.mark.timeout(0)
def test_a_file_is_read_or_refused_in_words(seeds: range) -> None:
    files = corpus()
    bounds = Bounds(elements=20_000, seconds=5)
    read = 0
    for seed in seeds:
        dice = random.Random(seed)
        original = dice.choice(files)
        # Mostly behind the preamble, where there is something to break.
        content = (
            original[:132] + mutated(original[132:], dice)
            if dice.random() < 0.95
            else mutated(original, dice)
        )
        began = time.monotonic()
        try:
            header = read_header(content, bounds)
            for keyword in ("SOPInstanceUID", "PatientID", "FrameOfReferenceUID"):
                text_of(header, keyword)
            read += 1
        except NotDicom:
            pass
        except Exception as bug:
            pytest.fail(f"seed {seed}: {bug!r}")
        assert time.monotonic() - began < 10, f"seed {seed} took long"
    assert len(seeds) < 100 or 0 < read < len(seeds)


def association(spool: Spool) -> GuardedAssociation:
    """An association that was agreed, fed without a socket."""
    ae = AE("FUZZ")
    made = GuardedAssociation(ae, spool.arriving)
    for context_id, abstract in ((1, MRImageStorage), (3, wire.VERIFICATION)):
        context = PresentationContext()
        context.context_id = context_id
        context.abstract_syntax = abstract
        context.transfer_syntax = [ExplicitVRLittleEndian]
        made._accepted_cx[context_id] = context
    return made


def feed(dul: GuardedAssociation, stream: bytes) -> None:
    """As the upper layer does, PDU by PDU, until the stream or the association ends."""
    at = 0
    while at + 6 <= len(stream):
        pdu_type, length = struct.unpack_from(">BxI", stream, at)
        if length > 131072 or at + 6 + length > len(stream) or pdu_type != 0x04:
            return
        try:
            pdu, _ = dul.dul._decode_pdu(bytearray(stream[at : at + 6 + length]))
        except (ValueError, struct.error):
            return  # pynetdicom: an invalid PDU, abort
        dul.dimse.receive_primitive(pdu.to_primitive())
        if not dul.dul.event_queue.empty():
            return
        at += 6 + length


@pytest.mark.timeout(0)
def test_a_message_is_taken_or_ends_its_association(seeds: range, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    streams = messages()
    taken = 0
    for seed in seeds:
        dice = random.Random(seed)
        peer = association(spool)
        try:
            feed(peer, mutated(dice.choice(streams), dice))
            taken += not peer.dimse.msg_queue.empty()
        except Exception as bug:
            pytest.fail(f"seed {seed}: {bug!r}")
        finally:
            peer.dimse.close()
            peer.dul.close()
    assert list((tmp_path / "spool" / "tmp").iterdir()) == []
    assert len(seeds) < 100 or taken


@pytest.mark.timeout(0)
def test_a_listener_outlives_whatever_is_sent_to_it(seeds: range, tmp_path: Path) -> None:
    """Over real sockets, a hundredth as many: from the first byte, and inside an association."""
    listener = Listener(
        NodeRules(port=(port := free_port()), acse_timeout_s=2, network_timeout_s=2), open_intake(tmp_path)
    )
    listener.start()
    try:
        for seed in seeds[:: max(1, min(100, len(seeds) // 10))]:
            dice = random.Random(seed)
            _send(port, dice)
        assert wire.echo(port) == 0x0000
    finally:
        listener.stop(drain_s=3)
    assert list((tmp_path / "spool" / "tmp").iterdir()) == []


def _send(port: int, dice: random.Random) -> None:
    request = wire.associate()
    try:
        if dice.random() < 0.5:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
                peer.sendall(mutated(request, dice))
        else:
            with wire.established(port) as peer:
                peer.sendall(mutated(dice.choice(messages()), dice))
    except OSError:
        pass  # cut off in the middle: as it should be
