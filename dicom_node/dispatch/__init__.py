"""One try of one delivery: send what the destination has not taken yet, and read its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom

from dicom_node.config import (
    Destination,
    DicomDestination,
    DicomWebDestination,
    FolderDestination,
    NodeRules,
)
from dicom_node.spool import Spool
from dicom_node.store import Sendable

from . import dicom, dicomweb, folder
from .commitment import ask as ask_commitment
from .dicom import echo, series_of
from .dicomweb import fetch_instance
from .refusals import ObjectsRefused, Refusal

__all__ = [
    "ObjectsRefused",
    "Refusal",
    "Taken",
    "ask_commitment",
    "echo",
    "fetch_instance",
    "send",
    "send_paths",
    "series_of",
    "shown",
    "wanted",
]

Taken = Callable[[Sendable, str], None]


def send(
    destination: Destination, files: Sequence[Sendable], spool: Spool, node: NodeRules, taken: Taken
) -> None:
    """Bring ``files`` to ``destination``, calling ``taken`` with the status as each is confirmed.

    Raises TemporaryError (the clock may help) or Refused (a person must) once it cannot go on; what was
    taken before stays taken. ObjectsRefused says which objects are refused in their present form.
    """
    match destination:
        case FolderDestination():
            folder.write(destination, files, spool, taken)
        case DicomWebDestination():
            dicomweb.store(destination, wanted(destination, files), spool.root, node, taken)
        case DicomDestination():
            dicom.store(destination, wanted(destination, files), spool.root, node, taken)


def shown(
    destination: DicomDestination | DicomWebDestination,
    files: Sequence[Sendable],
    spool: Spool,
    node: NodeRules,
) -> set[str]:
    """SOP Instance UIDs that a query shows of the series of ``files``. Raises as ``send``."""
    if isinstance(destination, DicomWebDestination):
        return dicomweb.shown(destination, files, spool.root, node)
    return dicom.shown(destination, files, spool.root, node)


def wanted(destination: DicomDestination | DicomWebDestination, files: Sequence[Sendable]) -> list[Sendable]:
    """Of ``files``, those of the kinds that the destination gets; notes go to whoever they are for."""
    return [f for f in files if f.kind in destination.send or f.kind == "NOTE"]


def send_paths(destination: DicomDestination, paths: Sequence[Path], node: NodeRules, sent: Taken) -> None:
    """Send DICOM files that are not results, such as a study from disk. Raises as ``send``."""
    files = []
    for path in paths:
        meta = pydicom.filereader.read_file_meta_info(path)
        uids = (str(meta.MediaStorageSOPInstanceUID), str(meta.MediaStorageSOPClassUID))
        files.append(Sendable(str(path.resolve()), "", path.name, *uids, ""))
    dicom.store(destination, files, Path("/"), node, sent)
