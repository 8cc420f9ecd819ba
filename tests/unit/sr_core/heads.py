"""A head on 6 mm maps: folds with CSF between them, a lesion that only the maps show, T1 and FLAIR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from sr_core import (
    Acquisition,
    AnatomicalImage,
    Contrast,
    Grid,
    Metabolite,
    MetaboliteMap,
    Shape,
    Unit,
    kspace,
)
from tests.unit.sr_core.phantoms import FRAME, axial_grid

LR: Shape = (16, 20, 18)
FINE: Shape = (64, 80, 72)


def head(seed: int = 5, lesion: bool = True) -> Acquisition:
    """tNAA and tCr (mmol/L, noise 0.2) on 6 mm with mask, T1 and FLAIR on 1.5 mm, in one frame.

    Another ``seed`` is another person with the same skull. The lesion is on the patient's left.
    """
    grid = axial_grid(LR, (6.0, 6.0, 6.0))
    rng = np.random.default_rng(seed)
    z, y, x = (np.moveaxis(np.indices(FINE), 0, -1) - [31, 39, 35]).transpose(3, 0, 1, 2)
    brain = (z / 25) ** 2 + (y / 35) ** 2 + (x / 28) ** 2 < 1
    field = ndimage.gaussian_filter(rng.standard_normal(FINE), 3.5)
    field /= field.std()
    fluid, grey = field > 0.9, field > 0.1
    ill = ((z - 4) ** 2 + (y + 8) ** 2 + (x - 12) ** 2 < 64) & brain & lesion
    inside = kspace.forward(brain.astype(float), LR) > 0.5
    maps = []
    for metabolite, levels in ((Metabolite.TNAA, (10, 8, 3)), (Metabolite.TCR, (6.5, 8, 5))):
        hr = np.select([ill, fluid, grey, brain], [levels[2], 0.0, levels[1], levels[0]]) * brain
        values = (kspace.forward(hr, LR) + 0.2 * rng.standard_normal(LR)) * inside
        maps.append(MetaboliteMap(metabolite, values.astype(np.float32), Unit.MMOL_PER_L, grid))
    images = []
    for contrast, (white, cortex, csf) in (
        (Contrast.T1, (1.0, 0.7, 0.3)),
        (Contrast.FLAIR, (0.6, 0.8, 0.15)),
    ):
        tissue = np.select([fluid, grey], [csf, cortex], white) * brain
        values = (tissue + 0.02 * rng.standard_normal(FINE)).astype(np.float32)
        images.append(AnatomicalImage(contrast, values, grid.refined((4, 4, 4))))
    return Acquisition(tuple(maps), tuple(images), brain_mask=inside, acquired_matrix=LR)


def rigid(shift_mm: tuple[float, float, float], degrees: float, study: Acquisition) -> np.ndarray:
    """4 × 4 in LPS mm: turned about an oblique axis through the brain's centre, then shifted."""
    points = brain_points(study)
    a = np.radians(degrees)
    axis = np.array([0.6, 0.0, 0.8])
    cross = np.cross(np.eye(3), axis)
    turn = np.cos(a) * np.eye(3) - np.sin(a) * cross + (1 - np.cos(a)) * np.outer(axis, axis)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = points.mean(axis=0) - turn @ points.mean(axis=0) + shift_mm
    return matrix


def displaced(
    study: Acquisition, matrix: np.ndarray, frame: str = FRAME, which: tuple[bool, bool] = (True, True)
) -> Acquisition:
    """The study with its anatomy's grids moved by ``matrix``: the head moved between the series."""
    return replace(
        study,
        anatomy=tuple(
            AnatomicalImage(
                a.contrast,
                a.values,
                Grid(a.grid.shape, (matrix if moves else np.eye(4)) @ a.grid.affine, frame),
            )
            for a, moves in zip(study.anatomy, which, strict=True)
        ),
    )


def brain_points(study: Acquisition) -> np.ndarray:
    """Patient LPS mm of the brain's voxels on the maps' grid."""
    assert study.brain_mask is not None
    return study.grid.to_patient(np.argwhere(study.brain_mask))


def off_mm(study: Acquisition, found: np.ndarray, true: np.ndarray) -> float:
    """How far ``found`` takes any point of the brain from where ``true`` takes it."""
    apart = found - true
    return float(np.linalg.norm(brain_points(study) @ apart[:3, :3].T + apart[:3, 3], axis=1).max())


def exchanged(image: AnatomicalImage) -> AnatomicalImage:
    """Left and right exchanged."""
    return AnatomicalImage(image.contrast, np.ascontiguousarray(image.values[:, :, ::-1]), image.grid)
