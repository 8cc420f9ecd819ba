"""Who may take an association's messages: its own thread, or whoever sends over it and waits for the answer.

pynetdicom's own checkpoint is an event beside a flag: an association's thread that was let through a moment
before, and got no processor since, takes the answer from under the sender, who waits for it until the DIMSE
time-out and then aborts. And a sender whose association ended meanwhile waits for the flag for good. Nor does
it know of the threads that serve N-EVENT-REPORT: a release overtakes their response.
"""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom.association import Association

_LOOK_S = 0.1  # how late it may be noticed that the association's thread has ended


class Checkpoint:
    """In the place of pynetdicom's: ``clear`` returns once no other thread takes messages or serves one."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._change = threading.Condition()
        self._sending = False
        self._looking = False
        self._serving: list[threading.Thread] = []
        self._serve = association._serve_request
        association._serve_request = self._serve_one  # type: ignore

    def wait(self) -> None:
        """The association's thread, each time before it looks for messages."""
        with self._change:
            self._looking = False
            self._change.notify_all()
            self._change.wait_for(lambda: not self._sending)
            self._looking = True

    def clear(self) -> None:
        """A sender, before its request: from now to ``set`` the messages are its own."""
        with self._change:
            self._sending = True
            while self._others():
                self._change.wait(_LOOK_S)
        self._association._is_paused = True  # senders wait for it, also where nobody is left to say so

    def set(self) -> None:
        """The sender again, after its answer; or whoever ends the association."""
        with self._change:
            self._sending = False
            self._change.notify_all()

    def _serve_one(self, message: Any, context_id: int) -> None:
        here = threading.current_thread()
        with self._change:
            self._serving.append(here)
        try:
            self._serve(message, context_id)
        finally:
            with self._change:
                self._serving.remove(here)
                self._change.notify_all()

    def _others(self) -> list[threading.Thread]:
        at_it = [*self._serving, *([self._association] if self._looking else [])]
        return [thread for thread in at_it if thread.is_alive() and thread is not threading.current_thread()]
