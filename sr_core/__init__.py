"""Super-resolution of MR spectroscopic imaging maps: arrays, millimetres and metabolites.

The front door. Knows no DICOM, network, database or clock; importing it imports no torch.
"""

from .align import resample
from .fnlm import Fnlm
from .grid import Affine, Grid, Shape
from .maps import (
    Acquisition,
    AnatomicalImage,
    Lesion,
    MapQuality,
    Mask,
    MetaboliteMap,
    Provenance,
    Quality,
    RatioMap,
    Region,
    RigidMotion,
    SuperResolved,
    SuperResolver,
    Uncertainty,
    UnusableAcquisition,
    Volume,
)
from .metabolites import Contrast, Metabolite, Ratio, Unit
from .resolve import METHODS, Settings, load

__all__ = [
    "METHODS",
    "Acquisition",
    "Affine",
    "AnatomicalImage",
    "Contrast",
    "Fnlm",
    "Grid",
    "Lesion",
    "MapQuality",
    "Mask",
    "Metabolite",
    "MetaboliteMap",
    "Provenance",
    "Quality",
    "Ratio",
    "RatioMap",
    "Region",
    "RigidMotion",
    "Settings",
    "Shape",
    "SuperResolved",
    "SuperResolver",
    "Uncertainty",
    "Unit",
    "UnusableAcquisition",
    "Volume",
    "load",
    "resample",
]
