"""Input fixtures: small asymmetric studies as sites export them, and decoys and defects of every kind.

Good series come from ``dicom_node.simulate``; everything else is a good series with one thing wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    MRSpectroscopyStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.simulate import Identity, datasets
from dicom_node.simulate.export import SOMEONE
from dicom_node.uids import result_uid
from sr_core import Acquisition, AnatomicalImage, Contrast, Grid, Metabolite, MetaboliteMap, Unit

FRAME = "2.25.314159265358979323846"
SHAPE = (6, 10, 9)
SPACING_MM = (5.5, 3.6, 3.2)
METABOLITES = (
    Metabolite.TNAA,
    Metabolite.TCHO,
    Metabolite.TCR,
    Metabolite.INS,
    Metabolite.GLU,
    Metabolite.GLN,
    Metabolite.HG2,
)
Orientation = Literal["axial", "sagittal", "coronal", "oblique"]
Edit = Callable[[list[FileDataset]], list[FileDataset]]

# Row direction (along columns) and column direction (along rows), LPS.
_DIRECTIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
}


def grid(
    orientation: Orientation = "axial",
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    origin_mm: tuple[float, float, float] = (-20.0, -31.5, 12.0),
    frame_of_reference: str = FRAME,
) -> Grid:
    """A grid in one of the orientations; "oblique" is turned about all three axes."""
    if orientation == "oblique":
        a, b, c = np.deg2rad([17.0, -11.0, 8.0])
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        turn = about_z @ about_y @ about_x
        row, column = turn[:, 0], turn[:, 1]
    else:
        row, column = (np.array(v, dtype=float) for v in _DIRECTIONS[orientation])
    affine = np.eye(4)
    affine[:3, 0] = np.cross(row, column) * spacing_mm[0]
    affine[:3, 1], affine[:3, 2] = column * spacing_mm[1], row * spacing_mm[2]
    affine[:3, 3] = origin_mm
    return Grid(shape, affine, frame_of_reference)


def asymmetric(on: Grid, scale: float = 1.0) -> np.ndarray:
    """Values that differ along every axis and never repeat: a flip or a swap cannot hide."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in on.shape), indexing="ij")
    values = scale * (1.0 + 0.9 * k + 0.11 * j**1.5 + 0.013 * i**2)
    return values.astype(np.float32)


def acquisition(
    orientation: Orientation = "axial",
    metabolites: Sequence[Metabolite] = METABOLITES,
    *,
    shape: tuple[int, int, int] = SHAPE,
    anatomy: Sequence[Contrast] = tuple(Contrast),
    quality: bool = True,
    frame_of_reference: str = FRAME,
) -> Acquisition:
    """A small study: maps with CRLB, SNR and linewidth, T1 and FLAIR of 1.5 mm over the same region."""
    lr = grid(orientation, shape, frame_of_reference=frame_of_reference)
    extent = np.array(lr.shape) * lr.spacing_mm
    count = tuple(int(n) for n in np.ceil(extent / 1.5))
    fine = Grid(
        (count[0], count[1], count[2]),
        lr.affine @ np.diag([*(1.5 / np.array(lr.spacing_mm)), 1.0]),
        frame_of_reference,
    )
    return Acquisition(
        maps=tuple(
            MetaboliteMap(
                m,
                asymmetric(lr, 1.0 + 0.1 * n),
                Unit.MMOL_PER_L,
                lr,
                np.full(lr.shape, 5.0 + n, dtype=np.float32) if quality else None,
            )
            for n, m in enumerate(metabolites)
        ),
        anatomy=tuple(AnatomicalImage(c, asymmetric(fine), fine) for c in anatomy),
        snr=np.full(lr.shape, 20.0, dtype=np.float32) if quality else None,
        linewidth_ppm=np.full(lr.shape, 0.05, dtype=np.float32) if quality else None,
        acquired_matrix=lr.shape,
    )


def study(
    orientation: Orientation = "axial",
    form: Literal["classic", "enhanced"] = "classic",
    *,
    identity: Identity = SOMEONE,
    of: Acquisition | None = None,
) -> list[FileDataset]:
    """All instances of a good study."""
    return list(datasets(of or acquisition(orientation), identity, form))


@cache
def usual() -> Sequence[FileDataset]:
    """The good classic study, made once: edit copies (``with_series``, ``renamed``), never these."""
    return tuple(study())


