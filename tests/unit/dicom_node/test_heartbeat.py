"""Workers that watch each other: who is silent for good is taken over, and learns it if it was not dead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dicom_node.heartbeat import Heartbeat, Watch
from dicom_node.store import Store, migrate


class Queue:
    """The engine as heartbeat sees it: who has work under way, and whose was queued again."""

    def __init__(self) -> None:
        self.under_way = {"a", "b"}
        self.taken: list[str] = []

    def busy(self) -> set[str]:
        return self.under_way

    def take_over(self, name: str) -> int:
        self.taken.append(name)
        self.under_way.discard(name)
        return 1


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    migrate(store)
    yield store
    store.close()


def looks(worker: Heartbeat, seconds: float, begin: float = 1000.0) -> list[str]:
    """Look as often as in operation, for so long; the worker itself goes on beating."""
    found: list[str] = []
    for turn in range(int(seconds / worker.every_s) + 1):
        assert worker.beat()
        found += worker.look(begin + turn * worker.every_s)
    return found


def test_a_worker_that_died_is_taken_over_once_and_within_the_time(store: Store) -> None:
    queue = Queue()
    a, b = (Heartbeat(store, name, 60, queue) for name in "ab")
    a.sign_on()
    b.sign_on()
    assert b.beat()  # and dies
    assert looks(a, 30) == []
    assert looks(a, 60 - 30, begin=1000.0 + 30 + a.every_s) == ["b"]
    assert looks(a, 600, begin=2000.0) == []
    assert queue.taken == ["b"]
    (up, over) = store.status()["workers"]
    assert (up["name"], up["taken_over_by"]) == ("a", None)
    assert (over["name"], over["taken_over_by"]) == ("b", "a")
    assert up["seen_at"] >= over["taken_over_at"] >= over["seen_at"]


def test_a_worker_that_beats_is_left_alone(store: Store) -> None:
    queue = Queue()
    a, b = (Heartbeat(store, name, 60, queue) for name in "ab")
    a.sign_on()
    b.sign_on()
    for turn in range(60):
        assert a.beat() and b.beat()
        assert a.look(10.0 * turn) == [] == b.look(10.0 * turn)
    assert queue.taken == []


def test_a_worker_taken_for_dead_learns_it_at_its_next_beat(store: Store) -> None:
    a, b = (Heartbeat(store, name, 60, Queue()) for name in "ab")
    a.sign_on()
    b.sign_on()
    assert looks(a, 60) == ["b"]
    assert not b.beat()
    lost, never = threading.Event(), threading.Event()
    quick = Heartbeat(store, "c", 0.6, Queue())
    thread = threading.Thread(target=quick.run, args=(never, never, lost.set))  # "c" was never on the books
    thread.start()
    assert lost.wait(20)
    thread.join()


def test_a_worker_that_comes_back_under_its_name_is_another(store: Store) -> None:
    before, after = (Heartbeat(store, "b", 60, Queue()) for _ in range(2))
    before.sign_on()
    after.sign_on()
    assert after.beat()
    assert not before.beat()
    before.sign_off()
    assert after.beat()


def test_a_worker_that_was_taken_over_may_start_again(store: Store) -> None:
    a, b = (Heartbeat(store, name, 60, Queue()) for name in "ab")
    a.sign_on()
    b.sign_on()
    assert looks(a, 60) == ["b"]
    b.sign_off()  # it had only been slow, and ends: that it was taken over stays on record
    assert [w["taken_over_by"] for w in store.status()["workers"]] == [None, "a"]
    again = Heartbeat(store, "b", 60, Queue())
    again.sign_on()
    assert again.beat()
    assert [w["taken_over_by"] for w in store.status()["workers"]] == [None, None]
    again.sign_off()
    assert [w["name"] for w in store.status()["workers"]] == ["a"]


def test_work_of_a_name_that_is_on_no_books_is_taken_over_too(store: Store) -> None:
    """Its worker was struck off by one that died before it could take over."""
    queue = Queue()
    a = Heartbeat(store, "a", 60, queue)
    a.sign_on()
    assert looks(a, 30) == []
    assert looks(a, 30, begin=1000.0 + 30 + a.every_s) == ["b"]


def test_a_worker_that_drained_leaves_nothing_to_take_over(store: Store) -> None:
    queue = Queue()
    a, b = (Heartbeat(store, name, 60, queue) for name in "ab")
    a.sign_on()
    b.sign_on()
    queue.under_way.discard("b")
    b.sign_off()
    assert looks(a, 120) == []


def test_time_in_which_nobody_looked_is_no_silence() -> None:
    """The database was away for an hour: no worker could beat, and none is dead for that."""
    watch = Watch(40)
    assert watch.silent({"b": 1}, 0.0) == []
    assert watch.silent({"b": 1}, 10.0) == []
    assert watch.silent({"b": 1}, 3600.0) == []
    assert watch.silent({"b": 1}, 3610.0) == []
    assert [watch.silent({"b": 1}, 3610.0 + 10 * n) for n in (1, 2, 3)] == [[], [], ["b"]]


def test_a_beat_that_changes_begins_the_wait_anew() -> None:
    watch = Watch(40)
    assert [watch.silent({"b": n // 3}, 10.0 * n) for n in range(30)] == [[]] * 30
