"""Simulated MRSI studies: tissue -> metabolite maps, anatomy, quality maps, k-space acquisition."""

from .chemistry import TAUS
from .external import Entry, read_pool, read_subject
from .lesion import REGIMES, LesionPlan, Regime
from .options import Options
from .outline import RealOutline, read_outlines
from .second import second_truth
from .study import SimulatedStudy, simulate
from .tissue import RealLesion, TissueModel, from_icbm152, from_labels, read_labels

__all__ = [
    "REGIMES",
    "TAUS",
    "Entry",
    "LesionPlan",
    "Options",
    "RealLesion",
    "RealOutline",
    "Regime",
    "SimulatedStudy",
    "TissueModel",
    "from_icbm152",
    "from_labels",
    "read_labels",
    "read_outlines",
    "read_pool",
    "read_subject",
    "second_truth",
    "simulate",
]
