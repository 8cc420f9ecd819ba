"""What the gate holds back stays here: through the worker, with a PACS that would have taken it."""

from __future__ import annotations

from pydicom.uid import BasicTextSRStorage

from dicom_node.config import OutputRules, ResolveRules
from dicom_node.encode import parametric_map
from dicom_node.study import DeliveryState, State
from tests import builders
from tests.pacs import STORAGE, Pacs
from tests.results import worked_on

QUICK = ResolveRules(method="bicubic", factor=(2, 2, 2))
FEW = {"fused_maps": (), "summary": False, "mr_maps": ("HGG",)}


def test_a_study_with_one_object_that_the_gate_refuses_fails_with_the_reason_and_nothing_of_it_is_sent(
    tmp_path, monkeypatch
):
    """Frames of a map in descending order, which viewers would show upside down: an encoder gone wrong."""
    monkeypatch.setattr(parametric_map, "_sort_ascending", lambda built, values, parent: None)
    with Pacs(*STORAGE, BasicTextSRStorage) as pacs:
        wanting = pacs.destination(explain_no_result=True)
        office = worked_on(tmp_path, builders.usual(), wanting, output=OutputRules(**FEW), resolve=QUICK)
        (case,) = office.store.status()["cases"]
        (revision,) = case["revisions"]
        assert revision["state"] == State.FAILED
        assert revision["reason"] == "PM_HGG: frames do not ascend along row × column"
        assert [d["purpose"] for d in revision["deliveries"]] == ["reason"]
        assert office.work_on().state is DeliveryState.DELIVERED
        assert len(pacs.received) == 1  # why there is no result, and nothing else
        assert [f.kind for f in office.store.meant_for(office.delivery())] == ["NOTE"]


def test_a_setting_that_makes_objects_incomplete_is_found_by_the_gate_and_not_by_the_pacs(tmp_path):
    with Pacs() as pacs:
        rules = OutputRules(**FEW, device_serial="")
        office = worked_on(tmp_path, builders.usual(), pacs.destination(), output=rules, resolve=QUICK)
        (case,) = office.store.status()["cases"]
        (revision,) = case["revisions"]
        assert (revision["state"], revision["deliveries"]) == (State.FAILED, [])
        assert "DeviceSerialNumber has no value" in revision["reason"]
        assert office.work() == [] and pacs.associations == 0


def test_two_patients_without_an_id_in_one_study_fail_and_nothing_of_either_is_sent(tmp_path):
    study = builders.setting(PatientID="")(builders.study())
    study = builders.with_series(study, "MPRAGE", builders.setting(PatientName="Else^Someone"))
    with Pacs() as pacs:
        office = worked_on(tmp_path, study, pacs.destination(), resolve=QUICK)
        (case,) = office.store.status()["cases"]
        assert len(case["studies"]) == 1
        (revision,) = case["revisions"]
        assert (revision["state"], revision["deliveries"]) == (State.FAILED, [])
        assert "2 different patients" in revision["reason"] and "Else" not in revision["reason"]
        assert office.work() == [] and pacs.associations == 0
