"""One asymmetric study as research tools lay it out: fsl_mrsi, MRSIPrep, LCModel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension

from dicom_node import ras
from dicom_node.simulate import write_dicom
from sr_core import Acquisition, Metabolite

FREQUENCY_MHZ = 123.2
# Names that the tools give, and one that no one here knows.
FSL = {"tNAA": "NAA+NAAG", "tCho": "PCho+GPC", "tCr": "Cr+PCr", "2HG": "HG", "Ins": "mIns"}
BIDS = {"tNAA": "NAANAAG", "tCho": "GPCPCh", "tCr": "CrPCr"}
LCM = {"tNAA": "NAA+NAAG", "tCho": "GPC+PCh", "tCr": "Cr+PCr"}
STORED = (-1, 1, -1)  # columns and slices run backwards in the files: a flip must not be lost


def store(path: Path, values: np.ndarray, affine_ras: np.ndarray) -> Path:
    """``values`` by (i, j, k), float32, with the axes of ``STORED`` turned round in the file."""
    data, affine = values, affine_ras.copy()
    for axis, sign in enumerate(STORED):
        if sign < 0:
            data = np.flip(data, axis)
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.ascontiguousarray(data, dtype=np.float32), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def _put(path: Path, values: np.ndarray, grid) -> Path:
    return store(path, np.asarray(values).transpose(2, 1, 0), ras.from_lps(grid.affine))


def anatomy(of: Acquisition, folder: Path, names=("T1.nii.gz", "FLAIR.nii.gz")) -> None:
    for image, name in zip(of.anatomy, names, strict=False):
        _put(folder / name, image.values, image.grid)


def fsl_mrsi(of: Acquisition, case: Path, scaling: str = "molality", root: str = "fit_out") -> Path:
    """A case folder with T1 and FLAIR, and fsl_mrsi's output in a folder of it. Returns the output."""
    out = case / root
    outside = np.ones(of.grid.shape)
    outside[:, 0, :] = 0  # fsl_mrsi writes 0 where its mask excludes
    for m in of.maps:
        name = FSL.get(m.metabolite, str(m.metabolite))
        for kind in ("raw", scaling):
            _put(out / "concs" / kind / f"{name}.nii.gz", m.values * outside, m.grid)
        _put(out / "uncertainties" / f"{name}_sd.nii.gz", m.crlb_percent * outside, m.grid)
    _put(out / "concs" / scaling / "Scyllo.nii.gz", outside, of.grid)
    for name, hz in (("NAA", 6.16), ("Ins", 99.0)):
        _put(out / "qc" / f"{name}_snr.nii.gz", of.snr, of.grid)
        _put(out / "qc" / f"{name}_fwhm.nii.gz", np.full(of.grid.shape, hz), of.grid)
    image = nibabel.Nifti1Image(np.ones((3, 3, 3, 8), dtype=np.complex64), np.eye(4))
    said = {"SpectrometerFrequency": [FREQUENCY_MHZ], "ResonantNucleus": ["1H"]}
    image.header.extensions.append(Nifti1Extension(44, json.dumps(said).encode()))
    (out / "fit").mkdir()
    nibabel.save(image, out / "fit" / "fit.nii.gz")
    anatomy(of, case)
    return out


def mrsiprep(of: Acquisition, dataset: Path, subject: str = "S01", session: str = "V1") -> Path:
    """A BIDS data set with anatomy and ``derivatives/mrsi-orig``. Returns the session's folder in it."""
    place = dataset / "derivatives" / "mrsi-orig" / f"sub-{subject}" / f"ses-{session}"
    begin = f"sub-{subject}_ses-{session}"
    for m in of.maps:
        if m.metabolite in BIDS:
            name = f"{begin}_space-orig_met-{BIDS[m.metabolite]}"
            _put(place / f"{name}_desc-signal_mrsi.nii.gz", m.values, m.grid)
            _put(place / f"{name}_desc-crlb_mrsi.nii.gz", m.crlb_percent, m.grid)
            _put(place / f"{name}_desc-signal_filtbiharmonic_mrsi.nii.gz", 0 * m.values, m.grid)
    _put(place / f"{begin}_space-orig_desc-snr_mrsi.nii.gz", of.snr, of.grid)
    _put(place / f"{begin}_space-orig_desc-fwhm_mrsi.nii.gz", of.linewidth_ppm, of.grid)
    _put(place / f"{begin}_space-orig_desc-brainmask_mrsi.nii.gz", np.ones(of.grid.shape), of.grid)
    anat = dataset / f"sub-{subject}" / f"ses-{session}" / "anat"
    anatomy(of, anat, (f"{begin}_acq-mprage_T1w.nii.gz", f"{begin}_FLAIR.nii.gz"))
    return place


def table(values: dict[str, tuple[float, float]], fwhm_ppm: float, snr: float) -> str:
    """One voxel's ``.table`` as LCModel writes it."""
    lines = [
        " LCModel (Version 6.3-1R)",
        "",
        f"$$CONC {len(values) + 1} lines in following concentration table",
    ]
    lines.append("    Conc.  %SD /Cr+PCr  Metabolite")
    lines += [f" {c:8.2E} {sd:3.0f}%   1.000 {name}" for name, (c, sd) in values.items()]
    lines += ["", "$$MISC  6 lines in following misc. output table"]
    lines += [f"  FWHM = {fwhm_ppm:5.3f} ppm    S/N = {snr:3.0f}", "  Data shift = 0.000 ppm", ""]
    return "\n".join([*lines, "$$DIAG  0 lines in following diagnostic table:", ""])


def lcmodel(of: Acquisition, case: Path, form: str = "table", geometry: str = "nifti") -> Path:
    """Tables counted along the stored axes of the template; voxels of the first row are left out."""
    out = case / "lcm"
    out.mkdir(parents=True)
    grid = of.grid
    if geometry == "nifti":
        path = store(case / "template.nii.gz", np.zeros(grid.shape[::-1]), ras.from_lps(grid.affine))
        assert path.exists()
    else:
        one = Acquisition(maps=(replace(of.maps[0], crlb_percent=None),))
        write_dicom(one, case / "template_geometry")
    signs = STORED if geometry == "nifti" else (1, 1, 1)
    named = {LCM.get(m.metabolite, str(m.metabolite)): m for m in of.maps}
    csv = ["Row, Col, Slice" + "".join(f", {n}, {n} %SD, {n}/Cr+PCr" for n in named)]
    for k, j, i in np.ndindex(grid.shape):
        if j == 0:
            continue
        col, row, sl = (
            n if sign > 0 else size - 1 - n
            for n, sign, size in zip((i, j, k), signs, grid.shape[::-1], strict=True)
        )
        values = {n: (float(m.values[k, j, i]), float(m.crlb_percent[k, j, i])) for n, m in named.items()}
        values["Lip13a+Lip13b"] = (0.0, 999.0)
        if form == "table":
            text = table(values, float(of.linewidth_ppm[k, j, i]), float(of.snr[k, j, i]))
            (out / f"csi_sl{sl + 1}_{row + 1}-{col + 1}.table").write_text(text)
        else:
            cells = "".join(f", {c:.6E}, {sd:.0f}, 1.000" for c, sd in list(values.values())[: len(named)])
            csv.append(f"{row + 1:3d}, {col + 1:3d}, {sl + 1:3d}{cells}")
    if form == "csv":
        (out / "csi.csv").write_text("\n".join(csv) + "\n")
    anatomy(of, case)
    return out


def metabolites(*names: str) -> tuple[Metabolite, ...]:
    return tuple(Metabolite(n) for n in names)
