"""Where the torture takes hold of a running node: step boundaries, and the clock. Off unless it says so.

``MRSI_NODE_TORTURE`` names the torture's folder; without it every function here does nothing at all.
A file of a boundary's name in that folder kills the process that passes there next; the file ``clock``
holds the seconds by which the node's clock is off.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

VARIABLE = "MRSI_NODE_TORTURE"
CLOCK = "clock"

# In the order in which an instance and its study pass them.
INTAKE = ("intake.kept", "intake.recorded")
WORK = (
    "resolve.begun",
    "resolve.identified",
    "resolve.made",
    "resolve.synced",
    "resolve.encoded",
    "deliver.begun",
    "deliver.taken",
    "deliver.sent",
    "deliver.proven",
)

_FOLDER = os.environ.get(VARIABLE, "")


def passed(name: str) -> None:
    """The process is at boundary ``name``; if the torture waits there, it ends as by kill -9."""
    if not _FOLDER:
        return
    try:
        (Path(_FOLDER) / name).unlink()  # of two that come by, one dies
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def clock() -> float:
    """UTC seconds since the epoch; under torture, off by what it says."""
    if not _FOLDER:
        return time.time()
    try:
        return time.time() + float((Path(_FOLDER) / CLOCK).read_text())
    except (OSError, ValueError):
        return time.time()
