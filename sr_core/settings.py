"""Every setting that changes a voxel, and the names of the methods."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from .grid import Shape

BASES = ("bicubic", "zerofill", "unet")
METHODS = tuple(f"{base}{fnlm}{dc}" for base in BASES for fnlm in ("", "+fnlm") for dc in ("", "+dc"))


@dataclass(frozen=True)
class Method:
    """``base[+fnlm][+dc]``: initial estimate, guided restoration, consistency with the measured map."""

    base: str
    fnlm: bool
    dc: bool

    def __str__(self) -> str:
        return self.base + "+fnlm" * self.fnlm + "+dc" * self.dc

    @classmethod
    def parse(cls, name: str) -> Method:
        """Raises ValueError, listing what there is, for any other name."""
        if name not in METHODS:
            raise ValueError(
                f"no method {name!r}; a method is base[+fnlm][+dc] with base one of {', '.join(BASES)}: "
                f"{', '.join(METHODS)}"
            )
        base, *rest = name.split("+")
        return cls(base, "fnlm" in rest, "dc" in rest)


@dataclass(frozen=True)
class Settings:
    """How maps are super-resolved. Frozen; ``digest`` names the whole of it.

    ``factor`` (slices, rows, columns). Limits of spectral quality: ``crlb_max_percent`` in %,
    ``snr_min``, ``linewidth_max_ppm`` (FWHM). ``ratios``: "after" super-resolves metabolites and
    divides then, "before" super-resolves the LR ratio (Li et al. 2022). ``ratio_floor_k``: a
    denominator counts as at least this many of its own σ. Lesions: ``tcn_times`` the reference
    tissue's median, ``hgg_k_sd`` SDs above it, ``hg2_min`` in the 2HG map's unit, ``min_volume_ml``.
    ``naa_as_tnaa`` lets NAA stand in for tNAA. ``denoise`` off leaves the LR values as measured.
    ``consistency``: "weighted" by noise, or "hard" replacement, for noise-free data.
    """

    factor: Shape = (4, 4, 4)
    crlb_max_percent: float = 20.0
    snr_min: float = 4.0
    linewidth_max_ppm: float = 0.1
    ratios: Literal["after", "before"] = "after"
    ratio_floor_k: float = 4.0
    tcn_times: float = 2.0
    hgg_k_sd: float = 3.0
    hg2_min: float = 1.0
    min_volume_ml: float = 0.5
    naa_as_tnaa: bool = False
    denoise: bool = True
    consistency: Literal["weighted", "hard"] = "weighted"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(int(f) for f in self.factor))
        if len(self.factor) != 3 or min(self.factor) < 1:
            raise ValueError(f"a factor is three whole numbers ≥ 1, not {self.factor}")
        if self.ratios not in ("after", "before"):
            raise ValueError(f"ratios are taken 'after' or 'before', not {self.ratios!r}")
        if self.consistency not in ("weighted", "hard"):
            raise ValueError(f"consistency is 'weighted' or 'hard', not {self.consistency!r}")

    def digest(self) -> str:
        """sha256 (hex) over every setting; equal settings, equal digest."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
