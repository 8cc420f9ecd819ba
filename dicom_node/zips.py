"""Zip archives of DICOM files, unpacked within bounds: count, sizes, ratio; their names never become paths.

An archive is as untrusted as any peer: what its directory declares is checked before, and what is really
read is counted while reading (a declared size may lie, and members may overlap).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from .config import IntakeRules
from .errors import UnsuitableInput

_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1
_FREE_RATIO = 64 * 1024**2  # bytes below which a ratio proves nothing
_END, _LONGEST_END = b"PK\5\6", 22 + 65535
_END64_AT = b"PK\6\7"
_ENTRY = 1024  # bytes of directory per member, generously
_PIECE = 1024**2
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError)
# What people keep beside images and nobody takes for one.
_SIDECARS = frozenset(
    {
        ".txt",
        ".md",
        ".json",
        ".toml",
        ".csv",
        ".tsv",
        ".xml",
        ".html",
        ".pdf",
        ".png",
        ".jpg",
        ".jpeg",
        ".exe",
    }
)


@dataclass(frozen=True)
class Bounds:
    """What one archive may cost: members, bytes in all and each, bytes out per byte in."""

    files: int
    total: int
    each: int
    ratio: int

    @classmethod
    def of(cls, rules: IntakeRules) -> Bounds:
        """As ``[intake]`` says."""
        return cls(
            rules.zip_files, rules.zip_mb * 1024**2, rules.max_inflated_mb * 1024**2, rules.max_inflation
        )


def may_be_instance(name: str) -> bool:
    """Whether a file of this name may be a DICOM instance: nothing hidden, no index, note or sidecar."""
    if name.startswith(".") or name in ("READY", "DICOMDIR") or name.upper().startswith("README"):
        return False
    return PurePosixPath(name).suffix.lower() not in _SIDECARS


@contextmanager
def _opened(path: Path, bounds: Bounds) -> Iterator[zipfile.ZipFile]:
    """Raises UnsuitableInput, before or while it is read, naming the archive and the bound."""
    try:
        if _directory_bytes(path) > bounds.files * _ENTRY:
            raise UnsuitableInput(f"{path.name} has more than {bounds.files} members: send it in parts")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _BROKEN as e:
        raise _broken(path, e) from e


def _broken(path: Path, problem: Exception) -> UnsuitableInput:
    return UnsuitableInput(f"{path.name} is broken, or no zip archive ({type(problem).__name__})")


def members(path: Path, bounds: Bounds) -> Iterator[IO[bytes]]:
    """Each member that may be an instance, to be read before the next is asked for.

    Raises UnsuitableInput if the archive is broken, encrypted, or larger than ``bounds`` in any way;
    what came before has been given by then.
    """
    with _opened(path, bounds) as archive:
        infos = [i for i in archive.infolist() if not i.is_dir()]
        _check(path, infos, bounds)
        budget = _Budget(path, bounds)
        for info in infos:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            hidden = any(p.startswith((".", "__MACOSX")) and p.strip(".") for p in parts[:-1])
            if parts and may_be_instance(parts[-1]) and not hidden:
                with archive.open(info) as member:
                    yield _Counted(member, budget)  # type: ignore[misc]  # all of IO that is asked for


def unpack(path: Path, into: Path, bounds: Bounds) -> int:
    """Write the members of ``members`` into ``into`` under numbers. Returns how many. Raises as it does."""
    count = 0
    for count, member in enumerate(members(path, bounds), start=1):
        with (into / f"{count:06d}").open("xb") as file:
            while piece := member.read(_PIECE):
                file.write(piece)
    return count


def _check(path: Path, infos: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    total = sum(i.file_size for i in infos)
    if len(infos) > bounds.files:
        raise UnsuitableInput(
            f"{path.name} has {len(infos)} members, more than {bounds.files}: send it in parts"
        )
    if any(i.flag_bits & _ENCRYPTED for i in infos):
        raise UnsuitableInput(f"{path.name} is encrypted: unpack it yourself")
    if any(i.compress_type not in _METHODS for i in infos):
        raise UnsuitableInput(f"{path.name} is packed by another method than deflate: pack it anew")
    if total > bounds.total or max((i.file_size for i in infos), default=0) > bounds.each:
        raise UnsuitableInput(_too_large(path, bounds))
    if total > max(_FREE_RATIO, bounds.ratio * path.stat().st_size):
        raise UnsuitableInput(f"{path.name} unpacks to more than {bounds.ratio} times its size: refused")


def _too_large(path: Path, bounds: Bounds) -> str:
    return (
        f"{path.name} unpacks to more than {bounds.total >> 20} MB, or a member to more than "
        f"{bounds.each >> 20} MB ([intake] zip_mb, max_inflated_mb)"
    )


def _directory_bytes(path: Path) -> int:
    """Size of the archive's directory, which is read as a whole (APPNOTE 4.3.14, 4.3.16)."""
    with path.open("rb") as f:
        size = f.seek(0, 2)
        f.seek(max(0, size - _LONGEST_END))
        tail = f.read()
        at = tail.rfind(_END)
        if at < 0:
            return 0  # zipfile will say what it is
        stated = int(struct.unpack("<I", tail[at + 12 : at + 16])[0])
        if stated == 0xFFFFFFFF and tail[at - 20 : at - 16] == _END64_AT:
            f.seek(struct.unpack("<Q", tail[at - 12 : at - 4])[0] + 40)
            stated = int(struct.unpack("<Q", f.read(8))[0])
        return min(stated, size)


class _Budget:
    """Bytes really read of one archive, against its bounds."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self.path, self._bounds = path, bounds
        self._most = min(bounds.total, max(_FREE_RATIO, bounds.ratio * path.stat().st_size))
        self._read = 0

    def spend(self, count: int, of_member: int) -> None:
        self._read += count
        if self._read > self._most or of_member > self._bounds.each:
            raise UnsuitableInput(_too_large(self.path, self._bounds))


class _Counted:
    """A member as a file to read from; every byte is counted."""

    def __init__(self, member: IO[bytes], budget: _Budget) -> None:
        self._member, self._budget = member, budget
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        try:
            piece = self._member.read(_PIECE if size < 0 else size)
        except _BROKEN as e:
            raise _broken(self._budget.path, e) from e
        self._read += len(piece)
        self._budget.spend(len(piece), self._read)
        return piece
