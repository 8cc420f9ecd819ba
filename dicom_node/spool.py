"""Files that survive a power cut: temporary name, fsync, rename, fsync of the folder; named by content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import OutOfSpace

_LOOK_AT_SPACE = 32 * 1024**2  # bytes of one file
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Kept:
    """A file in the spool: ``path`` relative to it, ``sha256`` of its bytes, ``size`` in bytes."""

    path: str
    sha256: str
    size: int


class Arriving:
    """A file on its way into the spool: written piece by piece, hashed on the way, unseen until kept.

    Not kept, it is discarded: whoever opens one closes it (``with``), and nothing is left of it.
    """

    def __init__(self, path: Path, require_space: Callable[[], None]) -> None:
        self.path = path
        self.size = 0
        self.moved = False  # it lies under its name
        self._require_space = require_space
        self._hash = hashlib.sha256()
        # 0600: what patients' data is written with, whatever the umask
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b", buffering=0)

    def write(self, piece: bytes | bytearray | memoryview) -> int:
        """Append ``piece``. Raises OutOfSpace if the disk is full, or falls below its mark meanwhile."""
        if self.size // _LOOK_AT_SPACE != (self.size + len(piece)) // _LOOK_AT_SPACE:
            self._require_space()
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as e:
            raise _as_node_error(e, self.path.parent.parent) from e
        self._hash.update(piece)
        self.size += len(piece)
        return len(piece)

    @property
    def sha256(self) -> str:
        """sha256 of what was written so far, hex."""
        return self._hash.hexdigest()

    @property
    def file(self) -> BinaryIO:
        """To read what was written; valid until closed."""
        return self._file

    def flush_to_disk(self) -> None:
        """Returns once every byte is durable. Raises OutOfSpace if the disk is full."""
        try:
            os.fsync(self._file.fileno())
        except OSError as e:
            raise _as_node_error(e, self.path.parent.parent) from e

    def close(self) -> None:
        """Discard it, unless it was kept. Closing twice is fine."""
        if not self._file.closed:
            self._file.close()
        if not self.moved:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Spool:
    """One folder that all processes (and machines) of a node share.

    ``in/`` holds what was received, by content; ``out/`` what was made, by case and attempt;
    ``quarantine/`` what was refused. UIDs and names from outside never become paths.
    """

    def __init__(self, root: Path, low_water_mb: int = 0) -> None:
        self.root = root.resolve()
        self._low_water_bytes = low_water_mb * 1024**2
        for sub in ("in", "out", "tmp", "quarantine"):
            (self.root / sub).mkdir(parents=True, exist_ok=True)
        for shard in range(256):
            (self.root / "in" / f"{shard:02x}").mkdir(exist_ok=True)
        fsync_folder(self.root / "in")

    def path(self, relative: str) -> Path:
        """The absolute path of a file that the spool named."""
        return self.root / relative

    def free_bytes(self) -> int:
        """What the file system of the spool still has."""
        return shutil.disk_usage(self.root).free

    def require_space(self) -> None:
        """Raises OutOfSpace if the file system is below its low-water mark."""
        free = self.free_bytes()
        if free < self._low_water_bytes:
            raise OutOfSpace(
                f"{free // 1024**2} MB are free under {self.root}, below the mark of "
                f"{self._low_water_bytes // 1024**2} MB: free space or lower storage.low_water_mb"
            )

    def arriving(self) -> Arriving:
        """A new file to write what is being received to. Raises OutOfSpace below the low-water mark."""
        self.require_space()
        return self._arriving()

    def _arriving(self) -> Arriving:
        return Arriving(self.root / "tmp" / uuid.uuid4().hex, self.require_space)

    def keep_again(self, arrived: Arriving) -> Kept:
        """Make what was kept before durable once more, where retention has removed it since."""
        with self._arriving() as copy:
            arrived.file.seek(0)
            while piece := arrived.file.read(1024**2):
                copy.write(piece)
            return self.keep(copy)

    def quarantine(self, content: Arriving, cap_mb: int) -> Kept:
        """Keep ``content`` apart, and remove the oldest that lies there above ``cap_mb``.

        What was kept for use under the same name is moved.
        """
        relative = f"quarantine/{content.sha256}.dcm"
        target = self.root / relative
        source = content.path
        if not source.exists():
            source = self.root / self._name(content.sha256, ".dcm")
        try:
            content.flush_to_disk()
            with suppress(FileNotFoundError):  # the same bytes, refused twice at the same moment
                source.rename(target)
            fsync_folder(target.parent)
        except OSError as e:
            raise _as_node_error(e, self.root) from e
        self._trim_quarantine(cap_mb * 1024**2)
        return Kept(relative, content.sha256, content.size)

    def _trim_quarantine(self, cap_bytes: int) -> None:
        seen = []
        for entry in os.scandir(self.root / "quarantine"):
            with suppress(FileNotFoundError):
                stat = entry.stat()
                seen.append((stat.st_mtime, stat.st_size, entry.path))
        total = sum(size for _, size, _ in seen)
        for _, size, path in sorted(seen):
            if total <= cap_bytes:
                return
            Path(path).unlink(missing_ok=True)
            total -= size

    def keep(self, content: bytes | Arriving, suffix: str = ".dcm") -> Kept:
        """Make ``content`` durable under its sha256; the same content twice is one file.

        Raises OutOfSpace if the disk is full; nothing is left behind then.
        """
        if isinstance(content, Arriving):
            return self._keep(content, suffix)
        with self._arriving() as arriving:
            arriving.write(content)
            return self._keep(arriving, suffix)

    def _keep(self, arriving: Arriving, suffix: str) -> Kept:
        digest = arriving.sha256
        relative = self._name(digest, suffix)
        target = self.root / relative
        try:
            if not target.exists():
                arriving.flush_to_disk()
                arriving.path.rename(target)
                arriving.moved = True
            fsync_folder(target.parent)  # the name too: also of a file that another process just renamed
        except OSError as e:
            raise _as_node_error(e, self.root) from e
        return Kept(relative, digest, arriving.size)

    @staticmethod
    def _name(digest: str, suffix: str) -> str:
        return f"in/{digest[:2]}/{digest}{suffix}"

    @contextmanager
    def durable(self, target: Path) -> Iterator[BinaryIO]:
        """A file that appears under ``target`` whole and fsynced, or not at all.

        Raises OutOfSpace if the disk is full.
        """
        temporary = self.root / "tmp" / uuid.uuid4().hex
        try:
            # 0600: what patients' data is written with, whatever the umask
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            temporary.rename(target)
            fsync_folder(target.parent)
        except OSError as e:
            raise _as_node_error(e, self.root) from e
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, relative: Iterable[str]) -> None:
        """Remove files that the spool named; one that is gone already is fine."""
        for path in relative:
            self.path(path).unlink(missing_ok=True)

    def kept_before(self, older_than_s: float) -> list[str]:
        """What was received and lies here for longer, as the store names it."""
        before = time.time() - older_than_s
        found = []
        for path in (self.root / "in").glob("*/*.dcm"):
            with suppress(FileNotFoundError):  # refused, and moved to quarantine meanwhile
                if path.stat().st_mtime < before:
                    found.append(self.relative(path))
        return found

    def sweep_temporary(self, older_than_s: float) -> int:
        """Remove what killed processes left half-written; returns how many files."""
        before = time.time() - older_than_s
        removed = 0
        for path in (self.root / "tmp").iterdir():
            with suppress(FileNotFoundError):  # kept under its name meanwhile
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def result_folder(self, case: str, revision: int, attempt: int, worker: str = "") -> Path:
        """A fresh, empty folder for one attempt's results; what a killed attempt left is removed.

        Each named worker has its own: one that was only slow leaves alone what another made instead.
        """
        name = f"{revision}-{attempt}"
        folder = self.root / "out" / case / (f"{name}.{worker}" if worker else name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def relative(self, path: Path) -> str:
        """``path`` as the store names it."""
        return str(path.relative_to(self.root))


def _as_node_error(error: OSError, root: Path) -> OSError | OutOfSpace:
    if error.errno in _FULL:
        return OutOfSpace(f"the disk under {root} is full: {error.strerror}")
    return error


def fsync_folder(folder: Path) -> None:
    """Make a rename or unlink in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(folder: Path) -> None:
    """Make every file under ``folder``, and the folders themselves, durable."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            fsync_folder(path)
        else:
            with path.open("rb") as f:
                os.fsync(f.fileno())
    fsync_folder(folder)
    fsync_folder(folder.parent)


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
