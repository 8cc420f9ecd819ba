"""No silence: a study that gives no result may say so in the archive, in a report of its own."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pydicom

from . import log
from .config import OutputRules
from .encode.notes import reason_report
from .spool import Spool, sha256_of
from .store import Made, Revision

_LOG = log.get("explain")


def reason_note(
    revision: Revision, inputs: Iterable[Path], words: str, spool: Spool, rules: OutputRules
) -> Made | None:
    """A Basic Text SR in the study of the files ``inputs``, durable; None if none of them will do.

    One per revision, whatever its attempts: its UID says so. Raises OutOfSpace, or OSError, if it cannot
    be kept.
    """
    key = revision.key
    for source in inputs:
        try:
            header = pydicom.dcmread(source, stop_before_pixels=True)
            if not header.get("StudyInstanceUID"):
                continue
            note = reason_report(header, words, rules, "no result", key.case, str(key.revision))
            written = BytesIO()
            note.save_as(written, enforce_file_format=True)
        except Exception as problem:  # this study's bytes may be why there is no result
            _LOG.warning("header.unreadable", case=key.case, reason=type(problem).__name__)
            continue
        path = (
            spool.root / "out" / key.case / f"{key.revision}-{revision.attempt}" / "dicom" / "no-result.dcm"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with spool.durable(path) as f:
            f.write(written.getbuffer())
        uids = (str(note.SOPInstanceUID), str(note.SOPClassUID))
        return Made(spool.relative(path), "NOTE", "no result", *uids, sha256_of(path))
    return None
