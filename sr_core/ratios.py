"""HGG = (2HG + Gln) / Glu and TCN = tCho / tNAA (Li et al. 2022, Methods, "Measured MRSI Data")."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from .maps import Mask, Volume
from .metabolites import Metabolite, Ratio

# A denominator counts as at least this share of its 99.9th percentile, however small its noise: in
# CSF both sides vanish, and their quotient means nothing.
_LEAST = 0.05


@dataclass(frozen=True)
class Recipe:
    """``ratio`` = sum of ``above`` over ``below``."""

    ratio: Ratio
    above: tuple[Metabolite, ...]
    below: Metabolite


def recipes(present: Collection[Metabolite], naa_as_tnaa: bool) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """What can be formed from the metabolites ``present``, and in sentences why the rest cannot."""
    tnaa, notes, possible = Metabolite.TNAA, [], []
    if tnaa not in present and naa_as_tnaa and Metabolite.NAA in present:
        tnaa = Metabolite.NAA
        notes.append("TCN takes NAA in place of tNAA, by site rule")
    for recipe in (
        Recipe(Ratio.HGG, (Metabolite.HG2, Metabolite.GLN), Metabolite.GLU),
        Recipe(Ratio.TCN, (Metabolite.TCHO,), tnaa),
    ):
        missing = [m for m in (*recipe.above, recipe.below) if m not in present]
        if not missing:
            possible.append(recipe)
            continue
        because = f"{recipe.ratio} is left out: there is no usable map of {' and '.join(missing)}"
        if Metabolite.GLX in present and {Metabolite.GLN, Metabolite.GLU} & set(missing):
            because += "; Glx is the sum of Glu and Gln and cannot stand in for either"
        if Metabolite.NAA in present and Metabolite.TNAA in missing:
            because += "; NAA stands in for tNAA only where a site rule says so"
        notes.append(because)
    return tuple(possible), tuple(notes)


def floor_of(below: Volume, sigma: Volume, k: float, brain: Mask) -> Volume:
    """The least a denominator counts as: ``k`` of its own σ, or 5 % of its 99.9th percentile."""
    high = float(np.percentile(below[brain], 99.9)) if brain.any() else 0.0
    least = max(_LEAST * high, float(np.finfo(np.float32).tiny))
    return np.asarray(np.maximum(k * sigma, least), dtype=np.float32)


def divide(above: Volume, below: Volume, floor: Volume, brain: Mask) -> Volume:
    """above / max(below, floor) inside ``brain``, 0 outside: no peaks where a denominator is noise."""
    quotient = np.maximum(above, 0.0) / np.maximum(below, floor)
    return np.asarray(np.where(brain, quotient, 0.0), dtype=np.float32)