def series(instances: Iterable[FileDataset], description: str) -> list[FileDataset]:
    """The instances of one series, by its description."""
    return [d for d in instances if d.SeriesDescription == description]


def with_series(instances: Sequence[FileDataset], description: str, edit: Edit) -> list[FileDataset]:
    """The study with one series edited: ``edit`` gets deep copies of its instances."""
    edited = edit([copy.deepcopy(d) for d in series(instances, description)])
    return [d for d in instances if d.SeriesDescription != description] + edited


def write(instances: Iterable[FileDataset], folder: Path) -> list[Path]:
    """Save instances under names that say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for d in instances:
        path = folder / f"{result_uid('file', str(d.SOPInstanceUID))[-12:]}.dcm"
        d.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def header(d: Dataset) -> Dataset:
    """The instance without its pixels."""
    h = Dataset()
    h.update({tag: d.get_item(tag) for tag in d.keys() - {Tag("PixelData")}})
    return h


def renamed(instances: Sequence[FileDataset], marker: str, **attributes: object) -> list[FileDataset]:
    """Copies as a series of their own, with new UIDs derived from ``marker`` and other attributes."""
    copies = [copy.deepcopy(d) for d in instances]
    for d in copies:
        d.SeriesInstanceUID = result_uid("series", marker, str(d.SeriesInstanceUID))
        d.SOPInstanceUID = result_uid("instance", marker, str(d.SOPInstanceUID))
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
        for keyword, value in attributes.items():
            setattr(d, keyword, value)
    return copies


# ---- defects: one series edited ------------------------------------------------------------------


def descending_numbers(instances: list[FileDataset]) -> list[FileDataset]:
    """Instance numbers that run against position."""
    for d in instances:
        d.InstanceNumber = len(instances) + 1 - int(d.InstanceNumber)
    return instances


def without(keyword: str) -> Edit:
    """The attribute missing from every instance."""

    def edit(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            if keyword in d:
                delattr(d, keyword)
        return instances

    return edit


def setting(**attributes: object) -> Edit:
    """Attributes set in every instance."""

    def edit(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            for keyword, value in attributes.items():
                setattr(d, keyword, value)
        return instances

    return edit


def missing_slice(instances: list[FileDataset]) -> list[FileDataset]:
    """The third slice never arrived."""
    return instances[:2] + instances[3:]


def doubled_slice(instances: list[FileDataset]) -> list[FileDataset]:
    """The second slice twice, under two SOP Instance UIDs."""
    twin = copy.deepcopy(instances[1])
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = f"{twin.SOPInstanceUID}.1"
    return [*instances, twin]


def shifted(mm: float) -> Edit:
    """The last slice moved by ``mm`` along z (axial series): unevenly spaced."""

    def edit(instances: list[FileDataset]) -> list[FileDataset]:
        x, y, z = instances[-1].ImagePositionPatient
        instances[-1].ImagePositionPatient = [x, y, float(z) + mm]
        return instances

    return edit


def tilted_slice(instances: list[FileDataset]) -> list[FileDataset]:
    """One slice turned by 5° about the row direction."""
    c, s = np.cos(np.deg2rad(5)), np.sin(np.deg2rad(5))
    instances[2].ImageOrientationPatient = [1, 0, 0, 0, round(c, 6), round(s, 6)]
    return instances


def smaller_slice(instances: list[FileDataset]) -> list[FileDataset]:
    """One slice with a row less."""
    d = instances[2]
    d.PixelData = d.PixelData[: -2 * d.Columns]
    d.Rows -= 1
    return instances


# ---- other forms of good maps ---------------------------------------------------------------------


def in_one_file(instances: Sequence[FileDataset]) -> FileDataset:
    """Enhanced instances of several metabolites as frames of one, described frame by frame."""
    merged = copy.deepcopy(instances[0])
    per_frame = []
    for d in instances:
        shared = d.SharedFunctionalGroupsSequence[0]
        for groups in copy.deepcopy(list(d.PerFrameFunctionalGroupsSequence)):
            for keyword in _PER_MAP:
                setattr(groups, keyword, copy.deepcopy(shared[keyword].value))
            per_frame.append(groups)
    for keyword in _PER_MAP:
        delattr(merged.SharedFunctionalGroupsSequence[0], keyword)
    merged.PerFrameFunctionalGroupsSequence = Items(per_frame)
    merged.NumberOfFrames = len(per_frame)
    merged.PixelData = b"".join(d.PixelData for d in instances)
    merged.SeriesDescription = "LCM maps"
    return merged


_PER_MAP = ("MRMetaboliteMapSequence", "RealWorldValueMappingSequence", "PixelValueTransformationSequence")


def told_by_comments(instances: Sequence[FileDataset], descriptions: Sequence[str]) -> list[FileDataset]:
    """Several classic series as one series whose Image Comments alone tell the metabolites apart."""
    copies = [copy.deepcopy(d) for text in descriptions for d in series(instances, text)]
    for number, d in enumerate(copies, start=1):
        d.ImageComments = d.SeriesDescription
        d.SeriesDescription = "LCM maps"
        d.SeriesInstanceUID = copies[0].SeriesInstanceUID
        d.SeriesNumber, d.InstanceNumber = 100, number
        del d.RealWorldValueMappingSequence
    return copies


def parametric_map(instances: Sequence[FileDataset], on: Grid, values: np.ndarray) -> FileDataset:
    """A float Parametric Map of glutamate, named by its Quantity Definition alone."""
    code = Code("33032", "PUBCHEM_CID", "L-glutamic acid")
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="map",
        lut_explanation="map",
        unit=Code("mmol/L", "UCUM", "mmol/L"),
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=code,
    )
    pm = hd.pm.ParametricMap(
        source_images=list(instances),
        pixel_array=values,
        series_instance_uid=result_uid("series", "pm"),
        series_number=150,
        sop_instance_uid=result_uid("instance", "pm"),
        instance_number=1,
        manufacturer="Simulated",
        manufacturer_model_name="Simulated host",
        software_versions=["1"],
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=5.0, window_width=10.0)],
        content_label="MAP",
    )
    pm.SeriesDescription = "quantified"
    assert pm.Rows == on.shape[1]
    return pm


# ---- decoys: series that must not be taken -------------------------------------------------------


def dixon_water(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A Philips Dixon WATER image: Enhanced MR with a Metabolite Map Description, no metabolite."""
    d = _one_enhanced(instances, "dixon", "mDIXON W")
    d.ImageType = ["DERIVED", "PRIMARY", "WATER", "NONE"]
    shared = d.SharedFunctionalGroupsSequence[0]
    shared.MRImageFrameTypeSequence[0].FrameType = d.ImageType
    shared.MRMetaboliteMapSequence = Items([item(MetaboliteMapDescription="WATER")])
    shared.RealWorldValueMappingSequence[0].LUTLabel = "Philips"
    return [d]


