"""A modality that keeps what was not acknowledged and sends it again, as a scanner would."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Sequence

from . import wire
from .account import Account
from .studies import Instance, Study, study

_ANSWER_S = 60.0
_SYNTAX = "1.2.840.10008.1.2.1"


def offer(port: int, instances: Sequence[Instance], account: Account) -> list[Instance]:
    """Send ``instances`` over one association; returns those that were not acknowledged."""
    left = list(instances)
    classes = sorted({i.sop_class for i in instances})
    request = wire.associate([(c, _SYNTAX) for c in classes], calling="MODALITY")
    try:
        with wire.established(port, request) as peer:
            peer.settimeout(_ANSWER_S)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number, instance in enumerate(instances, 1):
                context = 2 * classes.index(instance.sop_class) + 1
                try:
                    peer.sendall(
                        wire.store(
                            instance.data_set,
                            instance.sop_class,
                            instance.sop_uid,
                            context=context,
                            message_id=number,
                        )
                    )
                    status = wire.status_of(wire.read_pdu(peer)[1])
                except (OSError, ValueError):
                    account.cut()
                    return left
                if account.answered(instance, status):
                    left.remove(instance)
            peer.sendall(wire.pdu(0x05, bytes(4)))
            wire.read_pdu(peer)
    except wire.NotAccepted as answer:
        account.rejected(answer.for_now)
    except OSError:
        pass  # not there, or gone at the release
    return left


class Modality:
    """Sends study after study until told to stop, each until all of it was acknowledged."""

    def __init__(
        self, port: int, seed: int, account: Account, pause_s: float, open_studies: Callable[[], int]
    ) -> None:
        self._port, self._seed, self._account = port, seed, account
        self._pause_s, self._open_studies = pause_s, open_studies
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._made: list[Study] = []
        self._unfinished: set[str] = set()
        self._threads: list[threading.Thread] = []

    @property
    def sent(self) -> list[Study]:
        """Of which all was acknowledged, oldest first."""
        with self._lock:
            return [s for s in self._made if s.uid not in self._unfinished]

    @property
    def begun(self) -> int:
        with self._lock:
            return len(self._made)

    def start(self, at_once: int = 1, at_most: int | None = None, backlog: int = 8) -> None:
        """``at_once`` studies at a time, ``at_most`` in all, and no new one while ``backlog`` are open."""
        for n in range(at_once):
            thread = threading.Thread(
                target=self._run, args=(at_most, backlog), name=f"modality-{n}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self, limit_s: float) -> bool:
        """Begin no further study; whether those begun were all sent within ``limit_s``."""
        self._stop.set()
        for thread in self._threads:
            thread.join(limit_s)
        return not any(t.is_alive() for t in self._threads)

    def finish(self) -> None:
        """Wait until all ``at_most`` studies were sent."""
        for thread in self._threads:
            thread.join()

    def send_one(self) -> Study:
        """One more study now; returns once all of it was acknowledged."""
        made = self._next(None)
        assert made is not None
        self._send(made)
        return made

    def _run(self, at_most: int | None, backlog: int) -> None:
        while not self._stop.is_set():
            if at_most is None and self._open_studies() >= backlog:
                self._stop.wait(0.5)
                continue
            made = self._next(at_most)
            if made is None:
                return
            self._send(made)
            self._stop.wait(self._pause_s)

    def _next(self, at_most: int | None) -> Study | None:
        with self._lock:
            number = len(self._made) + 1
            if at_most is not None and number > at_most:
                return None
            made = study(self._seed, number)
            self._made.append(made)
            self._unfinished.add(made.uid)
            return made

    def _send(self, made: Study) -> None:
        """Until all of it is taken. After a cut everything goes again now and then: answers get lost."""
        left: Sequence[Instance] = made.instances
        dice = random.Random(made.uid)
        never = threading.Event()
        while left := offer(self._port, left, self._account):
            never.wait(dice.uniform(0.3, 1.0))
            if dice.random() < 0.3:
                left = made.instances
        self._account.whole(made)
        with self._lock:
            self._unfinished.discard(made.uid)
