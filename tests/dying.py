"""Cases that take their process along. Without the project's imports, so that processes start quickly."""

import os
import signal


def begin(threads: int, parent: int) -> None:
    """Nothing to prepare."""


def run(task) -> str:
    """By its key: dies every time, dies the first time, fails in words, ends well."""
    mark, key = task.out / task.case.key, task.case.key
    if key == "always" or (key == "once" and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "in words" if key == "fails" else ""
