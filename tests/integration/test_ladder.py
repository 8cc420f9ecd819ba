"""Deliveries to peers that refuse a form: lesser ones go, are proven and on record; what has none fails."""

from __future__ import annotations

import os
import shutil
import subprocess

import pydicom
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from dicom_node import custody
from dicom_node.config import DicomDestination, FolderDestination
from dicom_node.demo import free_port, wait_for_port
from dicom_node.encode.readdress import named_in
from dicom_node.rungs import LABEL_MAP, Rung
from dicom_node.study import DeliveryState
from tests.pacs import STORAGE, Pacs
from tests.results import Office


def otherwise(office: Office, destination: str = "PACS") -> dict[str, str]:
    """What went in a lesser form or not at all, as ``status`` says it."""
    (case,) = office.store.status()["cases"]
    found = [d for d in case["revisions"][0]["deliveries"] if d["destination"] == destination]
    return {o["name"]: o["because"] for o in found[0]["otherwise"]}


def test_float_maps_that_are_not_understood_go_in_16_bit_and_every_other_destination_gets_floats(tmp_path):
    """Refused by status: the form is remembered, the lesser objects are results like any other."""
    with Pacs() as pacs, Pacs() as other:
        folder = FolderDestination(name="results", folder=tmp_path / "results")
        proof = {"proof": "query", "proving": {"settle_s": 0.0}}
        office = Office(tmp_path, pacs.destination(**proof), other.destination(name="OTHER"), folder)
        uids = office.real_results()
        maps = {uid for name, uid in uids.items() if name.startswith("PM")}
        pacs.store = lambda uid: 0xC000 if uid in maps else 0x0000
        pacs.shows = lambda uid, study: True
        while office.work():
            pass
        assert {d.state for d in office.deliveries()} == {DeliveryState.DELIVERED}
        assert pacs.kept.isdisjoint(maps)
        assert other.kept == set(uids.values())
        assert len(pacs.kept) == len(uids)
        changed = {name for name in uids if name.startswith(("PM", "SR"))}  # the report names the 16-bit maps
        assert set(otherwise(office)) == changed
        words = otherwise(office)["PM_HGG"]
        assert words.startswith("sent as 16-bit Parametric Map: it answered it cannot understand the object")
        assert otherwise(office, "OTHER") == {}
        assert not list((tmp_path / "results").rglob("*lesser*"))

        shown = {d["destination"]: d["refuses"] for d in office.store.status()["destinations"]}
        assert [r["form"] for r in shown["PACS"]] == ["32-bit float Parametric Map"]
        receipt = custody.receipt(office.store, office.deliveries()[0].key.case)
        lesser = [e for e in receipt["made"] if "lesser_form_of" in e]
        assert {e["lesser_form_of"] for e in lesser} == {uids[name] for name in changed}
        there = [e for e in receipt["delivered"] if e["destination"] == "PACS"]
        assert {e["subject"] for e in lesser} < {e["subject"] for e in there}
        assert {e["proof"] for e in there} == {"query"}

        received = len(pacs.received)
        key = office.deliveries()[0].key
        office.store.retry(key, "again")  # a later result set knows from the start
        office.resolve(key)
        while office.work():
            pass
        assert len(pacs.received) == received + len(uids)


def test_a_pacs_without_parametric_maps_gets_every_map_as_an_mr_series_and_a_report_that_names_them(tmp_path):
    with Pacs(*(c for c in STORAGE if c != ParametricMapStorage)) as pacs, Pacs() as other:
        office = Office(tmp_path, pacs.destination(), other.destination(name="OTHER"))
        uids = office.real_results()
        while office.work():
            pass
        assert {d.state for d in office.deliveries()} == {DeliveryState.DELIVERED}
        assert other.kept == set(uids.values())
        stays = {uid for name, uid in uids.items() if name.startswith(("MR", "SEG"))}
        assert stays <= pacs.kept and pacs.kept.isdisjoint(set(uids.values()) - stays)
        made = [pydicom.dcmread(p) for p in sorted((office.spool.root / "out").rglob("*.lesser.*.dcm"))]
        (report,) = (pydicom.dcmread(p) for p in (office.spool.root / "out").rglob("*.naming.*.dcm"))
        assert pacs.kept - stays == {str(d.SOPInstanceUID) for d in (*made, report)}
        maps = [name for name in uids if name.startswith("PM") and name != "PM_HGG"]
        assert len({d.SeriesInstanceUID for d in made}) == len(maps)
        assert {len({d.SOPClassUID for d in made}), made[0].SOPClassUID} == {1, MRImageStorage}
        said = otherwise(office)
        assert said["PM_HGG"].startswith("there as derived MR only: it refuses the SOP class")
        assert {said[name] for name in maps} == {
            "sent as derived MR series: it refuses the SOP class Parametric Map Storage"
        }