def rgb_map(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A metabolite map as colours, as workstations export it."""
    copies = renamed(_classic(instances, "LCM tNAA conc"), "rgb", SeriesDescription="tNAA map colour")
    for d in copies:
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PlanarConfiguration = 3, "RGB", 0
        d.BitsAllocated = d.BitsStored = 8
        d.HighBit = 7
        d.PixelData = bytes(3 * d.Rows * d.Columns) + bytes(3 * d.Rows * d.Columns % 2)
        del d.RealWorldValueMappingSequence, d.RescaleSlope, d.RescaleIntercept, d.RescaleType
    return copies


def palette_map(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A metabolite map through a palette."""
    copies = renamed(rgb_map(instances), "palette", SeriesDescription="tNAA map palette")
    for d in copies:
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "PALETTE COLOR"
        d.PixelData = bytes(d.Rows * d.Columns)
    return copies


def reference_image(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """The scanner's picture of where the spectroscopy voxels lie."""
    kind = ["DERIVED", "PRIMARY", "SPECTROSCOPY", "REFERENCEIMAGE"]
    return renamed(
        _classic(instances, "LCM tNAA conc")[:1], "reference", SeriesDescription="csi_slaser", ImageType=kind
    )


def spectrum_picture(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A screenshot of a spectrum under the MR class."""
    kind = ["DERIVED", "PRIMARY", "SPECTROSCOPY", "SPECTRUM"]
    return renamed(
        _classic(instances, "LCM tNAA conc")[:1], "spectrum", SeriesDescription="csi NAA", ImageType=kind
    )


def localizer(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """Three planes for planning."""
    kind = ["ORIGINAL", "PRIMARY", "M", "NORM"]
    return renamed(
        _classic(instances, "MPRAGE")[:3], "localizer", SeriesDescription="AAHead_Scout_MPR", ImageType=kind
    )


def our_own(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A result of this node that came back from the archive."""
    return renamed(
        _classic(instances, "LCM tNAA conc"),
        "ours",
        SeriesDescription="MRSI-SR tNAA",
        SeriesNumber=9001,
        Manufacturer="mrsi-sr-node",
        ManufacturerModelName="MRSI-SR",
    )


def ratio_map(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A ratio made elsewhere."""
    copies = renamed(_classic(instances, "LCM tCho conc"), "ratio", SeriesDescription="LCM Cho/NAA ratio")
    for d in copies:
        d.RealWorldValueMappingSequence[0].LUTLabel = "Cho/NAA"
    return copies


def secondary_capture(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A screenshot."""
    copies = renamed(rgb_map(instances)[:1], "sc", SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    for d in copies:
        d.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        d.ConversionType, d.PatientOrientation = "WSD", ""
        d.SeriesDescription = "tNAA screenshot"
    return copies


def mrs_object(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """A raw MR Spectroscopy object: 4 × 4 voxels, 64 points, complex (PS3.3 A.36.3)."""
    d = _bare(instances, "mrs", MRSpectroscopyStorage)
    t = np.arange(64) / 2000.0
    fid = np.exp(-t / 0.08 + 2j * np.pi * 120 * t).astype(np.complex64)
    when = f"{d.StudyDate}{d.StudyTime}"
    kind = ["DERIVED", "PRIMARY", "SPECTROSCOPY", "NONE"]
    description = {
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "COMPLEX",
        "AcquisitionContrast": "UNKNOWN",
    }
    dimension = result_uid("dimension organization", str(d.SOPInstanceUID))
    like = _classic(instances, "LCM tNAA conc")[0]
    set_all(
        d,
        SeriesDescription="csi_slaser_raw",
        ImageType=kind,
        **description,
        Rows=4,
        Columns=4,
        NumberOfFrames=1,
        DataPointRows=1,
        DataPointColumns=64,
        DataRepresentation="COMPLEX",
        SignalDomainColumns="TIME",
        ResonantNucleus="1H",
        ContentQualification="RESEARCH",
        ApplicableSafetyStandardAgency="IEC",
        AcquisitionDateTime=when,
        AcquisitionContextSequence=Items(),
        DimensionOrganizationSequence=item(DimensionOrganizationUID=dimension),
        DimensionIndexSequence=item(
            DimensionOrganizationUID=dimension,
            DimensionIndexPointer=Tag("InStackPositionNumber"),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
        ),
        SharedFunctionalGroupsSequence=item(
            PixelMeasuresSequence=item(PixelSpacing=["10", "10"], SliceThickness="10"),
            PlaneOrientationSequence=item(ImageOrientationPatient=like.ImageOrientationPatient),
            FrameAnatomySequence=item(
                FrameLaterality="U",
                AnatomicRegionSequence=item(
                    CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain"
                ),
            ),
            MRSpectroscopyFrameTypeSequence=item(FrameType=kind, **description),
        ),
        PerFrameFunctionalGroupsSequence=item(
            FrameContentSequence=item(StackID="1", InStackPositionNumber=1, DimensionIndexValues=[1]),
            PlanePositionSequence=item(ImagePositionPatient=like.ImagePositionPatient),
        ),
        VolumeLocalizationSequence=item(
            SlabThickness=40.0, SlabOrientation=[0.0, 0.0, 1.0], MidSlabPosition=like.ImagePositionPatient
        ),
        SpectroscopyData=np.tile(fid, 16).view(np.float32).tobytes(),
    )
    return [d]


def csa_non_image(instances: Sequence[FileDataset]) -> list[FileDataset]:
    """Siemens spectra in the private CSA Non-Image class, data in (7FE1,1010)."""
    d = _bare(instances, "csa", "1.3.12.2.1107.5.9.1")
    d.ImageType = ["ORIGINAL", "PRIMARY", "SPECTROSCOPY", "NONE"]
    private = d.private_block(0x0029, "SIEMENS CSA NON-IMAGE", create=True)
    private.add_new(0x08, "CS", "SPEC NUM 4")
    data = d.private_block(0x7FE1, "SIEMENS CSA NON-IMAGE", create=True)
    data.add_new(0x10, "OB", np.zeros(128, dtype=np.float32).tobytes())
    return [d]


# Each decoy with a word its reason must hold; the word is for people, so tests look for it.
DECOYS: Mapping[str, tuple[Callable[[Sequence[FileDataset]], list[FileDataset]], str]] = {
    "Dixon water": (dixon_water, "WATER"),
    "RGB map": (rgb_map, "colour"),
    "palette map": (palette_map, "palette"),
    "reference image": (reference_image, "reference image"),
    "spectrum picture": (spectrum_picture, "picture of a spectrum"),
    "localizer": (localizer, "localizer"),
    "our own result": (our_own, "made by this node"),
    "ratio map": (ratio_map, "ratios are made here"),
    "secondary capture": (secondary_capture, "secondary capture"),
    "raw spectra": (mrs_object, "spectra: maps expected from the quantification host"),
    "Siemens raw spectra": (csa_non_image, "spectra: maps expected from the quantification host"),
}

# Each geometric defect of a map series with words its refusal must hold.
BROKEN: Mapping[str, tuple[Edit, str]] = {
    "missing slice": (missing_slice, "gap of 11.0 mm"),
    "doubled slice": (doubled_slice, "two slices lie at the same place, 17.5 mm"),
    "uneven slices": (shifted(1.7), "unevenly spaced: 7.20 mm between 34.0 mm and 41.2 mm"),
    "tilted slice": (tilted_slice, "tilted by 5.0°"),
    "mixed grids": (smaller_slice, "grids are mixed"),
    "no position": (without("ImagePositionPatient"), "no usable ImagePositionPatient"),
}


def _classic(instances: Sequence[FileDataset], description: str) -> list[FileDataset]:
    """The series in classic form, of the same patient and study, whatever form the study has."""
    found = series(instances, description)
    if found and found[0].SOPClassUID == MRImageStorage:
        return found
    like = instances[0]
    return renamed(
        series(usual(), description),
        "classic",
        StudyInstanceUID=like.StudyInstanceUID,
        PatientID=like.PatientID,
        PatientName=like.PatientName,
    )


def _one_enhanced(instances: Sequence[FileDataset], marker: str, description: str) -> FileDataset:
    found = [d for d in instances if d.SOPClassUID == EnhancedMRImageStorage]
    if not found:
        one = acquisition(metabolites=(Metabolite.TNAA,), anatomy=(), quality=False)
        found = list(datasets(one, form="enhanced"))
    like = next(d for d in instances if d.SOPClassUID in (MRImageStorage, EnhancedMRImageStorage))
    return renamed(
        found[:1],
        marker,
        SeriesDescription=description,
        StudyInstanceUID=like.StudyInstanceUID,
        PatientID=like.PatientID,
        PatientName=like.PatientName,
    )[0]


def _bare(instances: Sequence[FileDataset], marker: str, sop_class: str) -> FileDataset:
    """Patient, study and series of the first instance, under another SOP class and without an image."""
    first = renamed(_classic(instances, "LCM tNAA conc")[:1], marker)[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, first.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    keep = (
        "SpecificCharacterSet PatientID PatientName PatientBirthDate PatientSex StudyInstanceUID StudyDate "
        "StudyTime StudyID AccessionNumber ReferringPhysicianName Modality Manufacturer "
        "ManufacturerModelName SeriesInstanceUID SeriesNumber InstanceNumber FrameOfReferenceUID "
        "SOPInstanceUID MagneticFieldStrength ContentDate ContentTime PatientPosition BodyPartExamined "
        "PositionReferenceIndicator DeviceSerialNumber SoftwareVersions SeriesDate SeriesTime"
    )
    for keyword in keep.split():
        if keyword in first:
            setattr(d, keyword, first[keyword].value)
    d.SOPClassUID = sop_class
    return d


def item(**attributes: object) -> Dataset:
    """A sequence item; Dataset values become sequences of one item."""
    return set_all(Dataset(), **attributes)


def set_all(d: Dataset, **attributes: object) -> Dataset:
    for keyword, value in attributes.items():
        setattr(d, keyword, Items([value]) if isinstance(value, Dataset) else value)
    return d
