"""Deliveries go on when the peer is back, end visibly when it is not, and may be retried by a person."""

from __future__ import annotations

import json
import threading
import time
from urllib.request import Request, urlopen

import pydicom
import pytest

from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.store import Store
from dicom_node.study import DeliveryState
from tests import builders
from tests.harness import dcmsend, dicom_destination, folder_destination, needs_dcmtk, needs_orthanc
from tests.pacs import Pacs

pytestmark = [pytest.mark.peers, needs_dcmtk]

QUICK = "{ max_attempts = 40, first_s = 0.5, longest_s = 1.0 }"
TWICE = "{ max_attempts = 2, first_s = 0.3, longest_s = 0.3 }"


def delivery_to(status, destination):
    return next(
        d for d in status["cases"][0]["revisions"][0]["deliveries"] if d["destination"] == destination
    )


@needs_orthanc
def test_a_pacs_that_comes_back_gets_everything_once(make_node, tmp_path):
    pacs = LoopbackOrthanc(tmp_path / "orthanc")
    both = dicom_destination(pacs.dicom_port, retry=QUICK) + folder_destination(tmp_path / "out")
    node = make_node(destinations=both)
    builders.write(builders.study(), tmp_path / "study")
    dcmsend(node.port, [tmp_path / "study"])

    def waits(status):
        r = status["cases"][0]["revisions"][0] if status["cases"] else {"deliveries": []}
        states = {d["destination"]: d["state"] for d in r["deliveries"]}
        return states == {"PACS": "WAITING", "results": "DELIVERED"}

    status = node.wait_for(waits)
    assert "is it running" in delivery_to(status, "PACS")["reason"]
    pacs.start()
    try:
        status = node.wait_for_state("DONE", "FAILED")
        assert delivery_to(status, "PACS")["state"] == "DELIVERED"
        assert len(pacs.get("/instances")) == delivery_to(status, "PACS")["taken"]
    finally:
        pacs.stop()
    assert list((tmp_path / "out").glob("*/nifti/HGG.nii.gz"))
    assert list((tmp_path / "out").glob("*/report.json"))


def test_a_pacs_that_stays_away_is_given_up_visibly_and_may_be_retried(make_node, tmp_path):
    pacs = dicom_destination(free_port(), retry=TWICE) + "circuit = { failures = 100 }\n"  # no probes
    node = make_node(destinations=pacs)
    builders.write(builders.study(), tmp_path / "study")
    dcmsend(node.port, [tmp_path / "study"])

    status = node.wait_for_state("FAILED")
    delivery = delivery_to(status, "PACS")
    assert delivery["state"] == "FAILED"
    assert "given up after 2 tries" in delivery["reason"]
    assert "not delivered to PACS" in status["cases"][0]["revisions"][0]["reason"]

    done = node.cli("retry", delivery["delivery"])
    assert done.returncode == 0, done.stderr
    again = node.wait_for(
        lambda s: [delivery_to(s, "PACS")[k] for k in ("attempt", "state")] == [2, "FAILED"]
    )
    assert delivery_to(again, "PACS")["tries"] == 2


def test_a_pacs_that_stays_away_does_not_keep_results_from_others(make_node, tmp_path):
    """Three studies: more deliveries wait for the dead PACS than are sent at once."""
    slow = "{ max_attempts = 100, first_s = 30.0, longest_s = 60.0 }"
    node = make_node(
        destinations=dicom_destination(free_port(), retry=slow) + folder_destination(tmp_path / "out")
    )
    maps = [d for d in builders.study() if d.SeriesDescription in ("LCM tCho conc", "LCM tNAA conc")]
    for n in range(3):
        uids = {"StudyInstanceUID": f"2.25.9{n}", "FrameOfReferenceUID": f"2.25.8{n}", "PatientID": f"P{n}"}
        builders.write(builders.renamed(maps, f"study {n}", **uids), tmp_path / f"study{n}")
        dcmsend(node.port, [tmp_path / f"study{n}"])

    def settled(status):
        deliveries = [d for c in status["cases"] for r in c["revisions"] for d in r["deliveries"]]
        return sorted((d["destination"], d["state"]) for d in deliveries) == [
            *[("PACS", "WAITING")] * 3,
            *[("results", "DELIVERED")] * 3,
        ]

    node.wait_for(settled)


@needs_orthanc
def test_a_study_is_done_once_orthanc_has_committed_to_it(orthanc, make_node, tmp_path):
    node = make_node(destinations=dicom_destination(orthanc.dicom_port) + 'proof = "commitment"\n')
    us = {"AET": "MRSISR", "Host": "127.0.0.1", "Port": node.port, "AllowStorageCommitment": True}
    url = f"http://127.0.0.1:{orthanc.http_port}/modalities/node"
    urlopen(Request(url, json.dumps(us).encode(), method="PUT"), timeout=30).close()
    builders.write(builders.study(), tmp_path / "study")
    dcmsend(node.port, [tmp_path / "study"])

    status = node.wait_for_state("DONE", "FAILED")
    delivery = delivery_to(status, "PACS")
    assert delivery["state"] == "DELIVERED", delivery
    assert delivery["proven"] == delivery["taken"] == len(orthanc.get("/instances"))


