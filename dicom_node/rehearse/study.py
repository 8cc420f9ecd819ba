"""A small study of nobody, with a lesion in it, as the objects that this node is configured to send."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dicom_node.config import Settings
from dicom_node.process import identify_case, make_results, open_folder
from dicom_node.simulate import Identity, write_dicom
from dicom_node.spool import Spool
from dicom_node.store import Sendable
from sr_core import Acquisition, AnatomicalImage, Contrast, Grid, Metabolite, MetaboliteMap, Unit, Volume

_SHAPE, _SPACING_MM = (5, 12, 12), (10.0, 5.0, 5.0)
_ANATOMY_SHAPE, _ANATOMY_MM = (16, 30, 30), (3.0, 2.0, 2.0)
_METABOLITES = {
    Metabolite.TNAA: (9.0, 4.0),  # mmol/L in the brain, and in the lesion
    Metabolite.TCHO: (2.0, 6.0),
    Metabolite.TCR: (6.0, 5.0),
    Metabolite.GLU: (8.0, 5.0),
    Metabolite.GLN: (3.0, 6.0),
    Metabolite.HG2: (0.2, 4.0),
}


def rehearsal_set(settings: Settings, identity: Identity, spool: Spool) -> list[Sendable]:
    """The objects of a simulated study of ``identity``, as the real path makes them; files in ``spool``.

    A quick method stands in for the configured one: what is rehearsed are objects, not maps.
    """
    source = spool.root / "source"
    write_dicom(_acquisition(), source, identity)
    quick = settings.resolve.model_copy(update={"method": "bicubic", "factor": (2, 2, 2), "motion": "ignore"})
    settings = settings.model_copy(update={"resolve": quick})
    case = open_folder(source)
    identified = identify_case(case, settings.input_rules)
    folder = spool.result_folder("rehearsal", 1, 1)
    made = make_results(case, identified, settings, folder).made
    base = Path(spool.relative(folder))
    return [
        Sendable(str(base / m.path), m.kind, m.name, m.sop_uid, m.sop_class_uid, m.sha256)
        for m in made
        if m.sop_uid
    ]


def identity_of(name: str, patient_id: str) -> Identity:
    """Who the rehearsal is about; every rehearsal is a study of its own."""
    now = datetime.now(UTC)
    return Identity(
        patient_id=patient_id,
        patient_name=name,
        study_date=now.strftime("%Y%m%d"),
        accession_number="REHEARSAL",
        study=now.isoformat(),
    )


def _acquisition() -> Acquisition:
    coarse, fine = _grid(_SHAPE, _SPACING_MM), _grid(_ANATOMY_SHAPE, _ANATOMY_MM)
    return Acquisition(
        maps=tuple(
            MetaboliteMap(m, _head(coarse, *levels), Unit.MMOL_PER_L, coarse)
            for m, levels in _METABOLITES.items()
        ),
        anatomy=tuple(
            AnatomicalImage(c, _head(fine, *levels), fine)
            for c, levels in ((Contrast.T1, (600.0, 400.0)), (Contrast.FLAIR, (300.0, 700.0)))
        ),
        snr=np.full(coarse.shape, 20.0, dtype=np.float32),
        linewidth_ppm=np.full(coarse.shape, 0.05, dtype=np.float32),
        acquired_matrix=_SHAPE,
    )


def _grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:, 3] = (-28.0, -27.0, 11.0, 1.0)
    n_slices, n_rows, n_columns = shape
    return Grid((n_slices, n_rows, n_columns), affine, "2.25.141421356237309504880168872420969807856")


def _head(grid: Grid, normal: float, lesion: float) -> Volume:
    """An ellipsoid with a lesion off centre along every axis; no two voxels are alike."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(grid.to_patient(index.reshape(-1, 3)).reshape((*grid.shape, 3)), -1, 0)
    brain = ((x / 28) ** 2 + (y / 28) ** 2 + ((z - 32) / 24) ** 2) < 1
    inside = ((x - 10) ** 2 + (y + 8) ** 2 + (z - 36) ** 2) < 11**2
    values = np.where(inside, lesion, normal) * (1 + 0.001 * x + 0.0007 * y + 0.0005 * z)
    return np.asarray(np.where(brain, values, 0), dtype=np.float32)
