"""Small MR instances, and an intake on a folder of its own, for the tests of everything that receives."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.intake import Incoming, Intake
from dicom_node.spool import Spool
from dicom_node.store import Received, Store, migrate

ROOT = "1.2.826.0.1.3680043.8.498.77"
STUDY = f"{ROOT}.1"
OTHER_STUDY = f"{ROOT}.2"
FRAME = f"{ROOT}.9"


class Clock:
    """UTC seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@cache
def _migrated() -> bytes:
    """An SQLite database without rows, with the schema: migrated once, copied for each test."""
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/node.sqlite")
        migrate(store)
        store.close()
        return Path(folder, "node.sqlite").read_bytes()


def sqlite_in(folder: Path) -> str:
    """The URL of the node's database in ``folder``, made with the schema if it is not there."""
    path = folder / "node.sqlite"
    if not path.exists():
        path.write_bytes(_migrated())
    return f"sqlite:///{path}"


def open_intake(
    folder: Path, low_water_mb: int = 0, clock: Clock | None = None, database: str = ""
) -> Intake:
    """An intake with its own spool and migrated store under ``folder``, or in ``database`` (a URL)."""
    store = Store(database or sqlite_in(folder), *([clock] if clock else []))
    migrate(store)
    return Intake(Spool(folder / "spool", low_water_mb), store)


def mr_slice(number: int = 1, *, size: int = 64, pixels: int = 0, **attributes: str) -> Dataset:
    """An axial 16-bit slice; ``number`` gives its UID and place, ``pixels`` the seed of its values.

    Further attributes by keyword replace the defaults.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID = MRImageStorage
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = f"{STUDY}.1"
    ds.SOPInstanceUID = f"{STUDY}.1.{number}"
    ds.FrameOfReferenceUID = FRAME
    ds.PatientID = "P1"
    ds.PatientName = "Nobody^Here"
    ds.StudyDescription = "Brain"
    ds.Modality = "MR"
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [0, 0, 5 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [5, 5]
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    values = np.random.default_rng(1000 * pixels + number).integers(0, 4000, (size, size), dtype=np.uint16)
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def as_file(ds: Dataset) -> bytes:
    """The Part 10 file of ``ds``."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def compressed(ds: Dataset, transfer_syntax: str) -> Dataset:
    """``ds`` in another transfer syntax, by pydicom's encoders."""
    other = pydicom.dcmread(BytesIO(as_file(ds)))
    other.compress(transfer_syntax, generate_instance_uid=False)
    return other


def incoming(number: int = 1, **attributes: object) -> Incoming:
    """A slice as the intake gets it from a folder."""
    return Incoming(as_file(mr_slice(number, **attributes)))  # type: ignore[arg-type]


_numbers = count(1)


def an_instance(study: str = "1.1", **changed: str) -> Received:
    """A new instance of ``study``, as the store gets it."""
    uid = f"{study}.{next(_numbers)}"
    values: dict[str, str] = {
        "sop_uid": uid,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "series_uid": f"{study}.0",
        "study_uid": study,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "frame_of_reference_uid": "",
        "accession_number": "",
        "patient_id": "P1",
        "issuer": "",
        "path": f"in/{uid}",
        "sha256": uid,
        "source": "test",
    }
    return Received(**{**values, **changed}, size=1)
