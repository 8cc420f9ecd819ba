"""More than one machine: processes that share nothing but a PostgreSQL and a spool folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.simulate.export import Identity
from dicom_node.store import Store, tables
from tests import builders
from tests.harness import Node, Worker, dcmsend, dicom_destination, needs_dcmtk, needs_orthanc
from tests.postgres import Postgres, needs_postgres

pytestmark = [pytest.mark.peers, pytest.mark.slow, needs_dcmtk, needs_orthanc, needs_postgres]

SLOWER = "bicubic+fnlm+dc"  # long enough to be met in the middle of it
TAKEOVER_S = 12.0


@pytest.fixture
def storage(postgres: Postgres, tmp_path: Path) -> str:
    """[storage] of every machine; the engine's database is empty: who comes first makes its tables."""
    lines = (tmp_path / "shared", postgres.migrated(), postgres.database())
    return 'folder = "{}"\ndatabase = "{}"\nengine_database = "{}"'.format(*lines)


@pytest.fixture
def make_worker() -> Iterator[Callable[[Node, str], Worker]]:
    """Start workers that end with the test."""
    workers: list[Worker] = []

    def make(node: Node, name: str) -> Worker:
        workers.append(Worker(node, name))
        return workers[-1]

    yield make
    for worker in workers:
        worker.kill()


def database_of(node: Node) -> Store:
    lines = node.toml.read_text().splitlines()
    return Store(next(line.split('"')[1] for line in lines if line.startswith("database")))


