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
        w = t.workers
        with self._write() as tx:
            if not tx.execute(w.update().where(w.c.name == name).values(**row)).rowcount:
                tx.execute(w.insert().values(name=name, **row))

    def beat(self, name: str, incarnation: str) -> bool:
        """Still here. False if this incarnation was struck off: others have its work now."""
        w = t.workers
        with self._write() as tx:
            mine = (w.c.name == name) & (w.c.incarnation == incarnation)
            values = {"beats": w.c.beats + 1, "seen_at": self.clock()}
            return bool(tx.execute(w.update().where(mine).values(**values)).rowcount)

    def beats(self) -> dict[str, Beat]:
        """Every worker on the books, by name."""
        with self._read() as tx:
            return {r.name: Beat(r.incarnation, r.beats) for r in tx.execute(t.workers.select())}

    def strike_off(self, name: str, last: Beat) -> bool:
        """Take a worker off the books. False if it was heard of since ``last``."""
        w = t.workers
        with self._write() as tx:
            silent = (w.c.name == name) & (w.c.incarnation == last.incarnation) & (w.c.beats == last.beats)
            return bool(tx.execute(w.delete().where(silent)).rowcount)

    def sign_off(self, name: str, incarnation: str) -> None:
        """A worker has drained and ends."""
        w = t.workers
        with self._write() as tx:
            tx.execute(w.delete().where((w.c.name == name) & (w.c.incarnation == incarnation)))
