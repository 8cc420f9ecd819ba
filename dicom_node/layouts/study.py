"""What any layout tells of a case -> a study: the same values, whoever wrote the files.

Beside the files of its layout every case may hold T1* and FLAIR*, ``template_dicom/`` (any series of the
study: its identity and Frame of Reference) and ``case.toml`` (see CaseFile).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydicom import Dataset

from dicom_node import ras
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.series import Role, text_of
from dicom_node.source import SourceStudy
from dicom_node.uids import result_uid
from sr_core import (
    Acquisition,
    AnatomicalImage,
    Contrast,
    Grid,
    Mask,
    Metabolite,
    MetaboliteMap,
    Unit,
    Volume,
)

NOT_DETECTED_PERCENT = 999.0
_UNPLACED = "unplaced"  # until the case's Frame of Reference is known
Axis = Literal["i", "j", "k", "-i", "-j", "-k"]


class CaseFile(BaseModel):
    """``case.toml``: what the files cannot say. An unknown key is an error.

    ``unit``: "mmol/L", "mmol/kg" or "arbitrary". ``acquired_matrix``: measured k-space as [slices,
    rows, columns] of the maps as we index them (slices: the last stored axis), or "as_exported".
    ``psf``: the filter on k-space, "none" or "hamming". ``crlb`` and ``linewidth``: the unit of the quality
    maps, where it is not the layout's own. ``imaging_frequency_mhz`` turns a linewidth in Hz into ppm.
    ``fsl_scaling``: which folder under concs/ of fsl_mrsi. ``lcmodel_axes``: along which stored axes of the
    template LCModel's slice, row and column are counted; "-" from the far end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patient_id: str = Field("", max_length=64)
    patient_name: str = ""
    study_description: str = Field("", max_length=64)
    accession_number: str = Field("", max_length=16)
    unit: Literal["mmol/L", "mmol/kg", "arbitrary"] | None = None
    acquired_matrix: tuple[int, int, int] | Literal["as_exported"] | None = None
    psf: Literal["none", "hamming"] = "none"
    crlb: Literal["percent", "absolute"] = "percent"
    linewidth: Literal["ppm", "Hz"] | None = None
    imaging_frequency_mhz: float | None = Field(None, gt=0)
    fsl_scaling: Literal["molality", "molarity", "internal", "raw"] | None = None
    lcmodel_axes: tuple[Axis, Axis, Axis] = ("k", "j", "i")


@dataclass(frozen=True)
class Item:
    """One volume of a case: the file (or what stands for one) that people know it by, why it is taken for
    what it is, and how to read it: ``read(frame of reference, name)`` as ``ras.read``.
    """

    file: str
    reason: str
    read: Callable[[str, str], tuple[Volume, Grid]]


@dataclass
class Content:
    """The volumes of a case by what they are; ``ignored`` with the reason, ``notes`` for the report.

    ``unit``, ``linewidth`` and ``imaging_frequency_mhz`` are the layout's own; case.toml overrides them.
    """

    folder: Path
    stated: CaseFile
    maps: dict[str, Item] = field(default_factory=dict)
    crlb: dict[str, Item] = field(default_factory=dict)
    quality: dict[str, Item] = field(default_factory=dict)
    anatomy: dict[Contrast, Item] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    template: Dataset | None = None
    unit: Unit = Unit.ARBITRARY
    linewidth: Literal["ppm", "Hz"] = "ppm"
    imaging_frequency_mhz: float | None = None

    def item(self, path: Path, reason: str) -> Item:
        """A NIfTI file of the case."""
        name = str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else path.name
        return Item(name, reason, partial(ras.read, path))

    def add_map(self, metabolite: str, item: Item) -> None:
        """Raises UnsuitableInput if there is a map of ``metabolite`` already."""
        if metabolite in self.maps:
            first = Path(self.maps[metabolite].file).name
            raise UnsuitableInput(f"{first} and {Path(item.file).name} are both maps of {metabolite}")
        self.maps[metabolite] = item


_UNITS = {"mmol/L": Unit.MMOL_PER_L, "mmol/kg": Unit.MMOL_PER_KG, "arbitrary": Unit.ARBITRARY}


