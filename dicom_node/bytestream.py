"""The bytes of an untrusted file, as they lie there or inflated: a small window passes over them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from .errors import NotDicom

WINDOW = 64 * 1024  # bytes


class CutShort(Exception):
    """The file ends before what it announced."""


class Beyond(NotDicom):
    """More than the bounds allow."""


class Window:
    """What was passed is forgotten, except between ``keep`` and ``kept``."""

    def __init__(self, pull: Callable[[], bytes], jump: Callable[[int], None] | None = None) -> None:
        """``pull`` gives the next bytes, none at the end; ``jump`` passes over some without reading."""
        self._pull = pull
        self._jump = jump
        self.bytes = b""
        self.at = 0
        self._passed = 0
        self._tape: bytearray | None = None
        self._taped_to = 0  # within ``bytes``
        self._tape_limit = 0

    @property
    def position(self) -> int:
        """How many bytes were passed."""
        return self._passed + self.at

    def has(self, count: int) -> bool:
        """Whether ``count`` more bytes lie at ``self.bytes[self.at:]`` now."""
        while len(self.bytes) - self.at < count:
            more = self._pull()
            if not more:
                return False
            self._forget()
            self.bytes = self.bytes + more
        return True

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes. Raises CutShort if there are not that many."""
        while count > (here := len(self.bytes) - self.at):
            self.at += here
            count -= here
            self._forget()
            if self._jump is not None and self._tape is None:
                self._jump(count)
                self._passed += count
                return
            if not self.has(1):
                raise CutShort
        self.at += count

    def keep(self, limit: int) -> None:
        """Keep what is passed from here on, as long as it is no more than ``limit`` bytes."""
        self._tape, self._taped_to, self._tape_limit = bytearray(), self.at, limit

    def kept(self) -> bytes | None:
        """What was passed since ``keep``; None if it was more than the limit. Nothing is kept any more."""
        self._to_tape()
        tape, self._tape = self._tape, None
        return None if tape is None else bytes(tape)

    def _forget(self) -> None:
        self._to_tape()
        self._passed += self.at
        self.bytes, self.at, self._taped_to = self.bytes[self.at :], 0, 0

    def _to_tape(self) -> None:
        if self._tape is None:
            return
        if len(self._tape) + self.at - self._taped_to > self._tape_limit:
            self._tape = None
            return
        self._tape += self.bytes[self._taped_to : self.at]
        self._taped_to = self.at


def inflated(packed: Window, most: int, free: int, ratio: int, until: float) -> Window:
    """What the raw deflate stream from here on inflates to (PS3.5 A.5), made as it is asked for.

    Not more than ``most`` bytes; beyond ``free`` bytes not more than ``ratio`` times what is packed; not
    after ``until`` (monotonic seconds): else Beyond is raised. Raises CutShort, and NotDicom if it is no
    such stream.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    given = made = 0
    rest = b""

    def pull() -> bytes:
        nonlocal given, made, rest
        while not inflater.eof:
            if not rest:
                if not packed.has(1):
                    raise CutShort
                rest = packed.bytes[packed.at :]
                packed.at = len(packed.bytes)
                given += len(rest)
            try:
                out = inflater.decompress(rest, WINDOW)
            except zlib.error as e:
                raise NotDicom("the deflated data set cannot be inflated: send it again") from e
            rest = inflater.unconsumed_tail
            made += len(out)
            if made > most or made > max(free, ratio * given):
                raise Beyond(
                    f"a deflated data set of more than {made // 1024**2} MB out of {given // 1024} KB: "
                    "not an image, or one that must be sent without deflation"
                )
            if time.monotonic() > until:
                raise Beyond("the data set takes too long to read")
            if out:
                return out
        return b""

    return Window(pull)
