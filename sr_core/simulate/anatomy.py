"""T1-weighted and FLAIR images of a simulated case: tissue contrast, lesion, bias field, noise."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sr_core.grid import Affine, Grid
from sr_core.maps import AnatomicalImage, Mask, Volume
from sr_core.metabolites import Contrast
from sr_core.nlm import bounding_box

from .fields import smooth_field
from .lesion import LesionModel
from .tissue import TissueModel

# Relative signal of white matter, grey matter, CSF, lesion, necrosis.
SIGNAL: dict[Contrast, tuple[float, float, float, float, float]] = {
    Contrast.T1: (1.0, 0.72, 0.28, 0.58, 0.38),
    Contrast.FLAIR: (0.58, 0.76, 0.12, 1.25, 0.45),
}
WHITE_MATTER_SIGNAL = 600.0
# Share of brain in a voxel from which brain extraction keeps it.
SEEN = 0.02
BIAS_SD = 0.08
NOISE_SD = 0.02
# A head that moved a little between anatomy and MRSI, as no header tells.
MOVED_MM, TURNED_DEG = 2.0, 2.0


def anatomical_image(
    tissue: TissueModel, lesion: LesionModel | None, contrast: Contrast, rng: np.random.Generator
) -> AnatomicalImage:
    """``contrast`` on the 1 mm grid in arbitrary units; Rician-like noise and bias field; air is near 0.

    The real image of the tissue, where it has one, else made from its tissues, with ``lesion`` painted
    in. A real image with a lesion of its own stays as it is, and gives way to a made one where
    ``lesion`` (None, or none on anatomy) says that nothing is seen.
    """
    wm, gm, csf, ill, dead = SIGNAL[contrast]
    real = tissue.image_of(contrast)
    if tissue.lesion is not None:
        real = real if lesion is not None and lesion.flair.any() else None
        lesion = lesion if real is None else None
    box = bounding_box(tissue.brain > SEEN)
    if real is not None:
        values: Volume = np.asarray(wm * real[box] / float(np.median(real[_sure_white_matter(tissue)])))
    else:
        values = wm * tissue.wm[box] + gm * tissue.gm[box] + csf * tissue.csf[box]
        values = values * (1 + 0.03 * smooth_field(rng, tissue.grid.shape, 4.0)[box])
    if lesion is not None:
        share, core = lesion.flair[box], lesion.core[box]
        texture = 1 + 0.4 * (lesion.texture[box] - 1)
        values = values * (1 - share) + share * ill * texture
        values = values * (1 - core) + core * dead
    bias = np.exp(BIAS_SD * smooth_field(rng, tissue.grid.shape, 90.0)[box])
    noise = rng.standard_normal((2, *tissue.grid.shape), dtype=np.float32)[:, *box] * np.float32(
        NOISE_SD * wm
    )
    measured = np.zeros(tissue.grid.shape, dtype=np.float32)
    measured[box] = np.hypot(values * bias + noise[0], noise[1]) * (tissue.brain[box] > SEEN)
    measured[box] *= WHITE_MATTER_SIGNAL / wm
    return AnatomicalImage(contrast, measured, tissue.grid)


def _sure_white_matter(tissue: TissueModel) -> Mask:
    sure = tissue.wm > 0.9
    return sure if tissue.lesion is None else sure & ~tissue.lesion.whole


def misregistered(image: AnatomicalImage, motion: Affine) -> AnatomicalImage:
    """``image`` with its pixels moved by ``motion`` (LPS mm) and its Frame of Reference kept."""
    grid = image.grid
    return AnatomicalImage(
        image.contrast, image.values, Grid(grid.shape, motion @ grid.affine, grid.frame_of_reference)
    )


def small_motion(tissue: TissueModel, rng: np.random.Generator) -> Affine:
    """A rigid motion of LPS mm: MOVED_MM at the brain's centre and TURNED_DEG about it.

    Direction and axis are drawn uniformly on the sphere.
    """
    direction, axis = rng.standard_normal((2, 3))
    direction /= np.linalg.norm(direction)
    turn = Rotation.from_rotvec(np.radians(TURNED_DEG) * axis / np.linalg.norm(axis)).as_matrix()
    where = np.argwhere(tissue.brain[::4, ::4, ::4] > 0.5)
    centre = tissue.grid.to_patient(4.0 * where.mean(axis=0))
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre + MOVED_MM * direction - turn @ centre
    return motion
