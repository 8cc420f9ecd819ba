"""What was offered to the node and what it acknowledged: the torture's own books, apart from the node's."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from .studies import Instance, Study


@dataclass(frozen=True)
class Acknowledged:
    """An instance that was answered with 0x0000, and the sha256 of the data set that was sent."""

    sop_uid: str
    study_uid: str
    sha256: str


@dataclass
class Account:
    """Thread-safe; what is entered is never taken back."""

    _acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    _whole: dict[str, float] = field(default_factory=dict)
    _answers: Counter[str] = field(default_factory=Counter)
    _wrongly_taken: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, instance: Instance, status: int) -> bool:
        """Enter the answer to one C-STORE; whether it was Success.

        The first acknowledged bytes of a UID count: the same instance again changes nothing.
        """
        with self._lock:
            self._answers[f"{status:04X}"] += 1
            if status != 0x0000:
                return False
            entry = Acknowledged(instance.sop_uid, instance.study_uid, instance.sha256)
            self._acknowledged.setdefault(instance.sop_uid, entry)
            return True

    def cut(self) -> None:
        """A C-STORE that was never answered: the association or the node died."""
        with self._lock:
            self._answers["none"] += 1

    def rejected(self, for_now: bool) -> None:
        """An association that was not accepted."""
        with self._lock:
            self._answers["rejected for now" if for_now else "rejected"] += 1

    def refusable(self, what: str, status: int) -> None:
        """The answer to something that must never be taken."""
        with self._lock:
            self._answers[f"{status:04X} (hostile)"] += 1
            if status == 0x0000:
                self._wrongly_taken.append(what)

    def whole(self, study: Study) -> None:
        """Every instance of it was acknowledged."""
        with self._lock:
            self._whole.setdefault(study.uid, time.monotonic())

    @property
    def acknowledged(self) -> dict[str, Acknowledged]:
        """By SOP Instance UID."""
        with self._lock:
            return dict(self._acknowledged)

    @property
    def whole_since(self) -> dict[str, float]:
        """Study Instance UID -> when (monotonic seconds) its last instance was acknowledged."""
        with self._lock:
            return dict(self._whole)

    @property
    def answers(self) -> dict[str, int]:
        """How often each status came."""
        with self._lock:
            return dict(sorted(self._answers.items()))

    @property
    def wrongly_taken(self) -> list[str]:
        with self._lock:
            return list(self._wrongly_taken)
