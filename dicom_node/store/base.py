"""One database, SQLite or PostgreSQL, and its transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError

from dicom_node.errors import OutOfSpace
from dicom_node.study import CaseKey, Event, State, after

from . import tables as t

Clock = Callable[[], float]


class Database:
    """Transactions over ``url``. ``clock`` gives UTC seconds since the epoch."""

    def __init__(self, url: str, clock: Clock = time.time) -> None:
        self.url = url
        self.clock = clock
        self.engine = _engine(url)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        try:
            with self.engine.begin() as tx:
                yield tx
        except OperationalError as e:
            if _is_full(e):
                raise OutOfSpace("the disk under the database is full") from e
            raise

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(read_only=True) as tx:
            yield tx

    def _advance(self, tx: Connection, key: CaseKey, event: Event, reason: str, **also: Any) -> State:
        """Move a revision along TRANSITIONS and write the event, both in ``tx``."""
        where = (t.revisions.c.case_id == key.case) & (t.revisions.c.revision == key.revision)
        row = tx.execute(t.revisions.select().where(where).with_for_update()).one()
        before = State(row.state)
        now_state = after(before, event)
        now = self.clock()
        tx.execute(
            t.revisions.update().where(where).values(state=now_state, reason=reason, since=now, **also)
        )
        self._note(tx, key, str(event), before, now_state, reason)
        return now_state

    def _note(
        self,
        tx: Connection,
        key: CaseKey,
        event: str,
        before: str,
        now_state: str,
        reason: str,
        delivery_id: str | None = None,
    ) -> None:
        tx.execute(
            t.events.insert().values(
                at=self.clock(),
                case_id=key.case,
                revision=key.revision,
                delivery_id=delivery_id,
                event=event,
                from_state=str(before),
                to_state=str(now_state),
                reason=reason,
            )
        )


def _is_full(error: OperationalError) -> bool:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", "") == "53100"  # disk_full, PostgreSQL


def _engine(url: str) -> Engine:
    # hide_parameters: an error's message reaches logs, the patient must not.
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 60}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=60000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _one_writer(connection: Connection) -> None:
        # IMMEDIATE: a transaction that will write must not start as a reader that cannot be promoted.
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
