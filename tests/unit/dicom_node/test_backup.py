"""A copy of rows and files while the node runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node import backup
from dicom_node.config import StorageRules
from dicom_node.custody import verify
from dicom_node.errors import OutOfSpace
from dicom_node.spool import Spool
from dicom_node.store import Store
from tests.doors import incoming, open_intake
from tests.postgres import Postgres, needs_postgres


@pytest.fixture(autouse=True)
def node_folder(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()


def storage(folder: Path, database: str = "") -> StorageRules:
    return StorageRules(folder=folder, database=database, engine_database=database)


def test_a_copy_holds_every_row_and_file_and_is_proven(tmp_path: Path) -> None:
    intake = open_intake(tmp_path / "node")
    for number in range(3):
        intake.accept(incoming(number), source="SCANNER")
    saved = backup.back_up(storage(tmp_path / "node"), tmp_path / "copy")
    assert saved.verified is not None
    assert (saved.files, saved.verified.entries, saved.verified.problems) == (3, 3, ())
    assert saved.rows.stat().st_mode & 0o077 == 0


def test_what_comes_between_files_and_rows_is_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = open_intake(tmp_path / "node")
    intake.accept(incoming(), source="SCANNER")
    snapshot = backup._snapshot

    def one_comes_first(rules: StorageRules, target: Path) -> Path:
        intake.accept(incoming(2), source="SCANNER")
        return snapshot(rules, target)

    monkeypatch.setattr(backup, "_snapshot", one_comes_first)
    saved = backup.back_up(storage(tmp_path / "node"), tmp_path / "copy")
    assert saved.verified is not None
    assert (saved.verified.files, saved.verified.problems) == (2, ())


def test_a_copy_that_was_damaged_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_intake(tmp_path / "node").accept(incoming(), source="SCANNER")
    verified = backup._verified

    def after_damage(rows: Path, target: Path) -> object:
        (file,) = (f for f in (target / "spool" / "in").rglob("*.dcm"))
        file.write_bytes(b"other bytes")
        return verified(rows, target)

    monkeypatch.setattr(backup, "_verified", after_damage)
    saved = backup.back_up(storage(tmp_path / "node"), tmp_path / "copy")
    assert saved.verified is not None
    assert "other bytes" in saved.verified.problems[0]


def test_a_target_that_is_too_small_is_told_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_intake(tmp_path / "node").accept(incoming(), source="SCANNER")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))  # type: ignore[attr-defined]
    with pytest.raises(OutOfSpace, match="needs"):
        backup.back_up(storage(tmp_path / "node"), tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())


@needs_postgres
def test_rows_in_postgresql_are_dumped_and_can_be_restored(postgres: Postgres, tmp_path: Path) -> None:
    live, other = postgres.migrated(), postgres.database()
    store = Store(live)
    store.add_person("Dr Roe", "viewer", "hash")
    spool = Spool(tmp_path / "node" / "spool")
    saved = backup.back_up(storage(tmp_path / "node", live), tmp_path / "copy")
    assert saved.verified is None
    where = other.replace("postgresql+psycopg", "postgresql")
    subprocess.run(["pg_restore", f"--dbname={where}", saved.rows], check=True, capture_output=True)
    restored = Store(other)
    assert [p.name for p in restored.people()] == ["Dr Roe"]
    assert verify(restored, spool).problems == ()
    restored.close()
    store.close()
