"""A worker that dies at one study, as by kill -9, again and again: each life is a fork of this process.

Its folder is that of the storage, and of the torture too: a file of a boundary's name kills who passes there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from dicom_node import log, workflows
from dicom_node.config import DicomDestination, Settings, StorageRules
from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.study import State
from tests.doors import sqlite_in

workflows._RECONCILE_S = 0.1  # nobody waits here but a test

_LIVES = 20
_LIFE_S = 60.0


def live(folder: Path) -> None:
    """One life: until the study has ended."""
    store = Store(sqlite_in(folder))
    stop = threading.Event()

    def watch() -> None:
        until = time.monotonic() + _LIFE_S
        while not store.revisions_in(State.FAILED) and time.monotonic() < until:
            time.sleep(0.1)
        stop.set()

    threading.Thread(target=watch).start()
    nobody = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=1, explain_no_result=True)
    settings = Settings(storage=StorageRules(folder=folder), destination=(nobody,))
    workflows.run(workflows.Worker(settings, store, Spool(folder / "spool")), stop)


def main(folder: Path) -> None:
    """Says how often it died, and nothing else: events go to stderr."""
    log.configure()
    for deaths in range(_LIVES):
        (folder / "resolve.begun").touch()
        life = os.fork()
        if life == 0:
            live(folder)
            os._exit(0)
        _, status = os.waitpid(life, 0)
        if not os.WIFSIGNALED(status):
            sys.stdout.write(f"{deaths}\n")
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
