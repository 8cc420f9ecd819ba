"""Deliveries to peers that refuse a form: lesser ones go, are proven and on record; what has none fails."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.uid import ParametricMapStorage

from dicom_node import custody
from dicom_node.config import FolderDestination
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
        assert set(otherwise(office)) == {name for name in uids if name.startswith("PM")}
        words = otherwise(office)["PM_HGG"]
        assert words.startswith("sent as 16-bit Parametric Map: it answered it cannot understand the object")
        assert otherwise(office, "OTHER") == {}
        assert not list((tmp_path / "results").rglob("*lesser*"))

        shown = {d["destination"]: d["refuses"] for d in office.store.status()["destinations"]}
        assert [r["form"] for r in shown["PACS"]] == ["32-bit float Parametric Map"]
        receipt = custody.receipt(office.store, office.deliveries()[0].key.case)
        lesser = [e for e in receipt["made"] if "lesser_form_of" in e]
        assert {e["lesser_form_of"] for e in lesser} == maps
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


def test_a_pacs_without_parametric_maps_gets_the_rest_and_a_person_is_told_what_has_no_other_form(tmp_path):
    with Pacs(*(c for c in STORAGE if c != ParametricMapStorage)) as pacs:
        office = Office(tmp_path, pacs.destination())
        uids = office.real_results()
        delivery = office.work_on()
        assert delivery.state is DeliveryState.FAILED
        assert "Parametric Map" in delivery.reason and "may_lack" in delivery.reason
        assert pacs.kept == {uid for name, uid in uids.items() if not name.startswith("PM")}
        assert otherwise(office)["PM_HGG"].startswith("there as derived MR only: it refuses the SOP class")

        there = pacs.destination(may_lack=("PM",))
        office.settings = office.settings.model_copy(update={"destination": (there,)})
        office.open()
        office.store.retry_delivery(delivery.delivery_id)
        assert office.work_on().state is DeliveryState.DELIVERED
        assert otherwise(office)["PM_TCN"].startswith("not sent: it refuses the SOP class")


@pytest.mark.parametrize("status", [0xA900, 0x0124])
def test_a_slice_that_is_refused_says_nothing_of_other_slices(tmp_path, status):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        uids = office.result_set()
        pacs.store = lambda uid: status if uid == uids[1] else 0x0000
        assert office.work_on().state is DeliveryState.FAILED
        assert pacs.kept == set(uids) - {uids[1]}
        assert office.store.refused_forms("PACS") == {}


def test_a_worker_killed_after_it_made_lesser_forms_sends_each_once(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        uids = office.real_results()
        maps = {uid for name, uid in uids.items() if name.startswith("PM")}
        pacs.store = lambda uid: 0xC000 if uid in maps else 0x0000
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
        files = sorted(p for p in (office.spool.root / "out").rglob("*.lesser.dcm"))
        assert len(files) == len(maps) == sum(1 for uid in pacs.kept if uid not in uids.values())
        assert {pydicom.dcmread(p).SOPClassUID for p in files} == {ParametricMapStorage}
