"""The research desk's front door: a case on disk in, maps out; no node, network or database.

    from dicom_node.research import super_resolve, write_nifti
    result = super_resolve("case/", method="unet+fnlm+dc")
    write_nifti(result, "maps/")

A case is a folder or zip of DICOM files, or a folder in one of the layouts (``dicom_node.layouts``).
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sr_core import Acquisition, SuperResolved

from . import config, nifti
from .config import Settings
from .process import (
    Identified,
    NothingToDo,
    Progress,
    Results,
    decode_case,
    identify_case,
    make_results,
    opened,
)
from .process import super_resolve as _super_resolve

__all__ = ["read_case", "solve", "super_resolve", "with_method", "write_nifti"]


def read_case(case: str | PathLike[str], config_file: str | PathLike[str] | None = None) -> Acquisition:
    """The maps, anatomy and quality maps of a case, as arrays in millimetres.

    ``config_file``: for ``[identify]`` rules of a site. Raises UnsuitableInput in words.
    """
    settings = _settings(config_file)
    with opened(Path(case), settings.intake) as files:
        identified = _something(identify_case(files, settings.input_rules))
        return decode_case(files, identified, settings.input_rules).acquisition


def super_resolve(
    case: str | PathLike[str], method: str = "", config_file: str | PathLike[str] | None = None
) -> SuperResolved:
    """What becomes of a case: maps, ratios, lesions, uncertainty, quality, provenance.

    ``method``: for instance "bicubic", "unet+fnlm+dc"; "" is that of the configuration.
    Raises UnsuitableInput or BadConfiguration in words.
    """
    settings = with_method(_settings(config_file), method)
    with opened(Path(case), settings.intake) as files:
        identified = _something(identify_case(files, settings.input_rules))
        return _super_resolve(files, identified, settings)[1]


def write_nifti(result: SuperResolved, folder: str | PathLike[str]) -> list[Path]:
    """``<map>.nii.gz`` for each map and ratio, ``lesion_<map>.nii.gz`` for each lesion. Returns the paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return nifti.write_result(result, Path(folder))


def solve(case: Path, folder: Path, settings: Settings, progress: Progress = lambda _: None) -> Results:
    """All results of a case under ``folder``: dicom/, nifti/ and report.json.

    Raises NothingToDo if no recipe matches, and as ``make_results``.
    """
    with opened(case, settings.intake) as files:
        identified = _something(identify_case(files, settings.input_rules))
        return make_results(files, identified, settings, folder, progress)


def with_method(settings: Settings, method: str) -> Settings:
    """``settings`` with another method, if one is named."""
    if not method:
        return settings
    resolve = settings.resolve.model_copy(update={"method": method})
    return settings.model_copy(update={"resolve": resolve})


def _settings(path: str | PathLike[str] | None) -> Settings:
    return config.load(None if path is None else Path(path))


def _something(identified: Identified) -> Identified:
    if identified.nothing is not None:
        raise NothingToDo(identified)
    return identified
