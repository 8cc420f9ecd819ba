"""T1-weighted and FLAIR images of a simulated case: tissue contrast, lesion, bias field, noise."""

from __future__ import annotations

import numpy as np

from sr_core.maps import AnatomicalImage, Volume
from sr_core.metabolites import Contrast

from .fields import smooth_field
from .lesion import LesionModel
from .tissue import TissueModel

# Relative signal of white matter, grey matter, CSF, lesion, necrosis.
SIGNAL: dict[Contrast, tuple[float, float, float, float, float]] = {
    Contrast.T1: (1.0, 0.72, 0.28, 0.58, 0.38),
    Contrast.FLAIR: (0.58, 0.76, 0.12, 1.25, 0.45),
}
WHITE_MATTER_SIGNAL = 600.0
BIAS_SD = 0.08
NOISE_SD = 0.02


def anatomical_image(
    tissue: TissueModel, lesion: LesionModel | None, contrast: Contrast, rng: np.random.Generator
) -> AnatomicalImage:
    """``contrast`` on the 1 mm grid in arbitrary units; Rician-like noise and bias field; air is near 0."""
    wm, gm, csf, ill, dead = SIGNAL[contrast]
    if contrast is Contrast.T1 and tissue.t1 is not None:
        healthy: Volume = tissue.t1 / float(np.median(tissue.t1[tissue.wm > 0.9]))
    else:
        healthy = wm * tissue.wm + gm * tissue.gm + csf * tissue.csf
        healthy = healthy * (1 + 0.03 * smooth_field(rng, tissue.grid.shape, 4.0))
    values = healthy
    if lesion is not None:
        share = lesion.flair
        texture = 1 + 0.4 * (lesion.texture - 1)
        values = values * (1 - share) + share * ill * texture
        values = values * (1 - lesion.necrosis) + lesion.necrosis * dead
    bias = np.exp(BIAS_SD * smooth_field(rng, tissue.grid.shape, 90.0))
    noise = rng.standard_normal((2, *tissue.grid.shape), dtype=np.float32) * np.float32(NOISE_SD * wm)
    measured = np.hypot(values * bias + noise[0], noise[1]) * (tissue.brain > 0.02)
    return AnatomicalImage(
        contrast, np.asarray(WHITE_MATTER_SIGNAL / wm * measured, dtype=np.float32), tissue.grid
    )
