"""Metabolites, ratios, contrasts and units: the spectroscopist's words, spelled once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Metabolite(StrEnum):
    """A quantity that spectral fitting gives per voxel. The value is its one spelling everywhere."""

    NAA = "NAA"
    NAAG = "NAAG"
    TNAA = "tNAA"
    CR = "Cr"
    PCR = "PCr"
    TCR = "tCr"
    GPC = "GPC"
    PCH = "PCh"
    TCHO = "tCho"
    INS = "Ins"
    GLU = "Glu"
    GLN = "Gln"
    GLX = "Glx"
    HG2 = "2HG"
    GSH = "GSH"
    GABA = "GABA"
    GLY = "Gly"
    TAU = "Tau"
    LAC = "Lac"
    LIP = "Lip"


class Ratio(StrEnum):
    """Ratio maps (Li et al. 2022, Methods, "Measured MRSI Data")."""

    HGG = "HGG"  # (2HG + Gln) / Glu
    TCN = "TCN"  # tCho / tNAA


class Contrast(StrEnum):
    """Anatomical contrast of an MR series."""

    T1 = "T1"
    FLAIR = "FLAIR"


class Unit(StrEnum):
    """Unit of a map, as UCUM writes it."""

    ARBITRARY = "[arb'U]"
    MMOL_PER_KG = "mmol/kg{WetWeight}"
    MMOL_PER_L = "mmol/L"
    RATIO = "{ratio}"


# "Not detected" is a measured low for these: outside a tumour their true value is near zero, so a
# relative CRLB says nothing. They go by absolute CRLB and are never inpainted (decisions/0003).
BY_ABSOLUTE_CRLB = frozenset({Metabolite.HG2, Metabolite.GLN, Metabolite.LAC, Metabolite.LIP})

# Fitted between 0.9 and 2.4 ppm, where lipid of the scalp leaks in at the rim of the brain. 2HG and
# Gln lie there too, but a high 2HG at the brain's surface may be all there is of a tumour.
NEAR_LIPID = frozenset(
    {
        Metabolite.NAA,
        Metabolite.NAAG,
        Metabolite.TNAA,
        Metabolite.GLU,
        Metabolite.GLX,
        Metabolite.LAC,
        Metabolite.LIP,
    }
)


@dataclass(frozen=True)
class UsualRange:
    """Plausible concentrations in brain, mmol/L; outside it a warning, never a rejection."""

    low: float
    high: float


# Concentrations in healthy white and grey matter and in glioma, widened two-fold.
USUAL_MMOL_PER_L: dict[Metabolite, UsualRange] = {
    Metabolite.NAA: UsualRange(0.5, 20.0),
    Metabolite.TNAA: UsualRange(0.5, 25.0),
    Metabolite.TCR: UsualRange(1.0, 16.0),
    Metabolite.TCHO: UsualRange(0.3, 6.0),
    Metabolite.INS: UsualRange(1.0, 15.0),
    Metabolite.GLU: UsualRange(1.0, 20.0),
    Metabolite.GLN: UsualRange(0.0, 10.0),
    Metabolite.HG2: UsualRange(0.0, 20.0),
}
