"""What the page reads from the store: the queue page by page, and whether anything has happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.intake import Intake
from dicom_node.store import Finding
from dicom_node.study import CaseKey, DeliveryState, State
from tests.doors import Clock, incoming, open_intake


@pytest.fixture
def intake(tmp_path: Path, database_url: str, clock: Clock) -> Intake:
    """Five studies of five patients, the last one just come."""
    intake = open_intake(tmp_path, clock=clock, database=database_url)
    for n in range(1, 6):
        clock.now += 60
        uids = {"StudyInstanceUID": f"1.2.{n}", "SOPInstanceUID": f"1.2.{n}.1", "PatientID": f"P%{n}"}
        intake.accept(incoming(AccessionNumber=f"ACC{n}", StudyDate="20260105", **uids), source="SCANNER")
    return intake


def test_the_queue_goes_by_state_text_and_page_newest_change_first(intake: Intake, clock: Clock) -> None:
    store = intake.store
    assert [r.patient_id for r in store.queue()[0]] == ["P%5", "P%4", "P%3", "P%2", "P%1"]
    clock.now += 60
    store.hold("1.2.2", "held by Roe: 50 % of it is missing")
    rows, total = store.queue(limit=2, offset=1)
    assert ([r.patient_id for r in rows], total) == (["P%5", "P%4"], 5)
    assert store.queue(limit=2, offset=99) == ([], 5)
    assert store.queue(text="P%", limit=2, offset=99) == ([], 5)
    held, total = store.queue([State.HELD])
    assert ([r.patient_id for r in held], total) == (["P%2"], 1)
    assert (held[0].reason, held[0].study_date) == ("held by Roe: 50 % of it is missing", "20260105")
    store.identified(held[0].key, [Finding("1.9", "LCM tNAA conc", "metabolite_map", "by its name")])
    for text in ("p%2", "1.2.2", "acc2".upper(), "ROE: 50 %", "tnaa", held[0].key.case[:13].upper(), " P%2 "):
        assert [r.patient_id for r in store.queue(text=text)[0]] == ["P%2"], text
    assert store.queue(text="P_2") == ([], 0), "what is searched for is no pattern"
    assert store.queue([State.QUEUED], "P%2") == ([], 0)
    counts = store.count_by_state()
    assert (counts[State.HELD], counts[State.RECEIVING], counts[State.DONE]) == (1, 4, 0)


def test_a_case_is_shown_once_by_its_newest_revision_with_the_deliveries_of_its_last_results(
    intake: Intake,
) -> None:
    store = intake.store
    key = store.force("1.2.3", "at once")
    store.start(key)
    store.encoded(key, [], "report.json", "digest", ["PACS", "research"], ["PACS"])
    assert store.open_deliveries() == {
        "PACS": {DeliveryState.HELD: 1},
        "research": {DeliveryState.PENDING: 1},
    }
    ((row,), _) = store.queue(text="P%3")
    assert [(d.destination, d.state) for d in row.deliveries] == [
        ("PACS", DeliveryState.HELD),
        ("research", DeliveryState.PENDING),
    ]
    late = {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.2", "PatientID": "P%3"}
    intake.accept(incoming(2, **late), source="SCANNER")
    rows, total = store.queue(text="P%3")
    assert (total, rows[0].key.revision, rows[0].state, rows[0].deliveries) == (1, 2, State.RECEIVING, ())
    assert sum(store.count_by_state().values()) == 5
    found = store.case_status(key.case)
    assert found is not None and [r["revision"] for r in found["revisions"]] == [2, 1]
    assert store.case_status("none") is None
    (arrived,) = store.received_series(key.case)
    assert (arrived.instances, arrived.study_uid) == (2, "1.2.3")


def test_the_pulse_changes_with_whatever_the_queue_would_show_anew(intake: Intake, clock: Clock) -> None:
    store = intake.store
    felt = [store.pulse()]
    assert store.pulse() == felt[0]

    def changed() -> bool:
        felt.append(store.pulse())
        return felt[-1] != felt[-2]

    clock.now += 1
    intake.accept(incoming(StudyInstanceUID="1.2.5", SOPInstanceUID="1.2.5.2", PatientID="P%5"), source="S")
    assert changed(), "one more instance"
    (row,), _ = store.queue(text="P%1")
    store.await_(row.key, "the FLAIR", clock.now + 600)
    assert changed(), "what is waited for"
    store.hold("1.2.1", "wait")
    assert changed(), "an event of a study"
    assert store.changed_since(felt[-2].event) == [row.key.case]
    assert store.changed_since(felt[-1].event) == []
    store.hold_destination("PACS", "migration")
    assert changed(), "an event of a destination"
    events, total = store.timeline(row.key.case, limit=1)
    assert (events[0]["event"], total) == ("held", 2)
    assert store.revision(CaseKey(row.key.case, 1)).state is State.HELD
