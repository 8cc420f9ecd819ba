"""A PACS in a process of its own that can be told how to behave.

What it keeps is on disk before it answers, one line per object, and survives its being killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    MRImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node import orphan
from dicom_node.demo import free_port, wait_for_port

AE_TITLE = "TORTUREPACS"
_SLOW_S = 1.0
_CLASSES = (
    ComprehensiveSRStorage,
    MRImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)


class Mood(StrEnum):
    """How it answers a C-STORE; REFUSING says "out of resources" to everything, LYING keeps nothing."""

    HONEST = "honest"
    REFUSING = "refusing"
    SLOW = "slow"
    LYING = "lying"
    ABORTING = "aborting"


@dataclass(frozen=True)
class Held:
    """An object it keeps; ``content`` is one for two objects that show the same."""

    sop_uid: str
    study_uid: str
    series_uid: str
    content: str


class Pacs:
    """The PACS as the torture holds it: start, kill, change its mood, read what it keeps."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True)
        self.be(Mood.HONEST)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises PermanentError if it does not listen within 60 s."""
        child = "from dicom_node.torture.pacs import main; main()"
        command = [sys.executable, "-c", child, str(self._folder), str(self.port)]
        with (self._folder / "pacs.log").open("a") as said:
            self._process = subprocess.Popen(command, stderr=said)
        wait_for_port(self.port, self._process, 60)

    def kill(self) -> None:
        """kill -9, as when its machine loses power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def be(self, mood: Mood) -> None:
        """From the next object on."""
        aside = self._folder / "mood.new"
        aside.write_text(mood)
        aside.rename(self._folder / "mood")

    def held(self) -> list[Held]:
        """Each object it keeps, once."""
        return list(read(self._folder).values())


def read(folder: Path) -> dict[str, Held]:
    """The journal, by SOP Instance UID; a last line that was cut short was never acknowledged."""
    journal = folder / "kept.jsonl"
    if not journal.exists():
        return {}
    kept = {}
    for line in journal.read_text().split("\n")[:-1]:
        try:
            held = Held(**json.loads(line))
        except ValueError:
            continue
        kept[held.sop_uid] = held
    return kept


class _Scp:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = read(folder)
        self._journal = (folder / "kept.jsonl").open("ab")
        if self._journal.tell():
            self._journal.write(b"\n")  # ends a line that a kill cut short
        self._lock = threading.Lock()

    def on_store(self, event: evt.Event) -> int:
        mood = Mood((self._folder / "mood").read_text())
        if mood is Mood.REFUSING:
            return 0xA700
        if mood is Mood.ABORTING:
            event.assoc.abort()
            return 0xA700
        if mood is Mood.SLOW:
            time.sleep(_SLOW_S)
        if mood is not Mood.LYING:
            self._keep(_held(event.dataset))
        return 0x0000

    def _keep(self, held: Held) -> None:
        with self._lock:
            self._journal.write(json.dumps(asdict(held)).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._kept[held.sop_uid] = held

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        with self._lock:
            found = [h for h in self._kept.values() if h.series_uid == query.SeriesInstanceUID]
        for held in found:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.SOPInstanceUID = held.sop_uid
            yield 0xFF00, match


def _held(ds: Dataset) -> Held:
    """What it shows: series, place and pixels, not the UIDs and times that name it."""
    seen: list[Any] = [str(ds.get(k, "")) for k in ("SeriesDescription", "SeriesNumber", "InstanceNumber")]
    pixels = next((ds[k].value for k in ("PixelData", "FloatPixelData") if k in ds), b"")
    content = hashlib.sha256("|".join(seen).encode() + bytes(pixels)).hexdigest()
    return Held(str(ds.SOPInstanceUID), str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), content)


def main() -> None:
    """The PACS's own process: folder and port from the command line; it ends with its parent."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    _config.LOG_HANDLER_LEVEL = "none"
    scp, ae = _Scp(folder), AE(AE_TITLE)
    ae.maximum_associations = 20
    for sop_class in _CLASSES:
        ae.add_supported_context(sop_class)
    orphan.leave_with(os.getppid(), partial(os.kill, os.getpid(), signal.SIGKILL))  # nobody is left to tell
    ae.start_server(
        ("127.0.0.1", port),
        evt_handlers=[(evt.EVT_C_STORE, scp.on_store), (evt.EVT_C_FIND, scp.on_find)],
    )