@pytest.mark.peers
def test_dcmtk_without_parametric_maps_has_every_map_and_a_report_that_names_what_is_there(tmp_path):
    """storescp with a profile of the classes that many archives know; what lies in its folder is whole."""
    storescp = shutil.which("storescp", path="/usr/bin")
    if storescp is None:
        pytest.skip("storescp is not installed (apt-get install dcmtk)")
    classes = (MRImageStorage, SegmentationStorage, ComprehensiveSRStorage)
    lines = ["[[TransferSyntaxes]]", "[Plain]", "TransferSyntax1 = LittleEndianExplicit"]
    lines += ["[[PresentationContexts]]", "[Old]"]
    lines += [f"PresentationContext{n} = {uid}\\Plain" for n, uid in enumerate(classes, start=1)]
    lines += ["[[Profiles]]", "[Old]", "PresentationContexts = Old"]
    (tmp_path / "old.cfg").write_text("\n".join(lines) + "\n")
    (tmp_path / "there").mkdir()
    port = free_port()
    command = [storescp, "-xf", str(tmp_path / "old.cfg"), "Old", "-od", str(tmp_path / "there"), str(port)]
    server = subprocess.Popen([*command, "-aet", "PACS"], env={**os.environ, "TCP_NODELAY": "1"})
    try:
        wait_for_port(port, server)
        where = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port)
        office = Office(tmp_path, where)
        uids = office.real_results()
        assert office.work_on().state is DeliveryState.DELIVERED
    finally:
        server.terminate()
        server.wait(20)
    there = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, (tmp_path / "there").iterdir())}
    series = {str(d.SeriesDescription) for d in there.values() if d.SOPClassUID == MRImageStorage}
    maps = [name.removeprefix("PM_") for name in uids if name.startswith("PM")]
    assert len(series) == len(maps)  # HGG's own, and one of each other map
    (report,) = (d for d in there.values() if d.SOPClassUID == ComprehensiveSRStorage)
    named = {
        str(r.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for item in study.ReferencedSeriesSequence
        for r in item.ReferencedSOPSequence
    }
    parent = {str(report_parent(office))}  # the anatomy, left out of this set
    assert named - parent <= set(there)


def report_parent(office: Office) -> str:
    """What the segmentation lies on: the anatomy on the maps' grid."""
    (path,) = (office.spool.root / "out").rglob("*-SEG_lesion.dcm")
    first = pydicom.dcmread(path).ReferencedSeriesSequence[0]
    return str(first.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID)


def test_where_derived_mr_series_are_turned_off_a_person_is_told_what_has_no_other_form(tmp_path):
    with Pacs(*(c for c in STORAGE if c != ParametricMapStorage)) as pacs:
        office = Office(tmp_path, pacs.destination(maps_as_mr=False))
        uids = office.real_results()
        delivery = office.work_on()
        assert delivery.state is DeliveryState.FAILED
        assert "Parametric Map" in delivery.reason and "may_lack" in delivery.reason
        (report,) = (pydicom.dcmread(p) for p in (office.spool.root / "out").rglob("*.naming.*.dcm"))
        rest = {uid for name, uid in uids.items() if name.startswith(("MR", "SEG"))}
        assert pacs.kept == {*rest, report.SOPInstanceUID}
        assert otherwise(office)["PM_HGG"].startswith("there as derived MR only: it refuses the SOP class")

        there = pacs.destination(maps_as_mr=False, may_lack=("PM",))
        office.settings = office.settings.model_copy(update={"destination": (there,)})
        office.open()
        office.store.retry_delivery(delivery.delivery_id)
        assert office.work_on().state is DeliveryState.DELIVERED
        assert otherwise(office)["PM_TCN"].startswith("not sent: it refuses the SOP class")


def test_forms_that_are_asked_for_go_to_who_takes_them_and_the_usual_ones_to_all_others(tmp_path):
    """Label Maps and Enhanced MR. A refusal is remembered; then it has what others have."""
    with (
        Pacs(*STORAGE, LABEL_MAP, EnhancedMRImageStorage) as takes,
        Pacs(*STORAGE, LABEL_MAP) as refuses,
        Pacs() as plain,
    ):
        office = Office(
            tmp_path,
            takes.destination(label_maps=True, enhanced_mr=True),
            refuses.destination(name="REFUSES", label_maps=True, enhanced_mr=True),
            plain.destination(name="PLAIN"),
        )
        uids = office.real_results(anatomy=True)
        usual = {uid for name, uid in uids.items() if name.startswith(("SEG", "MR_HGG"))}
        refuses.store = lambda uid: 0x0000 if uid in uids.values() else 0xC000
        while office.work():
            pass
        assert {d.state for d in office.deliveries()} == {DeliveryState.DELIVERED}
        assert plain.kept == refuses.kept == set(uids.values())
        out = office.spool.root / "out"
        made = [pydicom.dcmread(p) for p in (*out.rglob("*.label-map*.dcm"), *out.rglob("*.enhanced.dcm"))]
        assert {d.SOPClassUID for d in made} == {LABEL_MAP, EnhancedMRImageStorage}
        (report,) = (pydicom.dcmread(p) for p in out.rglob("*.naming.*.dcm"))
        others = {str(d.SOPInstanceUID) for d in (*made, report)}
        assert takes.kept == set(uids.values()) - usual - {uids["SR_measurements"]} | others
        said = otherwise(office)
        assert said["SEG_lesion"] == "sent as Label Map, as it is asked for"
        assert said["MR_HGG_0001"] == "sent as Enhanced MR, as it is asked for"
        assert "MR_HGG_0002" not in said  # once for the series
        assert otherwise(office, "REFUSES") == otherwise(office, "PLAIN") == {}
        refused = {Rung(LABEL_MAP), Rung(EnhancedMRImageStorage)}
        assert set(office.store.refused_forms("REFUSES")) == refused

        received = len(refuses.received)
        office.store.retry(office.deliveries()[0].key, "again")
        office.resolve(office.deliveries()[0].key)
        while office.work():
            pass
        assert len(refuses.received) == received + len(uids)  # known from the start


def test_a_worker_killed_over_the_report_sends_nothing_else_again(tmp_path):
    """What the report refers to went before it, in other forms; these it names after the restart too."""
    with Pacs(*STORAGE, LABEL_MAP) as pacs:
        office = Office(tmp_path, pacs.destination(label_maps=True))
        uids = office.real_results()
        take = office.store.take

        def dies(delivery, path, status):
            if "naming" in path:
                raise KeyboardInterrupt
            take(delivery, path, status)

        office.store.take = dies
        with pytest.raises(KeyboardInterrupt):
            office.work()
        office.open()
        assert office.work_on().state is DeliveryState.DELIVERED
        (path,) = (office.spool.root / "out").rglob("*.naming.*.dcm")
        report = pydicom.dcmread(path)
        assert {uid for uid in pacs.kept if pacs.received.count(uid) > 1} == {report.SOPInstanceUID}
        maps = {str(pydicom.dcmread(p).SOPInstanceUID) for p in path.parent.glob("*-SEG_lesion.label-map*")}
        assert len(maps) == 2 and maps <= named_in(report) & pacs.kept
        assert uids["SEG_lesion"] not in pacs.received


@pytest.mark.parametrize("status", [0xA900, 0x0124])
def test_a_slice_that_is_refused_says_nothing_of_other_slices(tmp_path, status):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        uids = office.result_set()
        pacs.store = lambda uid: status if uid == uids[1] else 0x0000
        assert office.work_on().state is DeliveryState.FAILED
        assert pacs.kept == set(uids) - {uids[1]}
        assert office.store.refused_forms("PACS") == {}


@pytest.mark.parametrize("status", [0xC000, None], ids=["16 bit", "derived MR"])
def test_a_worker_killed_after_it_made_lesser_forms_sends_each_once(tmp_path, status):
    classes = STORAGE if status else [c for c in STORAGE if c != ParametricMapStorage]
    with Pacs(*classes) as pacs:
        office = Office(tmp_path, pacs.destination())
        uids = office.real_results()
        maps = {uid for name, uid in uids.items() if name.startswith("PM")}
        pacs.store = lambda uid: status if uid in maps else 0x0000
        take, taken = office.store.take, []

        def dies(delivery, path, status):
            if "lesser" in path and len(taken) == 2:
                raise KeyboardInterrupt
            take(delivery, path, status)
            if "lesser" in path:
                taken.append(path)

        office.store.take = dies
        with pytest.raises(KeyboardInterrupt):
            office.work()
        office.open()
        assert office.work_on().state is DeliveryState.DELIVERED
        written = {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID)
                   for p in (office.spool.root / "out").rglob("*.*.dcm")}  # fmt: skip
        kept_as_made = {uid for name, uid in uids.items() if name.startswith(("MR", "SEG"))}
        assert written == pacs.kept - kept_as_made
        again = [uid for uid in set(pacs.received) if pacs.received.count(uid) > 1]
        assert len(again) <= 1 + len(maps)  # the one whose answer was not written down; refused floats