def wait_until(condition: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not reached in {limit_s:g} s"
        time.sleep(0.1)


def study(number: int) -> list[builders.FileDataset]:
    return builders.study(identity=Identity(patient_id=f"P{number}", study=str(number)))


def at_the_pacs(orthanc) -> Counter:
    """How often it holds each of our objects, by SOP Instance UID."""
    tags = [orthanc.get(f"/instances/{i}/simplified-tags") for i in orthanc.get("/instances")]
    return Counter(t["SOPInstanceUID"] for t in tags if t["SeriesDescription"].startswith("MRSI-SR"))


def made(store: Store) -> set[str]:
    """SOP Instance UID of every result on record."""
    with store.engine.connect() as tx:
        return {uid for (uid,) in tx.execute(select(tables.results.c.sop_uid)) if uid}


def resolved_by(events: list[dict[str, object]]) -> int:
    return sum(e["event"] == "revision.resolved" for e in events)


@pytest.mark.long
def test_two_listeners_and_three_workers_make_every_study_once(
    orthanc, make_node, make_worker, storage, tmp_path
) -> None:
    """Every study comes half to one listener and half to the other, at once, and a part of it to both."""
    number = 9
    to_pacs = dicom_destination(orthanc.dicom_port)
    first, second = (
        make_node(destinations=to_pacs, storage=storage, worker=name, quiet_period_s=8.0) for name in "ab"
    )
    third = make_worker(first, "c")
    store = database_of(first)
    wait_until(lambda: set(store.beats()) == {"a", "b", "c"})
    for n in range(number):
        instances = study(n)
        builders.write(instances[:80], tmp_path / "to-first" / str(n))
        builders.write(instances[60:], tmp_path / "to-second" / str(n))

    with ThreadPoolExecutor(2) as pool:
        sent = [
            pool.submit(dcmsend, node.port, [tmp_path / folder])
            for node, folder in ((first, "to-first"), (second, "to-second"))
        ]
        assert all("with status SUCCESS" in f.result() for f in sent)
    status = first.wait_for_state("DONE", "FAILED", cases=number, limit_s=400)

    assert len(status["cases"]) == number
    assert {c["instances"] for c in status["cases"]} == {140}
    assert [[r["state"] for r in c["revisions"]] for c in status["cases"]] == [["DONE"]] * number
    held = at_the_pacs(orthanc)
    assert set(held) == made(store) and set(held.values()) == {1}
    shares = [resolved_by(m.log_events()) for m in (first, second, third)]
    assert sum(shares) == number and min(shares) > 0, shares
    verified = first.cli("custody", "--verify")
    assert verified.returncode == 0, verified.stderr


def busy(store: Store, number: int) -> bool:
    with store.engine.connect() as tx:
        states = [s for (s,) in tx.execute(select(tables.revisions.c.state))]
    return states.count("RESOLVING") >= number


def test_a_worker_that_dies_for_good_is_taken_over_within_the_time(
    orthanc, make_node, make_worker, storage, tmp_path
) -> None:
    node = make_node(
        destinations=dicom_destination(orthanc.dicom_port), storage=storage, worker="a", method=SLOWER,
        takeover_s=TAKEOVER_S,
    )  # fmt: skip
    dying = make_worker(node, "b")
    store = database_of(node)
    wait_until(lambda: set(store.beats()) == {"a", "b"})
    for n in range(2):
        builders.write(study(n), tmp_path / "studies" / str(n))
    dcmsend(node.port, [tmp_path / "studies"])
    wait_until(lambda: busy(store, 2))  # one each: both are in the middle of it

    dying.kill()
    died = time.monotonic()
    wait_until(lambda: "b" not in store.beats())
    assert time.monotonic() - died <= TAKEOVER_S + 4.0  # and what a busy machine adds

    status = node.wait_for_state("DONE", "FAILED", cases=2)
    assert [[r["state"] for r in c["revisions"]] for c in status["cases"]] == [["DONE"]] * 2
    taken = [e for e in node.log_events() if e["event"] == "worker.taken_over"]
    assert [(e["name"], e["workflows"]) for e in taken] == [("b", 1)]
    held = at_the_pacs(orthanc)
    assert set(held) == made(store) and set(held.values()) == {1}


@pytest.mark.long
def test_a_worker_that_was_only_asleep_ends_when_it_finds_itself_overtaken(
    orthanc, make_node, make_worker, storage, tmp_path
) -> None:
    node = make_node(
        destinations=dicom_destination(orthanc.dicom_port), storage=storage, worker="a", method=SLOWER,
        takeover_s=TAKEOVER_S,
    )  # fmt: skip
    sleeper = make_worker(node, "b")
    store = database_of(node)
    wait_until(lambda: set(store.beats()) == {"a", "b"})
    for n in range(2):
        builders.write(study(n), tmp_path / "studies" / str(n))
    dcmsend(node.port, [tmp_path / "studies"])
    wait_until(lambda: busy(store, 2))

    sleeper.pause()
    wait_until(lambda: "b" not in store.beats())
    sleeper.resume()
    assert sleeper.wait(60) == 3

    status = node.wait_for_state("DONE", "FAILED", cases=2)
    assert [[r["state"] for r in c["revisions"]] for c in status["cases"]] == [["DONE"]] * 2
    held = at_the_pacs(orthanc)
    assert set(held) == made(store) and set(held.values()) == {1}


def test_a_whole_machine_that_dies_for_good_loses_nothing(orthanc, make_node, storage, tmp_path) -> None:
    """Listener, housekeeping and worker of one machine are gone; what it acknowledged, the other finishes."""
    to_pacs = dicom_destination(orthanc.dicom_port)
    lost, left = (
        make_node(
            destinations=to_pacs,
            storage=storage,
            worker=name,
            quiet_period_s=6.0,
            takeover_s=TAKEOVER_S,
        )
        for name in "ab"
    )
    builders.write(study(1), tmp_path / "study")
    dcmsend(lost.port, [tmp_path / "study"])
    lost.kill_all()  # before its quiet period is over

    (case,) = left.wait_for_state("DONE", "FAILED")["cases"]
    assert (case["instances"], [r["state"] for r in case["revisions"]]) == (140, ["DONE"])
    assert set(at_the_pacs(orthanc).values()) == {1}