def test_a_node_killed_while_it_waits_for_commitment_takes_the_report_afterwards(make_node, tmp_path):
    pacs = Pacs()
    pacs.commits = "later"
    with pacs:
        destination = dicom_destination(pacs.port, ae_title="PACS") + 'proof = "commitment"\n'
        node = make_node(destinations=destination)
        builders.write(builders.study(), tmp_path / "study")
        dcmsend(node.port, [tmp_path / "study"])

        def proving(status):
            return status["cases"] and any(
                d["state"] == "PROVING" for d in status["cases"][0]["revisions"][0]["deliveries"]
            )

        node.wait_for(proving)
        assert node.status()["cases"][0]["revisions"][0]["state"] == "DELIVERING"
        node.kill_all()
        node.start()
        assert pacs.tell(node.port, pacs.report()) == 0x0000
        status = node.wait_for_state("DONE", "FAILED")
    assert delivery_to(status, "PACS")["state"] == "DELIVERED"
    assert len(pacs.received) == len(pacs.kept) == delivery_to(status, "PACS")["proven"]
    assert len(pacs.asked) == 1


def test_what_is_held_goes_on_when_it_is_released(make_node, tmp_path):
    """Each release is a fresh run for the engine, which has seen the earlier ones end."""
    with Pacs() as pacs:
        node = make_node(destinations=dicom_destination(pacs.port, ae_title="PACS"))
        assert node.cli("hold", "PACS", "--reason", "migration").returncode == 0
        builders.write(builders.study(), tmp_path / "study")
        dcmsend(node.port, [tmp_path / "study"])
        status = node.wait_for_state("DELIVERING")
        delivery = delivery_to(status, "PACS")["delivery"]
        store = Store(f"sqlite:///{node.folder / 'data' / 'node.sqlite'}")
        store.hold_delivery(delivery, "look first")
        store.release_destination("PACS", "migrated")
        time.sleep(3)  # a few looks of the reconciler
        assert pacs.associations == 0
        store.release_delivery(delivery, "looked")
        status = node.wait_for_state("DONE", "FAILED")
        assert delivery_to(status, "PACS")["state"] == "DELIVERED"
        assert len(pacs.received) == len(pacs.kept)


def test_what_is_held_in_the_middle_of_being_sent_is_held_after_a_crash_and_goes_on_when_it_is_released(
    make_node, tmp_path
):
    """Its worker dies while an object is on its way; the engine takes the try up, and finds it held."""
    with Pacs() as pacs:
        there, go_on = threading.Event(), threading.Event()

        def answer_later(_: str) -> int:
            there.set()
            go_on.wait(60)
            return 0x0000

        pacs.store = answer_later
        node = make_node(destinations=dicom_destination(pacs.port, ae_title="PACS"))
        builders.write(builders.study(), tmp_path / "study")
        dcmsend(node.port, [tmp_path / "study"])
        delivery = delivery_to(node.wait_for_state("DELIVERING"), "PACS")["delivery"]
        assert there.wait(60)
        store = Store(f"sqlite:///{node.folder / 'data' / 'node.sqlite'}")
        store.hold_delivery(delivery, "look first")
        time.sleep(3)  # a few looks of the reconciler
        assert store.delivery(delivery).state is DeliveryState.STOPPING
        node.kill_all()
        go_on.set()
        node.start()
        node.wait_for(lambda _: store.delivery(delivery).state is DeliveryState.HELD)
        assert store.delivery(delivery).reason == "look first"
        store.release_delivery(delivery, "looked")
        status = node.wait_for_state("DONE", "FAILED")
        assert delivery_to(status, "PACS")["state"] == "DELIVERED"


def test_a_late_instance_opens_a_new_revision_and_an_unused_one_changes_nothing(make_node, tmp_path):
    node = make_node(destinations=folder_destination(tmp_path / "out"))
    study = builders.study()
    late_map = builders.series(study, "LCM Ins conc")
    builders.write([d for d in study if d.SeriesDescription != "LCM Ins conc"], tmp_path / "first")
    dcmsend(node.port, [tmp_path / "first"])
    node.wait_for_state("DONE")

    builders.write(late_map, tmp_path / "late")
    dcmsend(node.port, [tmp_path / "late"])
    node.wait_for(lambda s: len(s["cases"][0]["revisions"]) == 2)
    status = node.wait_for_state("DONE")
    assert [r["state"] for r in status["cases"][0]["revisions"]] == ["DONE", "DONE"]
    first, later = (
        pydicom.dcmread(next((tmp_path / "out").glob(f"*-{n}-1/dicom/*-PM_TCN.dcm"))) for n in (1, 2)
    )
    (superseded,) = later.ReferencedImageSequence
    assert superseded.ReferencedSOPInstanceUID == first.SOPInstanceUID != later.SOPInstanceUID

    builders.write(builders.localizer(builders.series(study, "LCM tNAA conc")), tmp_path / "localizer")
    dcmsend(node.port, [tmp_path / "localizer"])
    node.wait_for(lambda s: len(s["cases"][0]["revisions"]) == 3)
    status = node.wait_for_state("IGNORED")
    assert "results of the revision before stand" in status["cases"][0]["revisions"][0]["reason"]


def test_maps_under_another_study_of_the_same_patient_join_the_anatomy(make_node, tmp_path):
    node = make_node(destinations=folder_destination(tmp_path / "out"), quiet_period_s=2)
    study = builders.study()
    anatomy = [d for d in study if not str(d.SeriesDescription).startswith("LCM")]
    maps = [d for d in study if str(d.SeriesDescription).startswith("LCM")]
    maps = builders.renamed(maps, "from the quantification host", StudyInstanceUID="2.25.2718281828")
    builders.write(anatomy, tmp_path / "anatomy")
    builders.write(maps, tmp_path / "maps")
    dcmsend(node.port, [tmp_path / "anatomy"])
    dcmsend(node.port, [tmp_path / "maps"])

    status = node.wait_for(lambda s: any(r["state"] == "DONE" for c in s["cases"] for r in c["revisions"]))
    joined = next(c for c in status["cases"] if len(c["studies"]) == 2)
    assert {s["role"] for s in joined["revisions"][0]["series"]} >= {"metabolite_map", "t1", "flair"}
