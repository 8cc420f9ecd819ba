"""Where the images of a study lie: a folder per case, or a list of cases in TOML.

A folder holds ``reference`` (the ground truth), optionally ``lr`` (the low-resolution map) and ``lesion``
(a mask, NIfTI), and one file per method, named after it: ``bicubic.nii.gz``, ``unet+fnlm.nii.gz``. Files are
PNG or NIfTI (``.nii``, ``.nii.gz``). In TOML, paths are relative to the list::

    [[case]]
    name = "patient 1"
    plane = 70            # NIfTI only: axial plane of the reference, 0 the lowest
    reference = "p1/truth.nii.gz"
    lr = "p1/measured.nii.gz"
    methods = { bicubic = "p1/bicubic.nii.gz", "unet+fnlm" = "p1/unet_fnlm.nii.gz" }

    [[case]]
    name = "volunteer 1"
    healthy = true        # no tumor: the two criteria about it are not asked
    ...
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .study import ReadingError

_SUFFIXES = (".nii.gz", ".nii", ".png")
_ROLES = ("reference", "lr", "lesion")


@dataclass(frozen=True)
class Case:
    """One subject's image, by every method. ``plane``: axial plane of NIfTI volumes, None to choose it."""

    name: str
    healthy: bool
    reference: Path
    methods: Mapping[str, Path]
    lr: Path | None = None
    lesion: Path | None = None
    plane: int | None = None

    def files(self) -> dict[str, Path]:
        """Every file, by role or, for methods, as ``method NAME``."""
        roles = {"reference": self.reference, "lr": self.lr, "lesion": self.lesion}
        return {k: p for k, p in roles.items() if p} | {f"method {m}": p for m, p in self.methods.items()}


def read_cases(with_tumor: Sequence[Path], healthy: Sequence[Path]) -> tuple[Case, ...]:
    """Cases of folders and TOML lists, sorted by name: a study does not hang on the order of arguments.

    A list in ``healthy`` makes all its cases healthy. Raises ReadingError for a file or key that is not
    understood, a missing file, two cases of one name, or a case that lacks a method others have.
    """
    found = [c for p in with_tumor for c in _read(p, healthy=False)]
    found += [c for p in healthy for c in _read(p, healthy=True)]
    cases = tuple(sorted(found, key=lambda c: c.name))
    names = [c.name for c in cases]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ReadingError(f"two cases of one name: {', '.join(twice)}")
    every = {m for c in cases for m in c.methods}
    for c in cases:
        if lacks := sorted(every - set(c.methods)):
            raise ReadingError(
                f"case {c.name} lacks {', '.join(lacks)}: readers compare methods on equal cases"
            )
        for path in c.files().values():
            if not path.is_file():
                raise ReadingError(f"case {c.name}: there is no file {path}")
    return cases


def _read(path: Path, healthy: bool) -> list[Case]:
    if path.is_dir():
        return [_of_folder(path, healthy)]
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise ReadingError(f"{path} is neither a folder nor a list of cases in TOML: {e}") from e
    if set(table) != {"case"}:
        raise ReadingError(f"{path} holds tables [[case]] and nothing else")
    return [_of_table(t, path, healthy) for t in table["case"]]


def _of_folder(folder: Path, healthy: bool) -> Case:
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None:
            raise ReadingError(f"{path} is neither PNG nor NIfTI: take it out of the case's folder")
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise ReadingError(f"{folder} holds {stem} twice")
        found[stem] = path
    if "reference" not in found:
        raise ReadingError(f"{folder} lacks the ground truth: reference.png or reference.nii.gz")
    methods = {k: p for k, p in found.items() if k not in _ROLES}
    return Case(
        folder.resolve().name, healthy, found["reference"], methods, found.get("lr"), found.get("lesion")
    )


def _of_table(table: Mapping[str, Any], source: Path, healthy: bool) -> Case:
    known = {"name", "healthy", "plane", "methods", *_ROLES}
    if unknown := sorted(set(table) - known):
        raise ReadingError(
            f"{source}: a case has no key {', '.join(unknown)}; there is {', '.join(sorted(known))}"
        )
    folder = source.parent
    try:
        roles = {r: folder / table[r] for r in _ROLES if r in table}
        return Case(
            name=str(table["name"]),
            healthy=healthy or bool(table.get("healthy", False)),
            methods={str(m): folder / p for m, p in table["methods"].items()},
            plane=None if "plane" not in table else int(table["plane"]),
            **roles,
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ReadingError(f"{source}: a case needs name, reference and methods as in its manual: {e}") from e
