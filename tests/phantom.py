"""A small study with nothing symmetric in it: every voxel has its own value, every axis its own length.

Made by formula, without super-resolution, so that what is encoded is known beforehand. What a reader
flips, shifts, transposes or rescales shows in the first voxel compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.source import SourceStudy
from dicom_node.uids import result_uid
from sr_core import (
    Acquisition,
    AnatomicalImage,
    Contrast,
    Grid,
    Lesion,
    MapQuality,
    Metabolite,
    MetaboliteMap,
    Provenance,
    Quality,
    Ratio,
    RatioMap,
    Region,
    RigidMotion,
    SuperResolved,
    Unit,
)

FACTOR = (4, 4, 4)
FRAME = result_uid("phantom", "frame of reference")
OTHER_FRAME = result_uid("phantom", "another frame of reference")
STUDY = result_uid("phantom", "study")
ORIENTATIONS = ("axial", "oblique", "sagittal", "coronal")

_AXES: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
}


def _oblique() -> tuple[np.ndarray, np.ndarray]:
    a, b, c = np.radians([17.0, -11.0, 23.0])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned = rz @ ry @ rx
    return turned[:, 0], turned[:, 1]


def grid(
    orientation: str = "axial",
    shape: tuple[int, int, int] = (3, 5, 6),
    spacing_mm: tuple[float, float, float] = (16 / 3, 39.7 / 7, 5.2),
    origin_mm: tuple[float, float, float] = (-31.25, 12.125, -40.0625),
    frame_of_reference: str = FRAME,
) -> Grid:
    """A grid whose spacings do not end as decimals, off centre."""
    row, column = _oblique() if orientation == "oblique" else _AXES[orientation]
    axes = np.stack([np.cross(row, column), column, row], axis=1).astype(float)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(spacing_mm)
    affine[:3, 3] = origin_mm
    return Grid(shape, affine, frame_of_reference)


def volume(g: Grid, seed: int = 0, low: float = 0.2, high: float = 3.0) -> np.ndarray:
    """float32 values, each voxel its own, in no order along any axis."""
    n = int(np.prod(g.shape))
    order = np.random.default_rng(seed).permutation(n)
    return (low + (high - low) * order / n).astype(np.float32).reshape(g.shape)


def header(**attributes: object) -> Dataset:
    """Patient, study and equipment attributes of a source instance."""
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.PatientName = "Phantom^Åsymmetrisch"
    d.PatientID = "PH-0042"
    d.PatientBirthDate = "19700131"
    d.PatientSex = "O"
    d.StudyInstanceUID = STUDY
    d.StudyDate, d.StudyTime, d.StudyID = "20250611", "101112", "S1"
    d.AccessionNumber = "ACC1"
    d.ReferringPhysicianName = "Doe^Jane"
    d.FrameOfReferenceUID = FRAME
    d.PositionReferenceIndicator = ""
    d.PatientPosition = "HFS"
    d.Manufacturer, d.ManufacturerModelName, d.DeviceSerialNumber = "Vendor", "Scanner 7T", "12345"
    d.MagneticFieldStrength = 7.0
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    return d


def instances(name: str, g: Grid, study_uid: str = STUDY) -> tuple[Dataset, ...]:
    """Headers of a classic MR series on ``g``, slices ascending."""
    series = result_uid("phantom", "series", name, study_uid)
    iop = [format_number_as_ds(float(x)) for x in (*g.row_direction, *g.column_direction)]
    out = []
    for k in range(g.shape[0]):
        d = header(SOPClassUID=MRImageStorage, Modality="MR", SeriesInstanceUID=series)
        d.StudyInstanceUID = study_uid
        d.SOPInstanceUID = result_uid("phantom", "instance", name, study_uid, str(k))
        d.FrameOfReferenceUID = g.frame_of_reference
        d.ImageOrientationPatient = iop
        d.ImagePositionPatient = [format_number_as_ds(float(x)) for x in g.to_patient((k, 0, 0))]
        d.PixelSpacing = [format_number_as_ds(x) for x in g.spacing_mm[1:]]
        d.SliceThickness = format_number_as_ds(g.spacing_mm[0])
        d.Rows, d.Columns = g.shape[1:]
        d.RepetitionTime, d.EchoTime = 2000.0, 2.5
        out.append(d)
    return tuple(out)


def source_study(
    orientation: str = "axial",
    metabolites: Sequence[Metabolite] = (Metabolite.TNAA, Metabolite.TCHO, Metabolite.HG2),
    *,
    dicom: bool = True,
    anatomy_frame: str | None = FRAME,
    g: Grid | None = None,
    **attributes: object,
) -> SourceStudy:
    """A source on a low-resolution grid, with a sagittal T1; no headers if not ``dicom``.

    ``anatomy_frame`` None: no anatomy. ``attributes`` go into the header that results carry on.
    """
    low = g or grid(orientation)
    maps = tuple(
        MetaboliteMap(m, volume(low, seed=i), Unit.MMOL_PER_KG, low) for i, m in enumerate(metabolites)
    )
    anatomy: tuple[AnatomicalImage, ...] = ()
    if anatomy_frame is not None:
        centre = low.to_patient((np.array(low.shape) - 1) / 2)
        fine = grid("sagittal", (14, 15, 13), (2.1, 2.3, 2.2), frame_of_reference=anatomy_frame)
        corner = centre - (fine.to_patient((np.array(fine.shape) - 1) / 2) - fine.origin_mm)
        fine = grid("sagittal", fine.shape, (2.1, 2.3, 2.2), tuple(corner), anatomy_frame)
        anatomy = (AnatomicalImage(Contrast.T1, volume(fine, seed=90, high=900.0), fine),)
    return SourceStudy(
        acquisition=Acquisition(maps=maps, anatomy=anatomy),
        header=header(**attributes),
        map_headers={str(m): instances(str(m), low) for m in metabolites} if dicom else {},
        anatomy_headers={str(a.contrast): instances(str(a.contrast), a.grid) for a in anatomy}
        if dicom
        else {},
    )


def lesion(g: Grid, source: str = "HGG", slices: slice = slice(5, 9)) -> Lesion:
    """A box, off centre along every axis, with one corner cut off."""
    mask = np.zeros(g.shape, dtype=bool)
    mask[slices, 6:11, 9:17] = True
    mask[slices, 6:8, 9:11] = False
    millilitres = float(mask.sum()) * g.voxel_volume_ml
    region = Region(1, millilitres, 2.0, 3.0, 1.0, 2.9, tuple(g.to_patient((6, 8, 12))))
    regions = (region,) if mask.any() else ()
    return Lesion(source, mask, 1.5, "≥ 2 × the median of normal white matter", regions, 2.0, 3.0)


def super_resolved(
    source: SourceStudy,
    *,
    lesions: Sequence[Lesion] | None = None,
    ratios: Sequence[Ratio] = (Ratio.HGG, Ratio.TCN),
    not_measured: bool = True,
    factor: tuple[int, int, int] = FACTOR,
    **provenance: object,
) -> SuperResolved:
    """A result on the refined grid of ``source``; ``lesions`` None means one in HGG and one in TCN."""
    low = source.acquisition.grid
    g = low.refined(factor)
    brain = np.ones(g.shape, dtype=bool)
    missing = np.zeros(g.shape, dtype=bool)
    missing[0, 1:4, 2:7] = not_measured
    found = (lesion(g), lesion(g, "TCN", slice(3, 7))) if lesions is None else tuple(lesions)
    said = {
        "method_requested": "unet+fnlm+dc",
        "method_used": "bicubic",
        "factor": factor,
        "guides": ("T1",) if source.acquisition.anatomy else (),
        "model_hash": "",
        "settings_hash": "0f" * 32,
        "registration": None,
        "steps": ("quality", "inpaint", "denoise"),
        "warnings": (),
        "timings_s": {},
        "software": "mrsi-sr-node 0.1.0",
    }
    nowhere = np.zeros(low.shape, dtype=bool)
    return SuperResolved(
        grid=g,
        brain=brain,
        maps=tuple(
            MetaboliteMap(m.metabolite, volume(g, seed=10 + i, high=12.0), m.unit, g)
            for i, m in enumerate(source.acquisition.maps)
        ),
        ratios=tuple(RatioMap(r, volume(g, seed=30 + i), g) for i, r in enumerate(ratios)),
        uncertainty=(),
        lesion=found,
        anatomy=tuple(
            AnatomicalImage(a.contrast, volume(g, seed=50, high=1000.0), g)
            for a in source.acquisition.anatomy
        ),
        motions=tuple(
            RigidMotion(a.contrast, None if a.grid.frame_of_reference == g.frame_of_reference else np.eye(4))
            for a in source.acquisition.anatomy
        ),
        quality=Quality(
            brain=~nowhere,
            maps=tuple(
                MapQuality(m.metabolite, nowhere, nowhere, nowhere.astype(np.uint8))
                for m in source.acquisition.maps
            ),
            not_measured=missing,
        ),
        provenance=Provenance(**{**said, **provenance}),  # type: ignore[arg-type]
    )
