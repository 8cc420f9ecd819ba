"""A folder as a destination: whole files, durable; by case, without a patient, or as a BIDS data set."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dicom_node import bids
from dicom_node.config import FolderDestination
from dicom_node.errors import TemporaryError
from dicom_node.spool import Spool, fsync_folder
from dicom_node.store import Sendable


def write(
    destination: FolderDestination,
    files: Sequence[Sendable],
    spool: Spool,
    taken: Callable[[Sendable, str], None],
) -> None:
    """Copy ``files`` durably. Raises TemporaryError if the folder cannot be written."""
    put = _in_a_data_set if destination.layout == "bids" else _by_case
    for f in files:
        try:
            put(destination.folder, Path(f.path), spool)
        except OSError as e:
            where = destination.folder  # what lies below may be named by a patient
            raise TemporaryError(f"{destination.name}: cannot write {where}: {e.strerror}") from e
        taken(f, "written")


def _by_case(folder: Path, file: Path, spool: Spool) -> None:
    # out/<case>/<revision>-<attempt>[.<worker>]/<rest>: the case and its attempt name the folder, no patient
    # does, and whichever worker made it.
    case, made_in, *rest = file.parts[1:]
    attempt, *_ = made_in.split(".")
    _copy(spool.path(str(file)), folder.joinpath(f"{case}-{attempt}", *rest))


def _in_a_data_set(dataset: Path, file: Path, spool: Spool) -> None:
    results, rest = Path(*file.parts[:3]), Path(*file.parts[3:])
    bids.begin(dataset)
    session = _session(spool.path(str(results)))
    target = dataset / bids.target(session, rest)
    if rest.parts[0] == "nifti":
        said = bids.sidecar(session, rest, _report(spool.path(str(results))))
        _durable(bids.sidecar_path(target), lambda part: part.write_text(json.dumps(said, indent=1) + "\n"))
    _copy(spool.path(str(file)), target)


@lru_cache(64)
def _session(results: Path) -> bids.Session:
    return bids.session_in(results)


def _report(results: Path) -> dict[str, Any]:
    return dict(json.loads((results / "report.json").read_text()))


def _copy(source: Path, target: Path) -> None:
    _durable(target, lambda part: shutil.copyfile(source, part))


def _durable(target: Path, write_to: Callable[[Path], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    write_to(part)
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(target)
    fsync_folder(target.parent)
