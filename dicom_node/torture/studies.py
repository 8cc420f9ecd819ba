"""Small simulated studies as data sets ready for the wire: two maps with quality and a T1, a dozen files."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.simulate import Identity, datasets
from sr_core import Acquisition, AnatomicalImage, Contrast, Grid, Metabolite, MetaboliteMap, Unit

_SHAPE = (2, 8, 9)
_SPACING_MM = (6.0, 5.0, 5.0)
_ANATOMY_SHAPE = (3, 16, 18)
_ANATOMY_MM = (4.0, 2.5, 2.5)


@dataclass(frozen=True)
class Instance:
    """A data set without preamble and file meta information, Explicit VR Little Endian."""

    sop_class: str
    sop_uid: str
    study_uid: str
    data_set: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


@dataclass(frozen=True)
class Study:
    """Everything that a scanner would send of one examination."""

    uid: str
    instances: tuple[Instance, ...]


def study(seed: int, number: int) -> Study:
    """The ``number``-th study of a run: equal arguments give equal bytes.

    Each header says how many instances the study has (0020,1208), so that the node knows when it is whole.
    """
    name = f"T{seed}-{number}"
    identity = Identity(patient_id=name, patient_name=f"Torture^{name}", accession_number=name, study=name)
    made = list(datasets(_acquisition(), identity))
    for d in made:
        d.NumberOfStudyRelatedInstances = len(made)
    return Study(str(made[0].StudyInstanceUID), tuple(_instance(d) for d in made))


def stray(seed: int, number: int) -> Instance:
    """A localizer of a patient without maps: input to be broken, of which no result is due."""
    (d, *_) = datasets(_acquisition(), Identity(patient_id=f"H{seed}-{number}", study=f"H{seed}-{number}"))
    d.SeriesDescription, d.ImageType = "localizer", ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return _instance(d)


def with_other_pixels(instance: Instance) -> Instance:
    """The same SOP Instance UID and header, another image: what no sender should ever make."""
    ds = pydicom.dcmread(BytesIO(instance.data_set), force=True)
    ds.PixelData = bytes(255 - b for b in ds.PixelData)
    return replace(instance, data_set=_encoded(ds))


def data_set_of(part10: bytes) -> bytes:
    """What follows the file meta information (PS3.10 7.1), whose length is its first element."""
    (length,) = struct.unpack_from("<I", part10, 128 + 4 + 8)
    return part10[128 + 4 + 12 + length :]


def _instance(d: FileDataset) -> Instance:
    return Instance(str(d.SOPClassUID), str(d.SOPInstanceUID), str(d.StudyInstanceUID), _encoded(d))


def _encoded(d: Dataset) -> bytes:
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, d, enforce_file_format=True)
    return data_set_of(buffer.getvalue())


@cache
def _acquisition() -> Acquisition:
    coarse = _grid(_SHAPE, _SPACING_MM)
    fine = _grid(_ANATOMY_SHAPE, _ANATOMY_MM)
    metabolites = (Metabolite.TNAA, Metabolite.TCHO)
    return Acquisition(
        maps=tuple(
            MetaboliteMap(m, _values(coarse, 1.0 + n), Unit.MMOL_PER_L, coarse)
            for n, m in enumerate(metabolites)
        ),
        anatomy=(AnatomicalImage(Contrast.T1, _values(fine, 100.0), fine),),
        snr=None,
        linewidth_ppm=None,
        acquired_matrix=_SHAPE,
    )


def _grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:, 3] = (-20.0, -20.0, 10.0, 1.0)
    return Grid(shape, affine, "2.25.161803398874989484820")


def _values(grid: Grid, scale: float) -> np.ndarray:
    """No two voxels alike, so that no two objects are."""
    k, j, i = (np.arange(n) for n in grid.shape)
    values = 1.0 + 0.9 * k[:, None, None] + 0.11 * j[None, :, None] ** 1.5 + 0.013 * i[None, None, :] ** 2
    return np.asarray(scale * values, dtype=np.float32)
