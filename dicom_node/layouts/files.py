"""NIfTI files by name: what every layout looks for."""

from __future__ import annotations

import re
from pathlib import Path

from sr_core import Contrast

from .study import Content

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def niftis(folder: Path) -> list[Path]:
    """The NIfTI files of ``folder`` itself, by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _SUFFIX.search(p.name) and not p.name.startswith("."))


def stem(path: Path) -> str:
    """A NIfTI file's name without its suffix."""
    return _SUFFIX.sub("", path.name)


def add_anatomy(content: Content, folder: Path, but: frozenset[Path] = frozenset()) -> None:
    """T1* and FLAIR* of ``folder`` (in BIDS ``*_T1w``, ``*_FLAIR``); other images but ``but`` are ignored."""
    for path in niftis(folder):
        if path in but:
            continue
        name = stem(path).upper()
        contrast = next(
            (
                c
                for c in Contrast
                if name.startswith(c.value) or name.endswith((f"_{c.value}", f"_{c.value}W"))
            ),
            None,
        )
        item = content.item(path, "named by its file")
        if contrast is None:
            content.ignored[item.file] = "neither T1* nor FLAIR*"
        elif contrast in content.anatomy:
            content.ignored[item.file] = f"{content.anatomy[contrast].file} is already the {contrast}"
        else:
            content.anatomy[contrast] = item
