"""A copy of the node's rows and files, taken while it runs, from which another node can go on.

The workflow engine's own database is left out: rows lead, and a worker that starts without it takes up every
row that waits (deploy/docs/decisions/0002-rows-lead-the-engine-follows.md).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from .config import StorageRules
from .custody import Verified, verify
from .errors import BadConfiguration, OutOfSpace, TemporaryError, UnsuitableInput
from .spool import Spool, fsync_tree
from .store import Store

_ROWS = "node.sqlite"
_DUMP = "node.pgdump"
_SPOOL = "spool"
_KEPT = ("in", "out", "quarantine")


@dataclass(frozen=True)
class Saved:
    """``verified`` is None where rows are in PostgreSQL: a dump is proven by restoring it."""

    rows: Path
    files: int
    bytes: int
    verified: Verified | None


def back_up(storage: StorageRules, target: Path) -> Saved:
    """Copy rows and spool into ``target``, which must be empty or missing, and prove the copy.

    Files are copied before and after the rows: whatever a row names is there, however busy the node.
    Raises UnsuitableInput if ``target`` holds something, OutOfSpace, BadConfiguration without ``pg_dump``,
    TemporaryError if the database does not answer.
    """
    if target.exists() and any(target.iterdir()):
        raise UnsuitableInput(f"{target} is not empty: name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o700)  # patients' data, as in the spool
    source = storage.folder / "spool"
    _require_space(source, target)
    try:
        _copy(source, target / _SPOOL)
        rows = _dump(storage.database, target) if storage.database else _snapshot(storage, target)
        _copy(source, target / _SPOOL)
    except sqlite3.Error as e:
        raise TemporaryError(f"the database cannot be copied now: {e}") from e
    fsync_tree(target)
    sizes = [f.stat().st_size for f in (target / _SPOOL).rglob("*") if f.is_file()]
    verified = None if storage.database else _verified(rows, target)
    return Saved(rows, len(sizes), sum(sizes), verified)


def _require_space(source: Path, target: Path) -> None:
    needed = sum(f.stat().st_size for f in _files(source))
    free = shutil.disk_usage(target).free
    if free < needed:
        raise OutOfSpace(f"the copy needs {needed // 1024**2} MB, {target} has {free // 1024**2} MB")


def _files(source: Path) -> list[Path]:
    return [f for folder in _KEPT for f in (source / folder).rglob("*") if f.is_file()]


def _copy(source: Path, target: Path) -> None:
    """What ``target`` has not yet; a file never changes under its name. One that retention takes is gone."""
    for file in _files(source):
        copy = target / file.relative_to(source)
        if copy.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        half = copy.with_name(copy.name + ".part")
        try:
            shutil.copyfile(file, half)
        except FileNotFoundError:
            half.unlink(missing_ok=True)
            continue
        half.chmod(0o600)
        half.rename(copy)


def _snapshot(storage: StorageRules, target: Path) -> Path:
    """One moment of the embedded database, without stopping who writes."""
    rows = target / _ROWS
    path = storage.folder / _ROWS
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(rows)) as copy,
    ):
        live.backup(copy)
    rows.chmod(0o600)
    return rows


def _dump(database: str, target: Path) -> Path:
    program = shutil.which("pg_dump")
    if program is None:
        raise BadConfiguration(
            "pg_dump is missing (apt-get install postgresql-client): rows are in PostgreSQL"
        )
    url = make_url(database).set(drivername="postgresql")
    rows = target / _DUMP
    command = [
        program,
        "--format=custom",
        f"--file={rows}",
        f"--dbname={url.set(password=None).render_as_string()}",
    ]
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TemporaryError(f"pg_dump failed: {done.stderr.strip()}")
    rows.chmod(0o600)
    return rows


def _verified(rows: Path, target: Path) -> Verified:
    store = Store(f"sqlite:///{rows}")
    try:
        return verify(store, Spool(target / _SPOOL))
    finally:
        store.close()
