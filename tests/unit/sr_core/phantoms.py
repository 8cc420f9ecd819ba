"""Small phantoms for sr_core's tests: ellipsoid brains, smooth contents, known lesions."""

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

FRAME = "1.2.3"
LR: Shape = (12, 16, 16)
HR: Shape = (48, 64, 64)


def axial_grid(shape: Shape, spacing_mm: tuple[float, float, float] = (6.0, 5.0, 5.0)) -> Grid:
    """Rows to the back, columns to the left, slices to the head."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[:3, 3] = (-30.0, -35.0, -20.0)
    affine[3, 3] = 1.0
    return Grid(shape, affine, FRAME)


def turned(grid: Grid, degrees: tuple[float, float, float]) -> Grid:
    """``grid`` turned about the patient axes: an oblique one."""
    a, b, c = np.radians(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = grid.affine.copy()
    affine[:3, :] = rz @ ry @ rx @ affine[:3, :]
    return Grid(grid.shape, affine, grid.frame_of_reference)


def ellipsoid(
    shape: Shape, share: float = 0.42, centre: tuple[float, ...] = (0.47, 0.47, 0.47)
) -> np.ndarray:
    """A filled ellipsoid: ``share`` of each axis as its half-length."""
    where = np.meshgrid(
        *[(np.arange(n) / n - c) / share for n, c in zip(shape, centre, strict=True)], indexing="ij"
    )
    return sum(w**2 for w in where) <= 1.0


def band_limited(rng: np.random.Generator, lr: Shape, hr: Shape) -> np.ndarray:
    """A random periodic image without anything at or beyond LR's highest frequency."""
    spectrum = np.zeros(hr, dtype=complex)
    reach = [(n - 1) // 2 for n in lr]
    index = np.ix_(*[np.arange(-r, r + 1) % n for r, n in zip(reach, hr, strict=True)])
    block = tuple(2 * r + 1 for r in reach)
    spectrum[index] = rng.standard_normal(block) + 1j * rng.standard_normal(block)
    return np.fft.ifftn(spectrum).real * np.prod(hr) / np.sqrt(np.prod(lr))


def brain_study(
    noise: float = 0.0, lesion: bool = True, seed: int = 0
) -> tuple[Acquisition, dict[str, np.ndarray]]:
    """A 12 × 16 × 16 study with tNAA, tCho, Glu, Gln, 2HG (mmol/L), CRLB, T1 and FLAIR, and its HR truth.

    The lesion is a sphere that the guides do not show; LR is the k-space crop of the truth plus
    ``noise`` (SD in mmol/L).
    """
    rng = np.random.default_rng(seed)
    grid = axial_grid(LR)
    brain = ellipsoid(HR)
    folds = ndimage.gaussian_filter(rng.standard_normal(HR), (2.5, 3, 3), mode="wrap")
    white = brain & (folds > 0)
    sphere = ellipsoid(HR, share=0.14, centre=(0.45, 0.35, 0.55)) & brain
    sphere &= lesion
    level = {
        Metabolite.TNAA: (9.0, 11.0, 3.0),
        Metabolite.TCHO: (1.2, 1.6, 3.5),
        Metabolite.GLU: (9.0, 6.5, 4.0),
        Metabolite.GLN: (2.0, 1.5, 4.0),
        Metabolite.HG2: (0.0, 0.0, 6.0),
    }
    truth: dict[str, np.ndarray] = {"brain": brain, "lesion": sphere}
    maps = []
    inside = kspace.forward(brain.astype(np.float64), LR) > 0.5
    for metabolite, (grey, wm, tumour) in level.items():
        hr = np.where(sphere, tumour, np.where(white, wm, np.where(brain, grey, 0.0)))
        truth[metabolite] = hr
        lr = kspace.forward(hr, LR) + noise * rng.standard_normal(LR)
        sigma = max(noise, 0.01)
        found = inside & (lr > sigma)
        crlb = np.where(found, 100 * sigma / np.where(found, lr, 1.0), 999.0).astype(np.float32)
        maps.append(
            MetaboliteMap(
                metabolite, np.where(found, lr, 0.0).astype(np.float32), Unit.MMOL_PER_L, grid, crlb
            )
        )
    fine = grid.refined((4, 4, 4))
    contrast = np.where(white, 1.0, np.where(brain, 0.6, 0.0)) + 0.01 * brain * rng.standard_normal(HR)
    t1 = AnatomicalImage(Contrast.T1, contrast.astype(np.float32), fine)
    flair = AnatomicalImage(Contrast.FLAIR, (brain * (1.4 - contrast)).astype(np.float32), fine)
    return Acquisition(tuple(maps), (t1, flair), brain_mask=inside, acquired_matrix=LR), truth


def scaled(acquisition: Acquisition, k: float) -> Acquisition:
    """The same study with every map times ``k``."""
    return replace(
        acquisition, maps=tuple(replace(m, values=m.values * np.float32(k)) for m in acquisition.maps)
    )
