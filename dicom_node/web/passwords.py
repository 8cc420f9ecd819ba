"""Passwords as Argon2id hashes (RFC 9106), and how often anybody may try one."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from dicom_node.errors import UnsuitableInput

SHORTEST = 12
_LONGEST = 200
_HASHER = PasswordHasher()  # RFC 9106's second recommendation: 64 MiB, 3 passes, 4 lanes
# One at a time: each takes 64 MiB.
_TURN = threading.Lock()
_NOBODY = _HASHER.hash(secrets.token_urlsafe(16))


def hashed(password: str) -> str:
    """Raises UnsuitableInput if it is too short to be one (NIST SP 800-63B: length, no other rule)."""
    if not SHORTEST <= len(password) <= _LONGEST:
        raise UnsuitableInput(f"a password has {SHORTEST} to {_LONGEST} characters")
    with _TURN:
        return _HASHER.hash(password)


def is_right(password: str, kept: str | None) -> bool:
    """Takes as long for somebody unknown (``kept`` is None) as for a wrong password."""
    if len(password) > _LONGEST:
        return False
    with _TURN:
        try:
            return _HASHER.verify(kept or _NOBODY, password) and kept is not None
        except (Argon2Error, InvalidHashError):
            return False


class Tries:
    """Failures to sign in: so many for one person from one address, for one address, for one person."""

    WITHIN_S = 900.0
    _LIMITS = (5, 20, 50)
    _MOST = 10_000  # entries kept; the oldest go first

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, name: str, address: str) -> float:
        """0 if a try may be made now, else seconds until one may."""
        with self._lock:
            return max(self._wait(key, n) for key, n in zip(_keys(name, address), self._LIMITS, strict=True))

    def _wait(self, key: tuple[str, str], limit: int) -> float:
        failed = self._failed.get(key)
        if failed is None:
            return 0.0
        while failed and failed[0] <= self._clock() - self.WITHIN_S:
            failed.popleft()
        return failed[-limit] + self.WITHIN_S - self._clock() if len(failed) >= limit else 0.0

    def failed(self, name: str, address: str) -> None:
        """One more."""
        with self._lock:
            for key, limit in zip(_keys(name, address), self._LIMITS, strict=True):
                self._failed.setdefault(key, deque(maxlen=limit)).append(self._clock())
                self._failed.move_to_end(key)
            while len(self._failed) > self._MOST:
                self._failed.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Their own failures before it are forgotten."""
        with self._lock:
            self._failed.pop(_keys(name, address)[0], None)


def _keys(name: str, address: str) -> tuple[tuple[str, str], ...]:
    return (name, address), ("", address), (name, "")
