"""A research case in NIfTI: read as a study, results written back.

<case>/T1*.nii.gz  FLAIR*.nii.gz                 optional anatomy
<case>/maps/<Metabolite>.nii.gz                  at least one
<case>/quality/<Metabolite>_crlb.nii.gz, snr, linewidth or fwhm, brainmask
<case>/template_dicom/                           any series of the study: identity, Frame of Reference
<case>/case.toml                                 see CaseFile
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydicom import Dataset

from sr_core import (
    Acquisition,
    AnatomicalImage,
    Contrast,
    Grid,
    Mask,
    Metabolite,
    MetaboliteMap,
    SuperResolved,
    Unit,
    Volume,
)

from . import ras
from .errors import UnsuitableGeometry, UnsuitableInput
from .names import canonical, read_label
from .series import Role, text_of
from .source import SourceStudy
from .uids import result_uid

_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_NOT_DETECTED_PERCENT = 999.0
_UNPLACED = "nifti"  # until the case's Frame of Reference is known


class CaseFile(BaseModel):
    """``case.toml``: what NIfTI cannot say. An unknown key is an error.

    ``unit``: "mmol/L", "mmol/kg" or "arbitrary". ``acquired_matrix``: measured k-space as [slices,
    rows, columns] of the maps as we index them (slices: the last stored axis), or "as_exported".
    ``psf``: the filter on k-space, "none" or "hamming".
    ``imaging_frequency_mhz`` turns a linewidth in Hz into ppm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patient_id: str = Field("", max_length=64)
    patient_name: str = ""
    study_description: str = Field("", max_length=64)
    accession_number: str = Field("", max_length=16)
    unit: Literal["mmol/L", "mmol/kg", "arbitrary"] = "arbitrary"
    acquired_matrix: tuple[int, int, int] | Literal["as_exported"] | None = None
    psf: Literal["none", "hamming"] = "none"
    crlb: Literal["percent", "absolute"] = "percent"
    linewidth: Literal["ppm", "Hz"] = "ppm"
    imaging_frequency_mhz: float | None = Field(None, gt=0)


_UNITS = {"mmol/L": Unit.MMOL_PER_L, "mmol/kg": Unit.MMOL_PER_KG, "arbitrary": Unit.ARBITRARY}


@dataclass
class _Files:
    """The files of a case by what they are; ``ignored`` with the reason."""

    maps: dict[str, Path] = field(default_factory=dict)
    crlb: dict[str, Path] = field(default_factory=dict)
    quality: dict[str, Path] = field(default_factory=dict)
    anatomy: dict[Contrast, Path] = field(default_factory=dict)
    ignored: dict[Path, str] = field(default_factory=dict)


def is_case(folder: Path) -> bool:
    """Whether ``folder`` is laid out as a NIfTI case: ``maps/`` with at least one NIfTI file."""
    return any(_niftis(folder / "maps"))


def describe(folder: Path) -> list[tuple[str, str, str, str]]:
    """(uid, description, role, reason) of each file, as series are described; a file's name is its uid.

    Raises UnsuitableInput as ``read_case`` does for names it cannot place.
    """
    files = _files(folder)
    rows: list[tuple[Path, Role, str]] = []
    rows += [(p, Role.METABOLITE_MAP, f"{m} map, named by its file") for m, p in files.maps.items()]
    rows += [(p, Role.QUALITY_MAP, f"CRLB of {m}, named by its file") for m, p in files.crlb.items()]
    rows += [(p, Role.QUALITY_MAP, f"{kind}, named by its file") for kind, p in files.quality.items()]
    rows += [(p, Role(c.value.lower()), f"{c}, named by its file") for c, p in files.anatomy.items()]
    rows += [(p, Role.OTHER, reason) for p, reason in files.ignored.items()]
    names = [str(p.relative_to(folder)) for p, _, _ in rows]
    return [(name, name, str(role), reason) for name, (_, role, reason) in zip(names, rows, strict=True)]


