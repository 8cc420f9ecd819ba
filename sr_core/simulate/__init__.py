"""Simulated MRSI studies: tissue -> metabolite maps, anatomy, quality maps, k-space acquisition."""

from .lesion import REGIMES, LesionPlan, Regime
from .study import Options, SimulatedStudy, simulate
from .tissue import TissueModel, from_icbm152, from_labels, read_labels

__all__ = [
    "REGIMES",
    "LesionPlan",
    "Options",
    "Regime",
    "SimulatedStudy",
    "TissueModel",
    "from_icbm152",
    "from_labels",
    "read_labels",
    "simulate",
]
