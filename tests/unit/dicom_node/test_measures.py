"""What the node measures of itself: in Prometheus' format, true to the store, never about a patient."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.config import NodeRules, Settings, StorageRules
from dicom_node.measures import Check, Measures
from dicom_node.spool import Spool
from dicom_node.store import Store
from tests.doors import Clock, an_instance


def measures(store: Store, folder: Path, port: int = 1, low_water_mb: int = 0) -> Measures:
    settings = Settings(
        node=NodeRules(port=port), storage=StorageRules(folder=folder, low_water_mb=low_water_mb)
    )
    return Measures(settings, store, Spool(folder / "spool", low_water_mb))


def samples(measured: Measures) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(measured.text().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_studies_are_counted_by_state_with_the_age_of_the_oldest(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    store.record(an_instance("1.1"))
    clock.now += 100
    store.record(an_instance("1.2", patient_id="P2"))
    clock.now += 20
    found = samples(measures(store, tmp_path))
    assert found["mrsi_studies", "RECEIVING"] == 2
    assert found["mrsi_oldest_study_seconds", "RECEIVING"] == pytest.approx(120)
    assert found["mrsi_studies", "FAILED"] == 0


def test_the_ledger_is_counted_on_from_scrape_to_scrape(store: Store, tmp_path: Path) -> None:
    measured = measures(store, tmp_path)
    store.record(an_instance("1.1"))
    assert samples(measured)["mrsi_ledger_entries_total", "received"] == 1
    store.record(an_instance("1.1"))
    store.record(an_instance("1.1"))
    assert samples(measured)["mrsi_ledger_entries_total", "received"] == 3
    assert samples(measures(store, tmp_path))["mrsi_ledger_entries_total", "received"] == 3


def test_nothing_of_a_patient_is_measured(store: Store, tmp_path: Path) -> None:
    store.record(an_instance("1.1", patient_id="HUSH-1", accession_number="HUSH-2"))
    assert b"HUSH" not in measures(store, tmp_path).text()


def test_a_node_is_ready_when_all_it_needs_is_there(store: Store, tmp_path: Path) -> None:
    store.sign_on("w1", "incarnation")
    with socket.create_server(("127.0.0.1", 0)) as server:
        checks = measures(store, tmp_path, server.getsockname()[1]).checks()
    assert [c.name for c in checks if c.good] == ["database", "spool", "listener", "worker"]


def test_what_is_missing_is_said(store: Store, clock: Clock, tmp_path: Path) -> None:
    store.sign_on("w1", "incarnation")
    clock.now += 3600
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        measured = measures(store, tmp_path, unused.getsockname()[1], low_water_mb=10**9)
        wrong = {c.name: c.reason for c in measured.checks() if not c.good}
    assert wrong.keys() == {"spool", "listener", "worker"}
    assert "low_water_mb" in wrong["spool"]
    assert "refused" in wrong["listener"]
    assert "nothing is worked on" in wrong["worker"]


def test_a_database_that_is_away_is_a_reason_not_a_crash(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = Store(f"postgresql+psycopg://nobody@127.0.0.1:{unused.getsockname()[1]}/none")
        database = next(c for c in measures(store, tmp_path).checks() if c.name == "database")
    assert not database.good
    assert isinstance(database, Check)
    assert "does not answer" in database.reason


def test_scrapes_side_by_side_count_each_entry_once(store: Store, tmp_path: Path) -> None:
    measured = measures(store, tmp_path)
    for _ in range(20):
        store.record(an_instance("1.1"))
    threads = [threading.Thread(target=measured.text) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(measured)["mrsi_ledger_entries_total", "received"] == 20
