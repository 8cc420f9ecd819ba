"""What the page reads of the store, on both databases."""

from __future__ import annotations

from dicom_node.store import Finding, Made, Received, Store
from dicom_node.study import CaseKey, State
from tests.doors import Clock


def received(store: Store, number: int) -> CaseKey:
    """One instance of a study of its own."""
    uid = f"1.2.{number}"
    store.record(
        Received(
            f"{uid}.1", "1.2.840.10008.5.1.4.1.1.4", f"{uid}.2", uid, "1.2.840.10008.1.2.1", "", "",
            f"P{number}", "", f"in/{number}", "0" * 64, 1, "test", "", f'{{"n":{number}}}',
        )
    )  # fmt: skip
    case = store.case_of(uid)
    assert case is not None
    return CaseKey(case, 1)


def made(store: Store, key: CaseKey, kind: str = "PM") -> None:
    store.start(key)
    attempt = store.revision(key).attempt
    file = Made(f"out/{key.case}/{attempt}.dcm", kind, "PM_HGG", f"1.9.{attempt}", "1.2.3", "0" * 64)
    store.encoded(key, [file], "", "digest", [])


def test_the_newest_results_are_those_of_the_last_attempt_that_made_volumes(store: Store) -> None:
    key = received(store, 1)
    assert store.newest_results(key.case) is None
    store.complete(key, "test")
    made(store, key)
    store.retry(key, "retried by a person")
    made(store, key)
    found = store.newest_results(key.case)
    assert found is not None and (found.key, found.attempt) == (key, 2)
    assert [m.path for m in found.made] == [f"out/{key.case}/2.dcm"]
    assert store.newest_results(key.case, revision=7) is None


def test_members_are_found_by_what_their_series_was_taken_for(store: Store) -> None:
    key = received(store, 1)
    store.complete(key, "test")
    store.identified(key, [Finding("1.2.1.2", "tNAA", "metabolite_map", "by its name")])
    assert [m.path for m in store.members_taken_for(key, "metabolite_map")] == ["in/1"]
    assert store.members_taken_for(key, "t1") == []


def test_headers_come_back_oldest_first_as_far_as_asked(store: Store, clock: Clock) -> None:
    for number in range(4):
        received(store, number)
        clock.now += 100
    assert [h.facts for h in store.received_since(clock.now - 350, 10)] == ['{"n":1}', '{"n":2}', '{"n":3}']
    assert [h.facts for h in store.received_since(0, 2)] == ['{"n":2}', '{"n":3}']


def test_throughput_counts_what_came_and_what_ended_within_each_span(store: Store, clock: Clock) -> None:
    key = received(store, 1)
    store.complete(key, "test")
    made(store, key)
    clock.now += 7200
    store.ignore_study(received(store, 2).case, "ignored by Dr Roe: phantom")
    found = store.throughput(clock.now)
    assert found["hour"] == {"instances": 1, "IGNORED": 1}
    assert found["day"] == {"instances": 2, "IGNORED": 1, "DONE": 1}


def test_acts_of_persons_are_told_from_the_nodes_own_and_the_newest_comes_first(
    store: Store, clock: Clock
) -> None:
    key = received(store, 1)
    store.hold(key.case, "held by Dr Roe: looks")
    clock.now += 1
    store.hold_destination("PACS", "held by a person: migration")
    clock.now += 1
    store.release(key.case, "released by Dr Roe: fine")
    acts = store.acts_of_persons(10)
    assert [a["reason"] for a in acts] == [
        "released by Dr Roe: fine", "held by a person: migration", "held by Dr Roe: looks",
    ]  # fmt: skip
    assert store.acts_of_persons(1, 1) == acts[1:2]
    assert store.revisions_in(State.QUEUED) and len(store.last_of_destination("PACS", 5)) == 1
