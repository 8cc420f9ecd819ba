"""One database, SQLite or PostgreSQL, and its transactions."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.types.string import StrDumper
from sqlalchemy import Connection, Engine, Executable, create_engine, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from dicom_node.errors import DatabaseAway, OutOfSpace
from dicom_node.study import CaseKey, Event, State, after

from . import tables as t

Clock = Callable[[], float]

# How long a writer waits for its turn, and how long PostgreSQL lets one sit idle in the middle of it.
_TURN_S = 60
_IDLE_S = 20

# PostgreSQL's advisory lock of whoever writes; any number that nothing else in this database uses.
_WRITERS = 0x6D727369


class Prepared:
    """A statement that is put into words once, and run on the driver's own cursor.

    For what is asked for every instance: SQLAlchemy's way costs several times what SQLite's does.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._words: dict[str, tuple[str, dict[str, object]]] = {}

    def run(self, tx: Connection, parameters: Mapping[str, object]) -> Any:
        """The driver's cursor; its rows are tuples."""
        words, constants = self._in(tx)
        return _run(tx, words, {**constants, **parameters})

    def _in(self, tx: Connection) -> tuple[str, dict[str, object]]:
        name = tx.dialect.name
        if name not in self._words:
            # SQLite's parameters have no names unless asked for
            dialect = sqlite.dialect(paramstyle="named") if name == "sqlite" else tx.dialect
            compiled = cast(SQLCompiler, self._statement.compile(dialect=dialect))  # type: ignore[attr-defined]
            constants = {k: v for k, v in compiled.params.items() if v is not None}
            self._words[name] = (str(compiled), constants)
        return self._words[name]


def _run(tx: Connection, words: str, parameters: Mapping[str, object]) -> Any:
    """Past SQLAlchemy, but for its kinds of errors."""
    cursor, kind = tx.connection.cursor(), tx.dialect.loaded_dbapi.Error
    try:
        cursor.execute(words, parameters)
    except kind as e:
        raise DBAPIError.instance(words, None, e, kind, hide_parameters=True, dialect=tx.dialect) from e
    return cursor


class Database:
    """Transactions over ``url``. ``clock`` gives UTC seconds since the epoch.

    One writes at a time, and a reader sees one moment: SQLite gives both, PostgreSQL is asked for both,
    so that a query that is right on one is right on the other, however many machines there are.
    """

    def __init__(self, url: str, clock: Clock = time.time) -> None:
        self.url = url
        self.clock = clock
        self.engine = _engine(url)
        self._often = threading.Lock()
        self._writer: Connection | None = None
        self._reading: dict[str, Any] = {"read_only": True}
        if self.engine.dialect.name == "postgresql":
            self._reading |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def close(self) -> None:
        """Give all connections back."""
        with self._often:
            self._let_go()
        self.engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with _in_words(), self.engine.begin() as tx:
            yield tx

    @contextmanager
    def _write_often(self) -> Iterator[Connection]:
        """As ``_write``, on a connection that is kept: to fetch one takes longer than a small transaction."""
        with self._often, _in_words():
            if self._writer is None:
                self._writer = self.engine.connect()
            try:
                with self._writer.begin():
                    yield self._writer
            except BaseException:
                self._let_go()
                raise

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _in_words(), self.engine.connect().execution_options(**self._reading) as tx:
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


@contextmanager
def _in_words() -> Iterator[None]:
    """What may pass by itself is a TemporaryError; whatever else the database says, is not."""
    try:
        yield
    except DBAPIError as e:
        if _is_full(e):
            raise OutOfSpace("the disk under the database is full") from e
        if e.connection_invalidated or _is_away(e):
            raise DatabaseAway("the database does not answer") from e
        raise


def _is_full(error: DBAPIError) -> bool:
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", "") == "53100"  # disk_full, PostgreSQL


def _is_away(error: DBAPIError) -> bool:
    """PostgreSQL: no connection, or classes 08 (connection), 53 (resources), 55 (in use), 57 (shut down)."""
    cause = error.orig
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    if not isinstance(cause, psycopg.OperationalError):
        return False
    return (cause.sqlstate or "08")[:2] in ("08", "53", "55", "57")


def _engine(url: str) -> Engine:
    # hide_parameters: an error's message reaches logs, the patient must not.
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _shared(url)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _TURN_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA busy_timeout={1000 * _TURN_S}")

    @event.listens_for(engine, "begin")
    def _one_writer(connection: Connection) -> None:
        # IMMEDIATE: a transaction that will write must not start as a reader that cannot be promoted.
        _run(connection, "BEGIN" if _reads(connection) else "BEGIN IMMEDIATE", {})

    return engine


def _shared(url: str) -> Engine:
    """PostgreSQL. A machine that vanishes in mid-write holds the others up for ``_IDLE_S`` at the most."""
    engine = create_engine(
        url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": 10}
    )

    @event.listens_for(engine, "connect")
    def _impatient(connection: Any, _: object) -> None:
        connection.adapters.register_dumper(str, _WithoutNul)
        connection.execute(f"SET lock_timeout = '{_TURN_S}s'")
        connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_S}s'")
        connection.commit()

    @event.listens_for(engine, "begin")
    def _one_writer(connection: Connection) -> None:
        if not _reads(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

    return engine


def _reads(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("read_only", False))


class _WithoutNul(StrDumper):
    """PostgreSQL's text holds no NUL; one that a header brings is kept as U+FFFD."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))
