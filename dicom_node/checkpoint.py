"""Who may take an association's messages: its own thread, or whoever sends over it and waits for the answer.

pynetdicom's own checkpoint is an event beside a flag: an association's thread that was let through a moment
before, and got no processor since, takes the answer from under the sender, who waits for it until the DIMSE
time-out and then aborts. And a sender whose association ended meanwhile waits for the flag for good.
"""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association

_LOOK_S = 0.1  # how late it may be noticed that the association's thread has ended


class Checkpoint:
    """In the place of pynetdicom's: ``clear`` returns once the association's thread takes no messages."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._change = threading.Condition()
        self._sending = False
        self._looking = False

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
            while self._looking and self._another_lives():
                self._change.wait(_LOOK_S)
        self._association._is_paused = True  # senders wait for it, also where nobody is left to say so

    def set(self) -> None:
        """The sender again, after its answer; or whoever ends the association."""
        with self._change:
            self._sending = False
            self._change.notify_all()

    def _another_lives(self) -> bool:
        return self._association.is_alive() and self._association is not threading.current_thread()


def _replace(event: evt.Event) -> None:
    association: Any = event.assoc
    association._reactor_checkpoint = Checkpoint(association)


# Among an association's event handlers: comes before its thread looks for the first message.
ONE_READER = (evt.EVT_CONN_OPEN, _replace)