def read_case(folder: Path) -> SourceStudy:
    """Read a case. Without ``template_dicom/`` its identity is made up from content and case.toml.

    Maps and anatomy share one Frame of Reference: NIfTI has one world. The made-up UIDs depend on
    the content alone, so the same case gives the same results.
    Raises UnsuitableInput (nothing to read, unknown names or keys) and UnsuitableGeometry (maps on
    several grids, sheared axes), in words.
    """
    stated = _case_file(folder)
    files = _files(folder)
    warnings = [f"{p.name} is not used: {reason}" for p, reason in files.ignored.items()]
    volumes = {m: ras.read(p, _UNPLACED, f"{m} map") for m, p in files.maps.items()}
    if not volumes:
        raise UnsuitableInput("; ".join(["maps/ holds no usable metabolite map", *warnings]))
    first = next(iter(volumes))
    for m, (_, grid) in volumes.items():
        if not grid.same_as(volumes[first][1]):
            raise UnsuitableGeometry(
                f"{m} map lies on another grid than the {first} map: {_size(grid)}, and not "
                f"{_size(volumes[first][1])}"
            )
    header = _template(folder / "template_dicom") or _made_up(folder, stated, volumes)
    frame = header.FrameOfReferenceUID
    grid = _framed(volumes[first][1], frame)

    def on_the_maps_grid(path: Path | None, what: str) -> Volume | None:
        if path is None:
            return None
        values, itself = ras.read(path, _UNPLACED, what)
        if itself.same_as(_framed(grid, _UNPLACED)):
            return values
        warnings.append(f"{what} is not used: it lies on another grid than the maps: {_size(itself)}")
        return None

    maps = []
    for m, (values, _) in volumes.items():
        crlb = on_the_maps_grid(files.crlb.get(m), f"CRLB of {m}")
        if crlb is not None and stated.crlb == "absolute":
            crlb = _percent(crlb, values)
        maps.append(MetaboliteMap(Metabolite(m), values, _UNITS[stated.unit], grid, crlb))
    width = on_the_maps_grid(files.quality.get("linewidth"), "linewidth")
    mask = on_the_maps_grid(files.quality.get("brainmask"), "brain mask")
    return SourceStudy(
        acquisition=Acquisition(
            maps=tuple(maps),
            anatomy=tuple(_anatomy(files, frame)),
            snr=on_the_maps_grid(files.quality.get("snr"), "SNR"),
            linewidth_ppm=_in_ppm(width, stated, warnings),
            brain_mask=None if mask is None else _mask(mask),
            acquired_matrix=_matrix(stated, grid),
            psf=stated.psf,
        ),
        header=header,
        warnings=tuple(warnings),
    )


def write_result(result: SuperResolved, folder: Path) -> list[Path]:
    """``<map>.nii.gz`` (float32) for each map and ratio, ``lesion_<map>.nii.gz`` (uint8) for each lesion."""
    written = [ras.write(folder / f"{m.metabolite}.nii.gz", m.values, m.grid) for m in result.maps]
    written += [ras.write(folder / f"{r.ratio}.nii.gz", r.values, r.grid) for r in result.ratios]
    written += [ras.write(folder / f"lesion_{x.source}.nii.gz", x.mask, result.grid) for x in result.lesion]
    return written


def _niftis(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _SUFFIX.search(p.name) and not p.name.startswith("."))


def _files(folder: Path) -> _Files:
    files = _Files()
    for path in _niftis(folder / "maps"):
        name = _SUFFIX.sub("", path.name)
        metabolite = canonical(name)
        if metabolite is None and read_label(name.replace("_", " ")).ratio:
            files.ignored[path] = "ratio map: ratios are made here from metabolites"
        elif metabolite is None:
            known = ", ".join(Metabolite)
            raise UnsuitableInput(f"maps/{path.name}: “{name}” is no metabolite; there are: {known}")
        elif metabolite in files.maps:
            raise UnsuitableInput(
                f"{files.maps[metabolite].name} and {path.name} are both maps of {metabolite}"
            )
        else:
            files.maps[metabolite] = path
    for path in _niftis(folder / "quality"):
        name = _SUFFIX.sub("", path.name)
        metabolite = canonical(re.sub(r"(?i)[_-]crlb$", "", name)) if name.lower().endswith("crlb") else None
        if metabolite:
            files.crlb[metabolite] = path
        elif name.lower() in ("snr", "brainmask"):
            files.quality[name.lower()] = path
        elif name.lower() in ("linewidth", "fwhm"):
            files.quality["linewidth"] = path
        else:
            files.ignored[path] = (
                "a quality map is called <Metabolite>_crlb, snr, linewidth, fwhm or brainmask"
            )
    for path in _niftis(folder):
        contrast = next((c for c in Contrast if path.name.upper().startswith(c.value)), None)
        if contrast is None:
            files.ignored[path] = "neither T1* nor FLAIR*"
        elif contrast in files.anatomy:
            files.ignored[path] = f"{files.anatomy[contrast].name} is already the {contrast}"
        else:
            files.anatomy[contrast] = path
    return files


def _case_file(folder: Path) -> CaseFile:
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
    """What lies in ``template_dicom/`` of the NIfTI case ``case``: DICOM of its study, if all is right."""
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


def _anatomy(files: _Files, frame: str) -> list[AnatomicalImage]:
    found = []
    for contrast, path in files.anatomy.items():
        values, grid = ras.read(path, frame, str(contrast))
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
    percent[~np.isfinite(percent)] = _NOT_DETECTED_PERCENT
    return np.minimum(percent, _NOT_DETECTED_PERCENT, dtype=np.float32)


def _in_ppm(width: Volume | None, stated: CaseFile, warnings: list[str]) -> Volume | None:
    if width is None or stated.linewidth == "ppm":
        return width
    if stated.imaging_frequency_mhz is None:
        warnings.append("linewidth is not used: it is in Hz, and case.toml states no imaging_frequency_mhz")
        return None
    return np.asarray(width / stated.imaging_frequency_mhz, dtype=np.float32)


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
