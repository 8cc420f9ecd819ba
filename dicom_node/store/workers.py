"""Which workers are up: each signs on, and beats; who falls silent is struck off by another."""

from __future__ import annotations

from dataclasses import dataclass

from . import tables as t
from .base import Database


@dataclass(frozen=True)
class Beat:
    """How far a worker has counted; an equal one later means that nothing was heard of it since."""

    incarnation: str
    beats: int


class WorkerStore(Database):
    """Rows of workers."""

    def sign_on(self, name: str, incarnation: str) -> None:
        """A worker starts; whoever had this name before is gone."""
        row = {"incarnation": incarnation, "beats": 0, "seen_at": self.clock()}
        row |= {"taken_over_at": None, "taken_over_by": None}
        w = t.workers
        with self._write() as tx:
            if not tx.execute(w.update().where(w.c.name == name).values(**row)).rowcount:
                tx.execute(w.insert().values(name=name, **row))

    def beat(self, name: str, incarnation: str) -> bool:
        """Still here. False if this incarnation was struck off: others have its work now."""
        w = t.workers
        with self._write() as tx:
            mine = (w.c.name == name) & (w.c.incarnation == incarnation) & w.c.taken_over_at.is_(None)
            values = {"beats": w.c.beats + 1, "seen_at": self.clock()}
            return bool(tx.execute(w.update().where(mine).values(**values)).rowcount)

    def beats(self) -> dict[str, Beat]:
        """Every worker on the books, by name."""
        with self._read() as tx:
            on_the_books = t.workers.select().where(t.workers.c.taken_over_at.is_(None))
            return {r.name: Beat(r.incarnation, r.beats) for r in tx.execute(on_the_books)}

    def strike_off(self, name: str, last: Beat, by: str) -> bool:
        """Worker ``by`` takes another off the books. False if that was heard of since ``last``."""
        w = t.workers
        with self._write() as tx:
            silent = (w.c.incarnation == last.incarnation) & (w.c.beats == last.beats)
            this = (w.c.name == name) & silent & w.c.taken_over_at.is_(None)
            values = {"taken_over_at": self.clock(), "taken_over_by": by}
            return bool(tx.execute(w.update().where(this).values(**values)).rowcount)

    def sign_off(self, name: str, incarnation: str) -> None:
        """A worker has drained and ends."""
        w = t.workers
        with self._write() as tx:
            mine = (w.c.name == name) & (w.c.incarnation == incarnation)
            tx.execute(w.delete().where(mine & w.c.taken_over_at.is_(None)))