def begin(folder: Path) -> Content:
    """An empty case with what its case.toml and template say. Raises UnsuitableInput in words."""
    return Content(folder, case_file(folder), template=_template(folder / "template_dicom"))


def describe(content: Content) -> list[tuple[str, str, str, str]]:
    """(uid, description, role, reason) of each file, as series are described; a file's name is its uid."""
    rows: list[tuple[str, Role, str]] = []
    rows += [(x.file, Role.METABOLITE_MAP, f"{m} map, {x.reason}") for m, x in content.maps.items()]
    rows += [(x.file, Role.QUALITY_MAP, f"CRLB of {m}, {x.reason}") for m, x in content.crlb.items()]
    rows += [(x.file, Role.QUALITY_MAP, f"{kind}, {x.reason}") for kind, x in content.quality.items()]
    rows += [(x.file, Role(c.value.lower()), f"{c}, {x.reason}") for c, x in content.anatomy.items()]
    rows += [(name, Role.OTHER, reason) for name, reason in content.ignored.items()]
    return [(name, name, str(role), reason) for name, role, reason in rows]


def study(content: Content, header: Dataset | None = None) -> SourceStudy:
    """Read a case. Its identity is ``header``, else that of ``template_dicom/``, else made up from content
    and case.toml.

    Maps and anatomy share one Frame of Reference: NIfTI has one world. The made-up UIDs depend on
    the content alone, so the same case gives the same results.
    Raises UnsuitableInput (nothing to read) and UnsuitableGeometry (maps on several grids, sheared
    axes), in words.
    """
    stated = content.stated
    warnings = [*content.notes, *(f"{Path(f).name} is not used: {why}" for f, why in content.ignored.items())]
    volumes = {m: x.read(_UNPLACED, f"{m} map") for m, x in content.maps.items()}
    if not volumes:
        raise UnsuitableInput("; ".join([f"{content.folder.name} holds no usable metabolite map", *warnings]))
    first = next(iter(volumes))
    for m, (_, grid) in volumes.items():
        if not grid.same_as(volumes[first][1]):
            raise UnsuitableGeometry(
                f"{m} map lies on another grid than the {first} map: {_size(grid)}, and not "
                f"{_size(volumes[first][1])}"
            )
    header = header or content.template or _made_up(content.folder, stated, volumes)
    frame = header.FrameOfReferenceUID
    grid = _framed(volumes[first][1], frame)

    def on_the_maps_grid(item: Item | None, what: str) -> Volume | None:
        if item is None:
            return None
        values, itself = item.read(_UNPLACED, what)
        if itself.same_as(_framed(grid, _UNPLACED)):
            return values
        warnings.append(f"{what} is not used: it lies on another grid than the maps: {_size(itself)}")
        return None

    maps = []
    unit = content.unit if stated.unit is None else _UNITS[stated.unit]
    for m, (values, _) in volumes.items():
        crlb = on_the_maps_grid(content.crlb.get(m), f"CRLB of {m}")
        if crlb is not None and stated.crlb == "absolute":
            crlb = _percent(crlb, values)
        maps.append(MetaboliteMap(Metabolite(m), values, unit, grid, crlb))
    width = on_the_maps_grid(content.quality.get("linewidth"), "linewidth")
    mask = on_the_maps_grid(content.quality.get("brainmask"), "brain mask")
    return SourceStudy(
        acquisition=Acquisition(
            maps=tuple(maps),
            anatomy=tuple(_anatomy(content, frame)),
            snr=on_the_maps_grid(content.quality.get("snr"), "SNR"),
            linewidth_ppm=_in_ppm(width, content, warnings),
            brain_mask=None if mask is None else _mask(mask),
            acquired_matrix=_matrix(stated, grid),
            psf=stated.psf,
        ),
        header=header,
        warnings=tuple(warnings),
    )


