"""Watch folder: a whole case dropped into it is taken, waited for, and handed back with its report.

``<folder>/<CASE>/`` is dropped by a person or a program; ``processing/``, ``done/`` and ``failed/`` beside
it are ours. The case folder's name shows in the log and, for a NIfTI case, is its Patient ID: name folders
by study code, not by patient.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from . import log
from .config import WatchRules
from .errors import BadConfiguration, NodeError, PermanentError, UnsuitableInput
from .intake import Intake
from .store import Store
from .study import FINAL, CaseKey, State
from .zips import may_be_instance

_LOG = log.get("watch")

READY = "READY"
_OURS = ("processing", "done", "failed")
_TAKING = ".taking-"  # a folder that a lone archive is put into, before it is taken as one

_STAMP = re.compile(r"-\d{8}T\d{12}Z$")

Seen = frozenset[tuple[str, int, int]]


class Watcher:
    """Takes complete case folders in, and moves them to ``done/`` or ``failed/`` when their revisions end.

    Raises BadConfiguration if no folder is configured or it cannot be written to.
    """

    def __init__(self, rules: WatchRules, intake: Intake, store: Store) -> None:
        if rules.folder is None:
            raise BadConfiguration("watch.folder is not set: nothing to watch")
        self._root = rules.folder.resolve()
        self._scan_s = rules.scan_s
        self._intake = intake
        self._store = store
        self._seen: dict[str, tuple[Seen, float]] = {}  # case name -> files, monotonic time of that sight
        self._told: dict[str, str] = {}  # name -> why it is left alone or waits, as last logged
        try:
            for sub in _OURS:
                (self._root / sub).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise BadConfiguration(f"watch.folder {self._root} cannot be written to: {e.strerror}") from e

    def run(self, stop: threading.Event) -> None:
        """Scan every ``scan_s`` until ``stop`` is set.

        Where the file system tells of a new folder, that brings the next scan forward; it is never relied on.
        """
        wake = threading.Event()
        observer = Observer()
        try:
            observer.schedule(_Waker(wake), str(self._root))
            observer.start()
        except OSError as e:  # out of inotify watches: polling is enough
            _LOG.warning("watch.polls_only", reason=e.strerror)
        _LOG.info("watch.started", folder=str(self._root))
        try:
            while not stop.is_set():
                with self._alone(self._root):  # a share that is gone for a while comes back
                    self.scan()
                self._pause(wake, stop)
        finally:
            if observer.is_alive():
                observer.stop()
                observer.join()

    def _pause(self, wake: threading.Event, stop: threading.Event) -> None:
        until = time.monotonic() + self._scan_s
        while not stop.wait(0.05) and not wake.is_set() and time.monotonic() < until:
            pass
        wake.clear()

    def scan(self) -> None:
        """One pass: take what is complete, enter what was taken, hand back what has ended.

        A folder that cannot be dealt with now is tried again by the next pass.
        """
        self._take_complete()
        known = self._store.open_folders()
        for folder in sorted((self._root / "processing").iterdir()):
            if folder.is_dir() and str(folder) not in known:
                with self._alone(folder):
                    self._enter(folder)
        for path, keys in self._store.open_folders().items():
            with self._alone(Path(path)):
                self._hand_back(Path(path), keys)

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """One folder's step; whatever stops it is logged once and stops no other folder."""
        try:
            yield
        except (NodeError, OSError) as problem:
            self._tell_once(folder.name, str(problem))
        except Exception as bug:  # its message may quote a data set: only its place
            self._tell_once(folder.name, "\n".join(log.place_of(bug).values()))
        else:
            self._told.pop(folder.name, None)

    # Taking

    def _take_complete(self) -> None:
        present = set()
        for left in sorted(self._root.glob(f"{_TAKING}*")):  # killed between the two steps of a lone archive
            self._take(left)
        for entry in sorted(self._root.iterdir()):
            if entry.name.startswith(".") or entry.name in _OURS:
                continue
            present.add(entry.name)
            if not entry.is_symlink() and entry.is_file() and entry.suffix.lower() == ".zip":
                if self._is_complete(entry):
                    with self._alone(entry):
                        self._take_archive(entry)
            elif entry.is_symlink() or not entry.is_dir():
                self._tell_once(
                    entry.name, "not a folder: put the files of a case into a folder of their own"
                )
            elif self._is_complete(entry):
                with self._alone(entry):
                    self._take(entry)
        for name in self._seen.keys() - present:
            del self._seen[name]

    def _is_complete(self, folder: Path) -> bool:
        """Whether a READY file lies in it, or nothing about its files changed for ``scan_s``."""
        if (folder / READY).is_file():
            return True
        now = time.monotonic()
        files = _sight(folder)
        before, since = self._seen.get(folder.name, (None, now))
        if files != before:
            self._seen[folder.name] = (files, now)
            return False
        return bool(files) and now - since >= self._scan_s

    def _take_archive(self, archive: Path) -> None:
        """A zip archive on its own is a case: taken in a folder of its name."""
        folder = self._root / f"{_TAKING}{archive.stem}"
        folder.mkdir(exist_ok=True)
        archive.rename(folder / archive.name)
        self._take(folder)

    def _take(self, folder: Path) -> None:
        target = self._root / "processing" / self._free_name(folder.name.removeprefix(_TAKING))
        folder.rename(target)
        _LOG.info("folder.taken", folder=target.name)

    def _free_name(self, name: str) -> str:
        """``name``, or with the time behind it: never one that lies in any of our folders already."""
        if not any((self._root / sub / name).exists() for sub in _OURS):
            return name
        return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"

    def _tell_once(self, name: str, reason: str) -> None:
        if self._told.get(name) != reason:
            self._told[name] = reason
            _LOG.warning("folder.waits", folder=name, reason=reason)

    # Entering

    def _enter(self, folder: Path) -> None:
        from .layouts import recognise  # brings sr_core with it: most nodes never see a folder

        if (layout := recognise(folder)) is not None:
            self._store.open_nifti_case(str(folder), patient_id=_STAMP.sub("", folder.name))
            _LOG.info("folder.entered", folder=folder.name, kind=layout.name)
            return
        problems: list[str] = []
        if studies := self._accept_files(folder, problems):
            self._store.complete_dicom_folder(str(folder), studies)
            _LOG.info("folder.entered", folder=folder.name, kind="dicom", studies=len(studies))
        else:
            self._refuse(folder, problems)

    def _accept_files(self, folder: Path, problems: list[str]) -> set[str]:
        """Every DICOM instance, also those in zip archives, into the intake. Returns the studies of those
        that were accepted; why an archive was refused goes into ``problems`` and the quarantine's list.

        Raises TemporaryError if one cannot be taken now; what was accepted before stays so.
        """
        studies: set[str] = set()
        source = f"folder:{folder.name}"
        for path in _instances(folder):
            if path.suffix.lower() == ".zip":
                try:
                    studies.update(r.study_uid for r in self._intake.accept_zip(path, source))
                except UnsuitableInput as problem:
                    problems.append(str(problem))
                    self._quarantined(source, str(problem))
                continue
            try:
                receipt = self._intake.accept_file(path, source)
            except PermanentError:
                continue  # in quarantine, with its reason
            studies.add(receipt.study_uid)
        return studies

    def _refuse(self, folder: Path, problems: Sequence[str]) -> None:
        from .layouts import KNOWN

        reason = (
            f"folder {folder.name} holds no DICOM instance that can be taken (see the quarantine) "
            f"and is not {KNOWN}"
        )
        reason = "; ".join([*problems, reason])
        self._quarantined(f"folder:{folder.name}", reason)
        _write_report(folder, [{"state": State.FAILED, "reason": reason, "series": []}])
        folder.rename(self._root / "failed" / folder.name)
        _LOG.warning("folder.failed", folder=folder.name, reason=reason)

    def _quarantined(self, source: str, reason: str) -> None:
        """For the quarantine's list: nothing of the folder itself is kept there."""
        self._store.quarantine(sop_uid="", study_uid="", source=source, path="", sha256="", reason=reason)

    # Handing back

    def _hand_back(self, folder: Path, keys: Sequence[CaseKey]) -> None:
        states = {self._store.revision(key).state for key in keys}
        if not states <= FINAL:
            return
        name = "done" if states == {State.DONE} else "failed"
        target = self._root / name / folder.name
        if folder.is_dir():
            _write_report(folder, [self._report(key) for key in keys])
            if target != folder:
                folder.rename(target)
            _LOG.info(f"folder.{name}", folder=folder.name)
        elif not target.is_dir():  # moved before a crash, or else by a person
            _LOG.warning("folder.missing", folder=folder.name)
        self._store.finish_folder(str(folder), str(target))

    def _report(self, key: CaseKey) -> dict[str, object]:
        """What the worker reported, if it came that far, under the state that the revision ended in."""
        revision = self._store.revision(key)
        series = [f.as_row() for f in self._store.findings(key)]
        made: dict[str, object] = {"series": series}
        report = self._store.report_of(key)
        if report is not None and self._intake.spool.path(report).is_file():
            made = json.loads(self._intake.spool.path(report).read_text())
        return {**made, "state": revision.state, "reason": revision.reason}


