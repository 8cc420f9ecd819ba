"""What persons and destinations decide about results, in both databases: forms, release, withdrawal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.uid import ParametricMapStorage

from dicom_node.errors import UnsuitableInput
from dicom_node.rungs import Rung
from dicom_node.store import Made, Received, Sendable, Store, go_back, migrate
from dicom_node.study import AWAITS_RELEASE, CaseKey, DeliveryState, Event, Purpose, State

FLOAT = Rung(ParametricMapStorage, "32-bit float")
LESSER = Sendable("out/pm.lesser.dcm", "PM", "PM_HGG", "2.25.21", ParametricMapStorage, "b" * 64)
NOTE = Made("out/note.dcm", "NOTE", "note", "2.25.31", "1.2.840.10008.5.1.4.1.1.88.59", "c" * 64)


def results(store: Store, *destinations: str, held: tuple[str, ...] = (), number: int = 1) -> CaseKey:
    """A slice and a float map, on their way."""
    sop_class = "1.2.840.10008.5.1.4.1.1.4"
    values = (f"1.9.{number}", sop_class, "1.8", "1.7", "1.2.840.10008.1.2.1", "", "", "P1", "")
    store.record(Received(*values, f"in/{number}", "0" * 64, 1, "test"))
    (key,) = (r.key for r in store.revisions_in(State.RECEIVING))
    store.complete(key, "test")
    store.start(key)
    made = [
        Made("out/mr.dcm", "MR", "MR_HGG_0001", f"2.25.1{number}", sop_class, "a" * 64),
        Made("out/pm.dcm", "PM", "PM_HGG", f"2.25.2{number}0", ParametricMapStorage, "a" * 64),
    ]
    made = [Made(m.path.replace("out/", f"out/{number}/"), *list(vars(m).values())[1:]) for m in made]
    store.encoded(key, made, "", f"digest {number}", destinations, held)
    return key


def test_a_lesser_form_goes_only_where_it_stands_in(store: Store) -> None:
    results(store, "A", "B")
    a, b = sorted(store.deliveries_due(), key=lambda d: d.destination)
    slice_, pm = store.to_send(a)
    store.refuse_form("A", FLOAT, "no")
    store.refuse_form("A", FLOAT, "no, again")
    for _ in range(2):  # once more after a crash
        store.substitute(a, [pm], [LESSER], "sent as 16-bit Parametric Map: no")
    assert store.to_send(a) == [slice_, LESSER] == store.meant_for(a)
    assert store.to_send(b) == [slice_, pm]
    store.substitute(b, [pm], [], "not sent: no")
    assert store.to_send(b) == [slice_]
    assert store.refused_forms("A") == {FLOAT: "no"} and store.refused_forms("B") == {}
    store.rehearsed("A", {FLOAT.whole_class: "all of it"})
    assert store.refused_forms("A") == {Rung(ParametricMapStorage): "all of it"}
    events = [e["event"] for e in store.destination_history("A")]
    assert events == ["form_refused", "form_refused", "rehearsed"]
    made = [e.subject for e in store.ledger(a.key.case) if e.kind == "made"]
    assert made.count(LESSER.sop_uid) == 1
    assert store.replaced(a) == [(pm, [LESSER])] and store.replaced(b) == [(pm, [])]


def test_many_slices_may_go_instead_of_one_map(store: Store) -> None:
    results(store, "A", "B")
    a, b = sorted(store.deliveries_due(), key=lambda d: d.destination)
    slice_, pm = store.to_send(a)
    sop_class = "1.2.840.10008.5.1.4.1.1.4"
    series = [
        Sendable(f"{pm.path}.lesser.{n:04d}.dcm", "MR", f"MR_HGG_{n:04d}", f"2.25.5{n}", sop_class, "c" * 64)
        for n in (1, 2, 3)
    ]
    for delivery in (a, a, b):
        store.substitute(delivery, [pm], series, "sent as MR Image: no")
    assert store.to_send(a) == store.meant_for(b) == [slice_, *series]
    assert store.replaced(a) == [(pm, series)]
    made = [e.subject for e in store.ledger(a.key.case) if e.kind == "made"]
    assert [made.count(s.sop_uid) for s in series] == [1, 1, 1]
    (case,) = store.status()["cases"]
    said = [len(d["otherwise"]) for d in case["revisions"][0]["deliveries"]]
    assert said == [1, 1]  # once of the map, not once for each slice


def test_what_went_as_one_is_restored_and_the_one_goes_to_nobody_by_itself(store: Store) -> None:
    """A form that was asked for and is refused; and once more, where a rehearsal finds it taken meanwhile."""
    results(store, "A", "B")
    a, b = sorted(store.deliveries_due(), key=lambda d: d.destination)
    both = store.to_send(a)
    one = replace(LESSER, path=f"{both[0].path}.enhanced.dcm", kind="MR", name="MR_HGG_0001")
    for _ in range(2):
        for _ in range(2):  # once more after a crash
            store.substitute(a, both, [one], "sent as Enhanced MR")
        assert store.to_send(a) == [one] and store.to_send(b) == both
        assert store.replaced(a) == [(f, [one]) for f in both]
        (case,) = store.status()["cases"]
        otherwise = [d["otherwise"] for d in case["revisions"][0]["deliveries"]]
        assert sorted(map(len, otherwise)) == [0, 1]  # once of the series
        store.restore(a, both)
        assert store.to_send(a) == store.to_send(b) == both and store.replaced(a) == []
        (case,) = store.status()["cases"]
        assert [d["otherwise"] for d in case["revisions"][0]["deliveries"]] == [[], []]
    made = [e.subject for e in store.ledger(a.key.case) if e.kind == "made"]
    assert made.count(one.sop_uid) == 1


def test_an_older_version_gets_no_form_that_was_given_up_again(store: Store) -> None:
    """It knows nothing of restoring: what it finds must not go instead once more, nor to everybody."""
    results(store, "A", "B")
    a, b = sorted(store.deliveries_due(), key=lambda d: d.destination)
    one, other = both = store.to_send(a)
    given_up = replace(LESSER, path=f"{one.path}.label-map.dcm", sop_uid="2.25.91")
    store.substitute(a, [one], [given_up], "sent as Label Map")
    store.restore(a, [one])
    store.substitute(b, [other], [LESSER], "sent as 16-bit Parametric Map")
    go_back(store, "0010")
    with store.engine.connect() as db:
        left = db.exec_driver_sql("SELECT path, instead FROM substitutions").all()
        paths = set(db.exec_driver_sql("SELECT path FROM results").scalars())
    assert left == [(other.path, LESSER.path)]
    assert paths == {one.path, other.path, LESSER.path}
    migrate(store)
    assert store.to_send(a) == both and store.to_send(b) == [one, LESSER]


@pytest.mark.parametrize("named", ["study", "delivery"])
def test_only_the_newest_results_are_released_and_older_ones_never(store: Store, named: str) -> None:
    first = results(store, "A", held=("A",))
    old = store.delivery(f"{first.case}:1:1:A")
    assert (old.state, old.reason) == (DeliveryState.HELD, AWAITS_RELEASE)
    results(store, "A", held=("A",), number=2)
    assert store.deliveries_due() == []
    with pytest.raises(UnsuitableInput, match="not held"):
        store.release_delivery(old.delivery_id, "the older one")
    newer, because = f"{first.case}:2:1:A", "released by Dr Roe: plausible"
    if named == "study":
        assert store.release_results("1.7", "A", because) == newer
    else:
        store.release_delivery(newer, because)
    assert [d.delivery_id for d in store.deliveries_due()] == [newer]
    assert store.delivery(old.delivery_id).state is DeliveryState.CANCELLED
    assert store.revision(first).state is State.DONE


def test_a_withdrawal_covers_exactly_what_was_taken(store: Store) -> None:
    key = results(store, "A", "B")
    a, b = sorted(store.deliveries_due(), key=lambda d: d.destination)
    slice_, _ = store.to_send(a)
    store.take(a, slice_.path, "0000")
    store.give_up(a, "refused")
    kept = store.kept_results("1.7")
    assert kept.files == {"A": [slice_]}
    (note,) = store.withdraw(kept, [(NOTE, "A")], "Dr Roe", "motion", "113001")
    assert [d.state for d in (store.delivery(a.delivery_id), store.delivery(b.delivery_id))] == [
        DeliveryState.CANCELLED
    ] * 2
    (due,) = store.deliveries_due()
    assert (due.delivery_id, due.purpose) == (note, Purpose.WITHDRAWAL)
    assert [f.sop_uid for f in store.to_send(due)] == [NOTE.sop_uid]
    store.take(due, NOTE.path, "0000")
    assert store.delivered(due)
    assert store.revision(key).state is State.DONE
    assert store.times_withdrawn(key.case) == 1
    assert store.kept_results("1.7").files == {}
    (revision,) = store.status()["cases"][0]["revisions"]
    assert [w["because"] for w in revision["withdrawn"]] == ["motion"]
    assert [e.subject for e in store.ledger(key.case) if e.kind == "withdrawn"] == [slice_.sop_uid]


def test_what_was_withdrawn_stays_so_whatever_a_worker_that_was_cut_off_says_of_it_later(
    store: Store,
) -> None:
    results(store, "A")
    (a,) = store.deliveries_due()
    late = store.sending(a)
    assert late is not None
    store.wait(a, "taken over", next_try_at=store.clock())
    store.withdraw(store.kept_results(a.key.case), [], "Dr Roe", "motion", "113001")
    store.wait(late, "no answer", next_try_at=store.clock())
    store.await_proof(late, "asked", next_try_at=store.clock())
    store.give_up(late, "refused")
    assert not store.delivered(late)
    assert store.delivery(a.delivery_id).state is DeliveryState.CANCELLED
    assert store.deliveries_due() == []


def test_an_older_version_finds_held_what_was_held_while_it_was_sent(store: Store) -> None:
    results(store, "A")
    (a,) = store.deliveries_due()
    store.sending(a)
    store.hold_delivery(a.delivery_id, "stop")
    assert store.delivery(a.delivery_id).state is DeliveryState.STOPPING
    go_back(store, "0011")
    migrate(store)
    assert store.delivery(a.delivery_id).state is DeliveryState.HELD


def test_a_study_without_result_explains_itself_once(store: Store) -> None:
    key = results(store, "A")
    (due,) = store.deliveries_due()
    store.give_up(due, "refused")
    for attempt in (2, 3):
        store.retry(key, "again")
        store.start(key)
        store.explain(key, Event.GAVE_UP, "no slice", NOTE, ["A"])
        assert store.revision(key).attempt == attempt
    (due,) = store.deliveries_due()
    assert due.purpose is Purpose.REASON
    store.take(due, NOTE.path, "0000")
    assert store.delivered(due)
    assert store.revision(key).state is State.FAILED


def test_what_supersedes_knows_the_results_that_were_sent_before_it(store: Store) -> None:
    first = results(store, "A")
    assert store.sent_before(first, 1) == {}
    (due,) = store.deliveries_due()
    never_sent = results(store, "A", number=2)
    assert store.sent_before(never_sent, 1) == {}
    slice_, pm = store.to_send(due)
    store.take(due, slice_.path, "0000")
    store.substitute(due, [pm], [LESSER], "sent as 16-bit Parametric Map: no")
    third = results(store, "A", number=3)
    assert store.sent_before(third, 1) == {"MR_HGG_0001": slice_.path, "PM_HGG": pm.path}