def case_file(folder: Path) -> CaseFile:
    """``case.toml``, or what stands if there is none. Raises UnsuitableInput naming the key."""
    path = folder / "case.toml"
    if not path.exists():
        return CaseFile()
    try:
        return CaseFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UnsuitableInput(f"case.toml is not TOML: {e}") from e
    except ValidationError as e:
        wrong = "; ".join(f"{'.'.join(str(k) for k in x['loc'])}: {x['msg']}" for x in e.errors())
        known = ", ".join(CaseFile.model_fields)
        raise UnsuitableInput(f"case.toml is not usable: {wrong} (keys are {known})") from e


def template_files(case: Path) -> list[Path]:
    """What lies in ``template_dicom/`` of ``case``: DICOM of its study, if all is right."""
    return sorted(p for p in (case / "template_dicom").rglob("*") if p.is_file())


def _template(folder: Path) -> Dataset | None:
    """Identity from the first DICOM instance of ``template_dicom/``; None if there is no such folder."""
    if not folder.is_dir():
        return None
    for path in template_files(folder.parent):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            continue
        study = text_of(header, "StudyInstanceUID")
        if study:
            if not text_of(header, "FrameOfReferenceUID"):
                header.FrameOfReferenceUID = result_uid("frame of reference", study)
            return header
    raise UnsuitableInput("template_dicom/ holds no DICOM instance of a study")


def _made_up(folder: Path, stated: CaseFile, volumes: dict[str, tuple[Volume, Grid]]) -> Dataset:
    content = hashlib.sha256()
    for m, (values, grid) in volumes.items():
        content.update(m.encode() + values.tobytes() + grid.affine.tobytes())
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientID = stated.patient_id or folder.name[:64]
    header.PatientName = stated.patient_name or header.PatientID
    header.PatientBirthDate = header.PatientSex = ""
    identity = (content.hexdigest(), header.PatientID)
    header.StudyInstanceUID = result_uid("study", *identity)
    header.FrameOfReferenceUID = result_uid("frame of reference", *identity)
    header.StudyDate = header.StudyTime = header.StudyID = header.ReferringPhysicianName = ""
    header.AccessionNumber = stated.accession_number
    header.StudyDescription = stated.study_description
    header.Modality = "MR"
    header.Manufacturer = header.PositionReferenceIndicator = ""
    return header


def _anatomy(content: Content, frame: str) -> list[AnatomicalImage]:
    found = []
    for contrast, item in content.anatomy.items():
        values, grid = item.read(frame, str(contrast))
        found.append(AnatomicalImage(contrast, np.nan_to_num(values), grid))
    return found


def _framed(grid: Grid, frame: str) -> Grid:
    return Grid(grid.shape, grid.affine, frame)


def _size(grid: Grid) -> str:
    spacing = " × ".join(f"{s:.2f}" for s in grid.spacing_mm)
    origin = ", ".join(f"{x:.1f}" for x in grid.origin_mm)
    return f"{' × '.join(str(n) for n in grid.shape)} voxels of {spacing} mm from ({origin}) mm"


def _percent(absolute: Volume, values: Volume) -> Volume:
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * absolute / np.abs(values)
    percent[~np.isfinite(percent)] = NOT_DETECTED_PERCENT
    return np.minimum(percent, NOT_DETECTED_PERCENT, dtype=np.float32)


def _in_ppm(width: Volume | None, content: Content, warnings: list[str]) -> Volume | None:
    if width is None or (content.stated.linewidth or content.linewidth) == "ppm":
        return width
    frequency = content.stated.imaging_frequency_mhz or content.imaging_frequency_mhz
    if frequency is None:
        warnings.append("linewidth is not used: it is in Hz, and case.toml states no imaging_frequency_mhz")
        return None
    return np.asarray(width / frequency, dtype=np.float32)


def _mask(values: Volume) -> Mask:
    return np.asarray(values > 0.5)


def _matrix(stated: CaseFile, grid: Grid) -> tuple[int, int, int] | None:
    if stated.acquired_matrix == "as_exported":
        return grid.shape
    if stated.acquired_matrix is not None and any(
        n < 1 or n > of for n, of in zip(stated.acquired_matrix, grid.shape, strict=True)
    ):
        raise UnsuitableInput(
            f"case.toml: acquired_matrix {list(stated.acquired_matrix)} does not fit into maps of "
            f"{list(grid.shape)} (slices, rows, columns)"
        )
    return stated.acquired_matrix
