"""Concentrations of metabolites in healthy and diseased tissue, mmol/L."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sr_core.maps import Volume
from sr_core.metabolites import Metabolite
from sr_core.nlm import bounding_box

from .fields import smooth_field
from .lesion import LesionModel
from .tissue import TissueModel


@dataclass(frozen=True)
class Chemistry:
    """One metabolite: mmol/L in white matter, grey matter, viable tumour and its necrotic core (CSF: 0).

    ``crlb_percent`` is the median Cramér–Rao lower bound in a good 3T study: over the brain, or, for
    what healthy tissue does not have, over the tumour.
    """

    wm: float
    gm: float
    tumour: float
    necrosis: float
    crlb_percent: float


# White and grey matter: sums of the usual 7T and 3T values (NAA + NAAG, Cr + PCr, GPC + PCh). Tumour:
# IDH-mutant glioma of high grade; tCho up, tNAA down, Gln up, several mmol/L of 2HG.
CHEMISTRY: dict[Metabolite, Chemistry] = {
    Metabolite.TNAA: Chemistry(11.2, 9.2, 3.6, 0.8, 3.0),
    Metabolite.TCHO: Chemistry(1.6, 1.3, 3.4, 0.7, 4.0),
    Metabolite.TCR: Chemistry(7.1, 7.8, 5.6, 1.2, 3.0),
    Metabolite.INS: Chemistry(5.4, 4.9, 6.6, 1.5, 5.0),
    Metabolite.GLU: Chemistry(8.3, 8.1, 5.6, 1.2, 6.0),
    Metabolite.GLN: Chemistry(2.5, 2.4, 4.2, 1.0, 15.0),
    Metabolite.HG2: Chemistry(0.0, 0.0, 5.0, 1.0, 10.0),
}
# The rest of the usual list: parts of the sums above, and what is fitted less surely. Lactate and lipid
# are those of tumour and necrosis.
MORE: dict[Metabolite, Chemistry] = {
    Metabolite.NAA: Chemistry(8.8, 8.3, 3.0, 0.7, 4.0),
    Metabolite.NAAG: Chemistry(2.4, 0.9, 0.6, 0.1, 12.0),
    Metabolite.CR: Chemistry(4.9, 5.3, 3.9, 0.8, 8.0),
    Metabolite.PCR: Chemistry(2.2, 2.5, 1.7, 0.4, 10.0),
    Metabolite.GPC: Chemistry(1.0, 0.7, 1.9, 0.4, 6.0),
    Metabolite.PCH: Chemistry(0.6, 0.6, 1.5, 0.3, 10.0),
    Metabolite.GLX: Chemistry(10.8, 10.5, 9.8, 2.2, 8.0),
    Metabolite.GSH: Chemistry(1.1, 1.5, 1.8, 0.4, 12.0),
    Metabolite.GABA: Chemistry(1.2, 1.9, 1.0, 0.2, 16.0),
    Metabolite.GLY: Chemistry(0.7, 0.7, 2.5, 0.6, 16.0),
    Metabolite.TAU: Chemistry(1.7, 1.8, 2.0, 0.4, 16.0),
    Metabolite.LAC: Chemistry(0.0, 0.0, 3.0, 6.0, 15.0),
    Metabolite.LIP: Chemistry(0.0, 0.0, 1.0, 8.0, 15.0),
}
# Tumour in the paper's model (Li et al. 2022, Methods, "Training Data Simulation").
TAUS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
REGIONAL_SPREAD = 0.06  # SD of slow variation over the brain, relative
OWN_TEXTURE = 0.10  # SD of texture that a metabolite does not share with the others, relative


def chemistry_of(metabolite: Metabolite) -> Chemistry:
    """Of any metabolite that is simulated."""
    return CHEMISTRY.get(metabolite) or MORE[metabolite]


def concentrations(
    tissue: TissueModel, lesion: LesionModel | None, metabolite: Metabolite, rng: np.random.Generator
) -> Volume:
    """``metabolite`` in mmol/L on the VHR grid of ``tissue``; zero outside grey and white matter."""
    c = chemistry_of(metabolite)
    shape = tissue.grid.shape
    box = bounding_box(tissue.parenchyma > 0)
    regional = smooth_field(rng, shape, 40.0)[box]
    own = smooth_field(rng, shape, 5.0)[box]
    values = (c.wm * tissue.wm[box] + c.gm * tissue.gm[box]) * (1 + REGIONAL_SPREAD * regional)
    if lesion is not None:
        # The shares of tumour are shares of the voxel: what is left of the parenchyma stays healthy.
        tumour, necrosis = lesion.tumour[box], lesion.necrosis[box]
        remaining = 1 - tumour / np.maximum(tissue.parenchyma[box], 1e-3)
        texture = lesion.texture[box] * (1 + OWN_TEXTURE * own)
        diseased = c.tumour * (tumour - necrosis) * texture + c.necrosis * necrosis
        values = values * remaining + diseased
    concentration = np.zeros(shape, dtype=np.float32)
    concentration[box] = np.maximum(values, 0)
    return concentration


def paper_model(tissue: TissueModel, lesion: LesionModel | None, tau: float) -> Volume:
    """0.1 GM + 0.12 WM + 0 CSF + τ TM, range normalised to 1 (Li et al. 2022, Methods)."""
    healthy = 0.1 * tissue.gm + 0.12 * tissue.wm
    if lesion is None:
        values = healthy
    else:
        remaining = 1 - lesion.tumour / np.maximum(tissue.parenchyma, 1e-3)
        values = healthy * remaining + tau * lesion.tumour
    return np.asarray(values / values.max(), dtype=np.float32)
