"""The output folder of FSL-MRS's ``fsl_mrsi``.

concs/{raw,internal,molarity,molality}/<metabolite>.nii.gz   0 where nothing was fitted
uncertainties/<metabolite>_sd.nii.gz                         SD in % of the concentration
qc/<metabolite>_snr.nii.gz  qc/<metabolite>_fwhm.nii.gz      per fitted peak; FWHM in Hz
fit/fit.nii.gz                                               NIfTI-MRS: knows the spectrometer's frequency

Source: fsl_mrs/scripts/fsl_mrsi.py ("Save output files") and ``FitRes.getUncertainties`` and ``getQCParams``
of fsl_mrs/utils/results.py in FSL-MRS 2.x; NIfTI-MRS 0.9 (header extension 44).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from dicom_node import ras
from dicom_node.errors import UnsuitableInput
from dicom_node.names import canonical
from sr_core import Grid, Mask, Unit, Volume

from .files import add_anatomy, niftis, stem
from .study import Content, Item, begin

NAME = "fsl_mrsi results"

# Basis spectra of FSL-MRS that others spell otherwise.
_ALIAS = {"HG": "2HG"}
_SCALINGS: tuple[Literal["molality", "molarity", "internal", "raw"], ...] = (
    "molality",
    "molarity",
    "internal",
    "raw",
)
_UNITS = {"molality": Unit.MMOL_PER_KG, "molarity": Unit.MMOL_PER_L}
# Whose peak speaks for the spectrum: strong singlets first.
_SPEAKS = ("NAA", "tNAA", "Cr", "tCr", "PCr", "GPC", "tCho", "PCh")
_NIFTI_MRS = 44  # code of the header extension


def root_of(folder: Path) -> Path | None:
    """The folder with ``concs/``: ``folder`` itself, or the one folder in it that has any."""
    if _scalings(folder):
        return folder
    found = [p for p in sorted(folder.iterdir()) if p.is_dir() and _scalings(p)] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def content_of(folder: Path, root: Path) -> Content:
    """The case in ``folder``, whose results lie in ``root``. Raises UnsuitableInput in words."""
    content = begin(folder)
    there = _scalings(root)
    scaling = content.stated.fsl_scaling or there[0]
    if scaling not in there:
        raise UnsuitableInput(
            f"case.toml: fsl_scaling is {scaling!r}, and concs/ has only {', '.join(there)}"
        )
    content.unit = _UNITS.get(scaling, Unit.ARBITRARY)
    content.notes.append(f"concentrations are fsl_mrsi's {scaling} ones")
    paths = niftis(root / "concs" / scaling)
    fitted = cache(lambda: _fitted(paths))
    for path in paths:
        metabolite = canonical(stem(path), _ALIAS)
        item = content.item(path, f"named by its file, {scaling} concentrations")
        if metabolite is None:
            content.ignored[item.file] = "no metabolite this node knows"
        else:
            content.add_map(metabolite, Item(item.file, item.reason, _only_fitted(path, fitted)))
    for path in niftis(root / "uncertainties"):
        name = stem(path)
        metabolite = canonical(name.removesuffix("_sd"), _ALIAS) if name.endswith("_sd") else None
        if metabolite in content.maps:
            content.crlb[metabolite] = content.item(path, "named by its file, in %")
    _add_quality(content, root)
    content.linewidth = "Hz"
    content.imaging_frequency_mhz = _frequency_mhz(niftis(root / "fit"))
    for place in dict.fromkeys((folder, root)):
        add_anatomy(content, place)
    return content


def _scalings(folder: Path) -> list[Literal["molality", "molarity", "internal", "raw"]]:
    return [s for s in _SCALINGS if niftis(folder / "concs" / s)]


def _add_quality(content: Content, root: Path) -> None:
    """Of the peaks' SNR and FWHM, those of one strong peak; the others are left out, and say so."""
    for kind, ending in (("snr", "_snr"), ("linewidth", "_fwhm")):
        of = {}
        for path in niftis(root / "qc"):
            if stem(path).endswith(ending):
                name = stem(path).removesuffix(ending)
                of[canonical(name, _ALIAS) or name] = path
        if of:
            spoken = next((m for m in _SPEAKS if m in of), min(of))
            content.quality[kind] = content.item(of[spoken], f"that of {spoken}'s peak")


def _fitted(paths: list[Path]) -> Mask:
    """Where any metabolite has a value: fsl_mrsi writes 0 where it fitted nothing."""
    volumes = [ras.read(p, "", p.name)[0] for p in paths]
    if len({v.shape for v in volumes}) != 1:
        raise UnsuitableInput(f"the maps in {paths[0].parent.name}/ differ in size: was the fit interrupted?")
    return np.asarray(np.any([np.nan_to_num(v) != 0 for v in volumes], axis=0))


def _only_fitted(path: Path, fitted: Callable[[], Mask]) -> Callable[[str, str], tuple[Volume, Grid]]:
    def read(frame_of_reference: str, name: str) -> tuple[Volume, Grid]:
        values, grid = ras.read(path, frame_of_reference, name)
        return np.where(fitted(), values, np.float32(np.nan)), grid

    return read


def _frequency_mhz(paths: list[Path]) -> float | None:
    """Spectrometer Frequency of the first NIfTI-MRS file that states one."""
    for path in paths:
        try:
            image: Any = nibabel.load(path)
            for extension in image.header.extensions:
                if extension.get_code() == _NIFTI_MRS:
                    content = extension.get_content()
                    stated = json.loads(content if isinstance(content, str | bytes) else json.dumps(content))
                    frequency = stated["SpectrometerFrequency"]
                    return float(frequency[0] if isinstance(frequency, list) else frequency)
        except Exception:  # whatever a broken file brings: the linewidth is then left out, and says so
            continue
    return None
