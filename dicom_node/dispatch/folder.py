"""A folder as a destination: whole files, durable, under a name without a patient."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

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
    for f in files:
        # out/<case>/<revision>-<attempt>/<rest>: the case and its attempt name the folder, no patient does.
        case, attempt, *rest = Path(f.path).parts[1:]
        target = destination.folder.joinpath(f"{case}-{attempt}", *rest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copyfile(spool.path(f.path), part)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(target)
            fsync_folder(target.parent)
        except OSError as e:
            raise TemporaryError(f"{destination.name}: cannot write {target.parent}: {e.strerror}") from e
        taken(f, "written")