class _Waker(FileSystemEventHandler):
    """Brings a scan forward when something appears in the watch folder itself."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_created(self, event: FileSystemEvent) -> None:
        self._wake.set()

    def on_moved(self, event: FileSystemEvent) -> None:
        self._wake.set()


def _sight(folder: Path) -> Seen:
    """(relative path, size in bytes, mtime in ns) of every file, or of the one file that it is."""
    found = set()
    if folder.is_file():
        stat = folder.lstat()
        return frozenset({(folder.name, stat.st_size, stat.st_mtime_ns)})
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            try:
                stat = path.lstat()
            except FileNotFoundError:  # renamed while we looked: the next sight will differ
                continue
            found.add((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return frozenset(found)


def _instances(folder: Path) -> Iterator[Path]:
    """Files that may be DICOM instances: no links, nothing hidden, no index, note or sidecar."""
    for directory, subs, names in os.walk(folder):
        subs[:] = sorted(s for s in subs if not s.startswith("."))
        for name in sorted(names):
            path = Path(directory, name)
            if may_be_instance(name) and not path.is_symlink():
                yield path


def _write_report(folder: Path, reports: Sequence[dict[str, object]]) -> None:
    """report.json, of one case; ``{"cases": [...]}`` if more than one patient lay in the folder."""
    content = reports[0] if len(reports) == 1 else {"cases": list(reports)}
    temporary = folder / ".report.json"
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(folder / "report.json")
