"""Files that survive a power cut: temporary name, fsync, rename, fsync of the folder; named by content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import OutOfSpace

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Kept:
    """A file in the spool: ``path`` relative to it, ``sha256`` of its bytes, ``size`` in bytes."""

    path: str
    sha256: str
    size: int


class Spool:
    """One folder that all processes (and machines) of a node share.

    ``in/`` holds what was received, by content; ``out/`` what was made, by case and attempt. UIDs and
    names from outside never become paths.
    """

    def __init__(self, root: Path, low_water_mb: int = 0) -> None:
        self.root = root.resolve()
        self._low_water_bytes = low_water_mb * 1024**2
        for sub in ("in", "out", "tmp"):
            (self.root / sub).mkdir(parents=True, exist_ok=True)

    def path(self, relative: str) -> Path:
        """The absolute path of a file that the spool named."""
        return self.root / relative

    def require_space(self) -> None:
        """Raises OutOfSpace if the file system is below its low-water mark."""
        free = shutil.disk_usage(self.root).free
        if free < self._low_water_bytes:
            raise OutOfSpace(
                f"{free // 1024**2} MB are free under {self.root}, below the mark of "
                f"{self._low_water_bytes // 1024**2} MB: free space or lower storage.low_water_mb"
            )

    def keep(self, content: bytes, suffix: str = ".dcm") -> Kept:
        """Write ``content`` durably under its sha256; the same content twice is one file.

        Raises OutOfSpace if the disk is full; nothing is left behind then.
        """
        digest = hashlib.sha256(content).hexdigest()
        relative = f"in/{digest[:2]}/{digest}{suffix}"
        target = self.root / relative
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            with self.durable(target) as f:
                f.write(content)
        # The names too: a folder just made, or a file that another process just renamed, may not be durable.
        fsync_folder(target.parent)
        fsync_folder(target.parent.parent)
        return Kept(relative, digest, len(content))

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
            if e.errno in _FULL:
                raise OutOfSpace(f"the disk under {self.root} is full: {e.strerror}") from e
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def sweep_temporary(self, older_than_s: float) -> int:
        """Remove what killed processes left half-written; returns how many files."""
        before = time.time() - older_than_s
        left = [p for p in (self.root / "tmp").iterdir() if p.stat().st_mtime < before]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def result_folder(self, case: str, revision: int, attempt: int) -> Path:
        """A fresh, empty folder for one attempt's results; what a killed attempt left is removed."""
        folder = self.root / "out" / case / f"{revision}-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def relative(self, path: Path) -> str:
        """``path`` as the store names it."""
        return str(path.relative_to(self.root))


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
