"""A result set down the ladder: all that can go goes once, and what refers to others goes last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.uid import ParametricMapStorage

from dicom_node.config import DicomDestination, OutputRules
from dicom_node.dispatch import ObjectsRefused, Refusal, Taken
from dicom_node.encode import encode_study
from dicom_node.errors import PeerBusy
from dicom_node.rounds import send_by_ladder, stuck
from dicom_node.store import Sendable
from tests import phantom
from tests.unit.dicom_node.test_ladder import Book, ladder, on_disk


@pytest.fixture
def files(tmp_path: Path) -> list[Sendable]:
    """The HGG series and all maps, a segmentation, and the report on them."""
    source = phantom.source_study()
    rules = OutputRules(mr_maps=("HGG",), fused_maps=(), summary=False, anatomy_parent=False)
    return [on_disk(o, tmp_path) for o in encode_study(phantom.super_resolved(source), source, rules)]


class Peer:
    """Refuses Parametric Maps as such and one object for good; busy when ``busy`` says so."""

    def __init__(self, never: str) -> None:
        self.never = never
        self.busy = False
        self.offered: list[str] = []
        self.has: list[Sendable] = []

    def send(self, files: Sequence[Sendable], taken: Taken) -> None:
        refusals = []
        for f in files:
            if self.busy and f.kind == "SR":
                raise PeerBusy("not now")
            self.offered.append(f.sop_uid)
            if f.sop_class_uid == ParametricMapStorage:
                refusals.append(Refusal(f, None, "no maps"))
            elif f.name == self.never:
                refusals.append(Refusal(f, 0xA900, "A900"))
            else:
                taken(f, "0000")
        if refusals:
            raise ObjectsRefused("PACS", refusals)

    def taken(self, f: Sendable, status: str) -> None:
        self.has.append(f)


def test_what_is_refused_for_good_is_offered_once_and_all_else_finds_its_form(files, tmp_path):
    peer = Peer(never="MR_HGG_0003")
    steps = ladder(files, tmp_path, Book())
    (final,) = send_by_ladder(steps, files, peer.send, peer.taken)
    assert (final.file.name, final.status) == ("MR_HGG_0003", 0xA900)
    assert len(peer.offered) == len(set(peer.offered))
    assert peer.has[-1].kind == "SR" and [f.kind for f in peer.has].count("SR") == 1
    maps = {f.name.removeprefix("PM_") for f in files if f.kind == "PM"}
    assert {f.name.split("_")[1] for f in peer.has if f.kind == "MR"} == maps


def test_a_peer_that_is_busy_between_the_rounds_has_the_first_one_and_gets_the_second_later(files, tmp_path):
    peer, book = Peer(never=""), Book()
    peer.busy = True
    with pytest.raises(PeerBusy):
        send_by_ladder(ladder(files, tmp_path, book), files, peer.send, peer.taken)
    assert peer.has and not [f for f in peer.has if f.kind == "SR"]
    peer.busy = False
    before = list(peer.has)
    everything = [*before, *(f for f in files if f.kind == "SR")]  # as the store gives it: forms that went
    left = [f for f in everything if f not in before]
    assert send_by_ladder(ladder(everything, tmp_path, book), left, peer.send, peer.taken) == []
    (report,) = peer.has[len(before) :]
    assert report.kind == "SR" and ".naming." in report.path


def test_a_person_is_told_to_do_without_a_kind_only_where_all_of_it_is_refused(files):
    pacs = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104)
    seg = next(f for f in files if f.kind == "SEG")
    assert "List SEG in its may_lack" in str(stuck(pacs, [Refusal(seg, None, "no")]))
    assert "may_lack" not in str(stuck(pacs, [Refusal(seg, 0xA900, "A900")]))
    note = Sendable("", "NOTE", "withdrawal", "2.25.1", "1.2", "")
    assert "may_lack" not in str(stuck(pacs, [Refusal(note, None, "no")]))
