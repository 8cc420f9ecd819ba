"""Feature non-local means: maps re-interpolated with weights from the anatomical image.

A reading of Jafari-Khouzani (IEEE TMI 33:1969, 2014), whose feature list and parameters are not
known to us. Weights come from features of the guide, once per study, and serve all maps and passes.
"""

from .features import guide_features
from .modes import boxmean, dc, joint, restore, single
from .parameters import Fnlm, Mode
from .weights import GuideWeights, guide_weights, operator, window

__all__ = [
    "Fnlm",
    "GuideWeights",
    "Mode",
    "boxmean",
    "dc",
    "guide_features",
    "guide_weights",
    "joint",
    "operator",
    "restore",
    "single",
    "window",
]
