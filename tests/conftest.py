"""Fixtures for every kind of test: a real PostgreSQL, and each of the two databases in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.doors import sqlite_in
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
