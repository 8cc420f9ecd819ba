"""The research desk's front door: a case on disk in, maps out; no node, network or database.

    from dicom_node.research import super_resolve, write_nifti
    result = super_resolve("case/", method="unet+fnlm+dc")
    write_nifti(result, "maps/")

A case is a folder or zip of DICOM files, or a folder in one of the layouts (``dicom_node.layouts``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from sr_core import Acquisition, SuperResolved

from . import config, nifti
from .config import Settings
from .process import (
    Case,
    Identified,
    NothingToDo,
    Progress,
    Results,
    decode_case,
    identify_case,
    make_results,
    opened,
    with_maps,
)
from .process import super_resolve as _super_resolve

__all__ = ["read_case", "solve", "super_resolve", "with_method", "write_nifti"]


def read_case(case: str | PathLike[str], config_file: str | PathLike[str] | None = None) -> Acquisition:
    """The maps, anatomy and quality maps of a case, as arrays in millimetres.

    ``config_file``: for ``[identify]`` rules of a site. Raises UnsuitableInput in words.
    """
    settings = _settings(config_file)
    with _ready(Path(case), settings) as (files, identified):
        return decode_case(files, identified, settings.input_rules).acquisition


def super_resolve(
    case: str | PathLike[str], method: str = "", config_file: str | PathLike[str] | None = None
) -> SuperResolved:
    """What becomes of a case: maps, ratios, lesions, uncertainty, quality, provenance.

    ``method``: for instance "bicubic", "unet+fnlm+dc"; "" is that of the configuration.
    Raises UnsuitableInput or BadConfiguration in words.
    """
    settings = with_method(_settings(config_file), method)
    with _ready(Path(case), settings) as (files, identified):
        return _super_resolve(files, identified, settings)[1]


def write_nifti(result: SuperResolved, folder: str | PathLike[str]) -> list[Path]:
    """``<map>.nii.gz`` for each map and ratio, ``lesion_<map>.nii.gz`` for each lesion. Returns the paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return nifti.write_result(result, Path(folder))


def solve(case: Path, folder: Path, settings: Settings, progress: Progress = lambda _: None) -> Results:
    """All results of a case under ``folder``: dicom/, nifti/ and report.json.

    Raises NothingToDo if no recipe matches, and as ``make_results``.
    """
    with _ready(case, settings, progress) as (files, identified):
        return make_results(files, identified, settings, folder, progress)


def with_method(settings: Settings, method: str) -> Settings:
    """``settings`` with another method, if one is named."""
    if not method:
        return settings
    resolve = settings.resolve.model_copy(update={"method": method})
    return settings.model_copy(update={"resolve": resolve})


def _settings(path: str | PathLike[str] | None) -> Settings:
    return config.load(None if path is None else Path(path))


@contextmanager
def _ready(
    path: Path, settings: Settings, progress: Progress = lambda _: None
) -> Iterator[tuple[Case, Identified]]:
    """A case whose recipe is known, its spectra quantified if that is what it takes.

    Raises NothingToDo. What a failed [quantify] command said stays where the reason names it.
    """
    with opened(path, settings.intake) as case:
        identified = identify_case(case, settings.input_rules)
        if identified.nothing is None:
            yield case, identified
            return
        progress("quantify")
        home = Path(mkdtemp(prefix="mrsi-node-quantify-"))
        try:
            case, identified = with_maps(case, identified, settings, home)
            if identified.nothing is not None:
                raise NothingToDo(identified)
            yield case, identified
        finally:
            for left in home.iterdir():
                if left.is_dir():
                    rmtree(left)
            if sys.exc_info()[0] is None or not any(home.iterdir()):
                rmtree(home)
