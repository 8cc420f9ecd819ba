"""A process that leaves with whoever started it, by whatever death that ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_LOOK_S = 0.5


def leave_with(parent: int, leave: Callable[[], object]) -> None:
    """Call ``leave``, in a thread, once ``parent`` (a process id) is not this process's parent any more.

    The parent names itself: a child that asks who it is may be an orphan by then.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        leave()

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
