"""People who may sign in to the page, their sessions and their keys. Of secrets only hashes come here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from dicom_node.errors import UnsuitableInput

from . import tables as t
from .base import Database

# A session's last look is written down no more often than this.
_LOOKS_S = 60.0
# Sign-ins are kept so long, for whoever has not been told of them yet.
_SIGN_INS_S = 90 * 86400.0


class SignIn(StrEnum):
    """What became of somebody at the page's door, or of who may pass it."""

    LOGIN = "login"
    LOGOUT = "logout"
    REFUSED = "refused"
    LOCKED = "locked"  # refused, and made to wait by that
    CHANGED = "changed"  # somebody is known anew or no more, or has another role, password or key


@dataclass(frozen=True)
class Known:
    """A person the page knows; ``since`` in UTC seconds since the epoch."""

    name: str
    role: str
    since: float


@dataclass(frozen=True)
class Entrance:
    """Who stood at the page's door when (UTC seconds).

    ``name`` is empty of nobody who is known, ``address`` of what was done at the node itself.
    """

    at: float
    event: SignIn
    name: str
    address: str


class PeopleStore(Database):
    """Rows of people, sessions, keys and sign-ins."""

    def people(self) -> list[Known]:
        """Everybody, by name."""
        with self._read() as tx:
            rows = tx.execute(t.people.select().order_by(t.people.c.name))
            return [Known(r.name, r.role, r.since) for r in rows]

    def add_person(self, name: str, role: str, password: str) -> None:
        """``password``: its Argon2 hash. Raises UnsuitableInput if the name is taken."""
        values = {"name": name, "role": role, "password": password, "since": self.clock()}
        try:
            with self._write() as tx:
                tx.execute(t.people.insert().values(**values))
                self._note_sign_in(tx, SignIn.CHANGED, name)
        except IntegrityError:
            raise UnsuitableInput(f"{name} is known already") from None

    def remove_person(self, name: str) -> None:
        """With every session and key, at once. Raises UnsuitableInput if there is no such person."""
        with self._changing(name) as tx:
            for table in (t.sessions, t.keys, t.people):
                tx.execute(table.delete().where(table.c.name == name))

    def set_password(self, name: str, password: str, address: str = "") -> None:
        """Another Argon2 hash, set from ``address``; who is signed in by the old password is not any more."""
        with self._changing(name, address) as tx:
            tx.execute(t.people.update().where(t.people.c.name == name).values(password=password))
            tx.execute(t.sessions.delete().where(t.sessions.c.name == name))

    def set_role(self, name: str, role: str) -> None:
        """From the next request on. Raises UnsuitableInput if there is no such person."""
        with self._changing(name) as tx:
            tx.execute(t.people.update().where(t.people.c.name == name).values(role=role))

    @contextmanager
    def _changing(self, name: str, address: str = "") -> Iterator[Connection]:
        """To change what lets ``name`` in; it is noted. Raises UnsuitableInput if there is no such person."""
        with self._write() as tx:
            self._known(tx, name)
            yield tx
            self._note_sign_in(tx, SignIn.CHANGED, name, address)

    @staticmethod
    def _known(tx: Connection, name: str) -> None:
        if tx.execute(select(t.people.c.name).where(t.people.c.name == name)).first() is None:
            raise UnsuitableInput(f"nobody here is called {name} (see: mrsi-node user list)")

    def password_of(self, name: str) -> str | None:
        """Its Argon2 hash; None if there is no such person."""
        with self._read() as tx:
            return tx.execute(select(t.people.c.password).where(t.people.c.name == name)).scalar()

    def begin_session(self, name: str, sha256: str, longest_s: float, address: str) -> None:
        """``name`` has signed in from ``address``. Sessions older than ``longest_s`` are swept out."""
        now = self.clock()
        with self._write() as tx:
            tx.execute(t.sessions.delete().where(t.sessions.c.begun_at < now - longest_s))
            tx.execute(t.sessions.insert().values(sha256=sha256, name=name, begun_at=now, seen_at=now))
            self._note_sign_in(tx, SignIn.LOGIN, name, address)

    def end_session(self, sha256: str, address: str) -> None:
        """Signed out; nothing to end is fine."""
        this = t.sessions.c.sha256 == sha256
        with self._write() as tx:
            name = tx.execute(select(t.sessions.c.name).where(this)).scalar()
            if name is not None:
                tx.execute(t.sessions.delete().where(this))
                self._note_sign_in(tx, SignIn.LOGOUT, name, address)

    def refuse_sign_in(self, name: str, address: str, locked: bool) -> None:
        """A wrong password. A name of nobody is not kept: it may be a password in the wrong field."""
        with self._write() as tx:
            known = tx.execute(select(t.people.c.name).where(t.people.c.name == name)).scalar()
            self._note_sign_in(tx, SignIn.LOCKED if locked else SignIn.REFUSED, known or "", address)

    def sign_ins(self, most: int, offset: int = 0) -> list[Entrance]:
        """Who signed in or out, was refused or was changed, the newest first."""
        query = t.sign_ins.select().order_by(t.sign_ins.c.id.desc()).limit(most).offset(offset)
        with self._read() as tx:
            return [Entrance(r.at, SignIn(r.event), r.name, r.address) for r in tx.execute(query)]

    def _note_sign_in(self, tx: Connection, event: SignIn, name: str, address: str = "") -> None:
        now, s = self.clock(), t.sign_ins
        tx.execute(s.insert().values(at=now, event=event, name=name, address=address))
        # Only now, with a newer one there: SQLite would begin to count anew after the last one went.
        tx.execute(s.delete().where(s.c.at < now - _SIGN_INS_S))

    def person_of_session(
        self, sha256: str, *, longest_s: float, idle_s: float, looks: bool = True
    ) -> Known | None:
        """Who signed in less than ``longest_s`` ago and looked less than ``idle_s`` ago.

        ``looks``: whether this is a look.
        """
        now, s, p = self.clock(), t.sessions.c, t.people.c
        query = select(p.name, p.role, p.since, s.seen_at).join(t.people, p.name == s.name)
        alive = (s.sha256 == sha256) & (s.begun_at > now - longest_s) & (s.seen_at > now - idle_s)
        with self._read() as tx:
            row = tx.execute(query.where(alive)).one_or_none()
        if row is None:
            return None
        if looks and now - row.seen_at > min(_LOOKS_S, idle_s / 4):
            with self._write() as tx:
                tx.execute(t.sessions.update().where(s.sha256 == sha256).values(seen_at=now))
        return Known(row.name, row.role, row.since)

    def add_key(self, name: str, sha256: str) -> None:
        """A key to the API that acts as ``name``. Raises UnsuitableInput if there is no such person."""
        with self._changing(name) as tx:
            tx.execute(t.keys.insert().values(sha256=sha256, name=name, since=self.clock()))

    def remove_keys(self, name: str) -> int:
        """All keys of a person; how many there were."""
        with self._write() as tx:
            self._known(tx, name)
            gone = int(tx.execute(t.keys.delete().where(t.keys.c.name == name)).rowcount)
            if gone:
                self._note_sign_in(tx, SignIn.CHANGED, name)
            return gone

    def person_of_key(self, sha256: str) -> Known | None:
        """Whose key this is."""
        p, k = t.people.c, t.keys.c
        query = select(p.name, p.role, p.since).join(t.keys, k.name == p.name).where(k.sha256 == sha256)
        with self._read() as tx:
            row = tx.execute(query).one_or_none()
        return None if row is None else Known(row.name, row.role, row.since)
