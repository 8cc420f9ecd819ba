"""The cases in a folder of many: whatever ``process`` would take, found by looking down from the top."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dicom_node import bids, layouts
from dicom_node.config import Settings

_DEEP = 8
_SUBJECT = re.compile(r"(?:^|/)sub-([A-Za-z0-9]+)(?=/|$)")
_SESSION = re.compile(r"(?:^|/)ses-([A-Za-z0-9]+)(?=/|$)")
_LOOK_AT = 200  # files of a folder until one is DICOM


@dataclass(frozen=True)
class CaseRef:
    """One case of a cohort: where it lies, what it is called, and the name of its folder of results.

    ``labelled``: subject and session are BIDS labels in its path, and not its folder's name.
    """

    path: Path
    subject: str
    session: str
    key: str
    labelled: bool

    @property
    def bids_session(self) -> bids.Session | None:
        """Under which labels its results go into a data set; None: those of their own header."""
        return bids.Session(self.subject, self.session) if self.labelled else None


def find(root: Path, but: Path) -> list[CaseRef]:
    """Every case in and under ``root``, by path; not in ``but``, where results go.

    A folder in a known layout is a case. What else holds DICOM files, a folder or zip directly under
    ``root``, is one case each; ``root`` itself if DICOM files lie in it.
    """
    paths = _paths(root, but.resolve())
    return [_ref(root, path) for path in paths]


def _paths(root: Path, but: Path) -> list[Path]:
    if _is_case(root):
        return [root]
    if any(_is_dicom(p) for p in islice(_files(root), _LOOK_AT)):
        return [root]
    found: list[Path] = []
    for child in sorted(root.iterdir()):
        if child.name.startswith(".") or child.resolve() == but:
            continue
        if child.is_file():
            found += [child] if _is_zip(child) else []
        elif inner := list(_laid_out(child, but, _DEEP)):
            found += inner
        elif any(_is_zip(p) for p in _files(child)) or any(
            _is_dicom(p) for p in islice(_below(child), _LOOK_AT)
        ):
            found.append(child)
    return found


def _laid_out(folder: Path, but: Path, deep: int) -> Iterator[Path]:
    if not folder.is_dir() or folder.name.startswith(".") or folder.resolve() == but:
        return
    if _is_case(folder):
        yield folder
    elif deep:
        for child in sorted(folder.iterdir()):
            yield from _laid_out(child, but, deep - 1)


def _is_case(folder: Path) -> bool:
    layout = layouts.recognise(folder)
    if layout is None:
        return False
    # A MRSIPrep session is seen from far above it: its own folder is the case, where its anatomy is found.
    return layout.name != layouts.mrsiprep.NAME or _is_session(folder)


def _is_session(folder: Path) -> bool:
    if folder.name.startswith("ses-"):
        return True
    return folder.name.startswith("sub-") and not any(folder.glob("ses-*"))


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith("."))


def _below(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _ref(root: Path, path: Path) -> CaseRef:
    relative = path.relative_to(root).as_posix() if path != root else path.name
    subject, session = _SUBJECT.search(relative), _SESSION.search(relative)
    named = layouts.mrsiprep.session_of(path) if path.is_dir() and not subject else None
    if named is not None:
        labels = named
    else:
        name = re.sub(r"\.zip$", "", relative, flags=re.IGNORECASE)
        labels = (subject[1] if subject else name, session[1] if session else "")
    kept = re.sub(r"[^A-Za-z0-9]+", "-", "_".join(filter(None, labels))).strip("-")[:48]
    key = f"{kept}-{hashlib.sha256(relative.encode()).hexdigest()[:8]}"
    return CaseRef(path, *labels, key, bool(subject or named))


def fingerprint(case: CaseRef, settings: Settings, layout: str, version: str) -> str:
    """What a case's results depend on: its files by name, size and time, the settings, this version."""
    digest = hashlib.sha256()
    paths = [case.path] if case.path.is_file() else sorted(p for p in case.path.rglob("*") if p.is_file())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.relative_to(case.path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    rules: dict[str, Any] = settings.model_dump(mode="json", include={"resolve", "output", "identify"})
    digest.update(json.dumps([rules, layout, version], sort_keys=True).encode())
    return digest.hexdigest()
