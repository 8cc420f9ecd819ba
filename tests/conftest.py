"""Fixtures for every kind of test: PostgreSQL, each of the two databases, an empty node on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from dicom_node.intake import Intake
from dicom_node.store import Store
from tests.doors import Clock, open_intake, sqlite_in
from tests.postgres import Postgres, needs_postgres


@pytest.fixture(autouse=True)
def _events_go_where_they_went() -> Iterator[None]:
    """A command that a test runs sends the process's events to what was its stderr: not the next test's."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Started when the first test asks for it."""
    server = Postgres()
    yield server
    server.stop()


_BOTH = ["sqlite", pytest.param("postgresql", marks=[needs_postgres, pytest.mark.peers])]


@pytest.fixture(params=_BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the node's schema, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return server.migrated()


@pytest.fixture(params=_BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def clock() -> Clock:
    """Of what is opened for the test: it stands still unless it is told to go on."""
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    """The node's store, without rows."""
    store = Store(database_url, clock)
    yield store
    store.close()


@pytest.fixture
def intake(tmp_path: Path, clock: Clock, database_url: str) -> Intake:
    """An intake with a spool of its own, without studies."""
    return open_intake(tmp_path, clock=clock, database=database_url)
