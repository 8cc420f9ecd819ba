"""A simulated study as a site would export it: DICOM series or a NIfTI case, the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from dicom_node import ras
from dicom_node.errors import BadConfiguration, UnsuitableInput
from sr_core import Acquisition, Grid, Mask, Volume
from sr_core.simulate import LesionPlan, Options, from_icbm152, read_labels, simulate

from .export import SOMEONE, Identity, datasets

__all__ = ["Identity", "datasets", "write_case", "write_dicom", "write_nifti", "write_truth"]

Form = Literal["classic", "enhanced"]


def write_case(
    out: Path,
    *,
    labels: Path | None = None,
    template: str = "icbm152",
    seed: int = 0,
    lesion: str = "mismatch",
    form: str = "dicom",
    maps: str = "usual",
) -> None:
    """Simulate one patient: ``out``/dicom/*.dcm or a NIfTI case in ``out``, and ``out``/truth/.

    ``labels``: a FreeSurfer label map, else the template. ``lesion``: match, mismatch (FLAIR shows
    the lesion elsewhere than metabolism) or none. ``maps``: the seven usual metabolites, or all twenty.
    Raises BadConfiguration for another word, and
    UnsuitableInput if ``out`` is not empty.
    """
    if lesion not in ("match", "mismatch", "none"):
        raise BadConfiguration(f"lesion {lesion!r}: one of match, mismatch, none")
    if form not in ("dicom", "nifti"):
        raise BadConfiguration(f"format {form!r}: one of dicom, nifti")
    if maps not in ("usual", "all"):
        raise BadConfiguration(f"maps {maps!r}: one of usual, all")
    if labels is None and template != "icbm152":
        raise BadConfiguration(f"template {template!r}: there is icbm152")
    if out.exists() and any(out.iterdir()):
        raise UnsuitableInput(f"{out} is not empty: a new folder is needed")
    try:
        tissue = read_labels(labels) if labels is not None else from_icbm152()
    except (ValueError, OSError) as e:
        raise UnsuitableInput(f"{labels} is no usable label map: {e}") from e
    except RuntimeError as e:  # the template's package is not installed
        raise BadConfiguration(str(e)) from e
    options = Options(
        regime="match" if lesion == "match" else "mismatch",
        lesion=None if lesion == "none" else LesionPlan(),
        metabolites="all" if maps == "all" else "usual",
    )
    study = simulate(tissue, seed, options)
    out.mkdir(parents=True, exist_ok=True)
    if form == "dicom":
        write_dicom(study.acquisition, out / "dicom", Identity(patient_id=f"SIM-{study.anatomy_name}-{seed}"))
    else:
        write_nifti(study.acquisition, out)
    truth: dict[str, Volume | Mask] = {str(m.metabolite): m.values for m in study.truth}
    truth |= {str(r.ratio): r.values for r in study.truth_ratios}
    truth |= {"brain": study.brain}
    truth |= {"lesion" if k == "metabolic" else f"lesion_{k}": v for k, v in study.lesions.items()}
    write_truth(truth, study.grid, out / "truth")


def write_dicom(
    acquisition: Acquisition, folder: Path, identity: Identity = SOMEONE, form: Form = "classic"
) -> list[Path]:
    """Write ``datasets`` as ``folder``/<series>-<instance>.dcm. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for d in datasets(acquisition, identity, form):
        path = folder / f"{int(d.SeriesNumber):04d}-{int(d.InstanceNumber):04d}.dcm"
        d.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def write_nifti(acquisition: Acquisition, folder: Path, patient_id: str = "SIMULATED") -> None:
    """Write ``acquisition`` as a NIfTI case: T1, FLAIR, maps/, quality/, case.toml."""
    for name in ("maps", "quality"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    grid = acquisition.grid
    for image in acquisition.anatomy:
        ras.write(folder / f"{image.contrast}.nii.gz", image.values, image.grid)
    for m in acquisition.maps:
        ras.write(folder / "maps" / f"{m.metabolite}.nii.gz", m.values, grid)
        if m.crlb_percent is not None:
            ras.write(folder / "quality" / f"{m.metabolite}_crlb.nii.gz", m.crlb_percent, grid)
    quality: Mapping[str, Volume | Mask | None] = {
        "snr": acquisition.snr,
        "linewidth": acquisition.linewidth_ppm,
        "brainmask": acquisition.brain_mask,
    }
    for name, values in quality.items():
        if values is not None:
            ras.write(folder / "quality" / f"{name}.nii.gz", values, grid)
    unit = acquisition.maps[0].unit
    said = {"mmol/L": "mmol/L", "mmol/kg{WetWeight}": "mmol/kg"}.get(unit, "arbitrary")
    lines = [f'patient_id = "{patient_id}"', f'unit = "{said}"']
    if acquisition.acquired_matrix is not None:
        lines.append(f"acquired_matrix = {list(acquisition.acquired_matrix)}")
    (folder / "case.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_truth(truth: Mapping[str, Volume | Mask], grid: Grid, folder: Path) -> None:
    """Write what is true on the super-resolved ``grid``, and the lesion's volume (mL) as lesions.json.

    "lesion" is the metabolic lesion: the truth of the lesion in each of HGG, TCN and 2HG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in truth.items():
        ras.write(folder / f"{name}.nii.gz", values, grid)
    lesion = truth.get("lesion")
    volume_ml = 0.0 if lesion is None else float(lesion.sum()) * grid.voxel_volume_ml
    table = dict.fromkeys(("HGG", "TCN", "2HG"), round(volume_ml, 3))
    (folder / "lesions.json").write_text(json.dumps(table) + "\n")
