"""Every setting that changes a voxel, and the names of the methods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from .fnlm.parameters import Fnlm
from .grid import Shape
from .metabolites import Metabolite
from .tv import Tv

VARIATIONAL = ("tv", "wtv", "dtv")  # data consistency is part of their solver
LEARNED = ("unet", "gan", "unet2", "gan2")  # a "2" takes T1 and FLAIR as further inputs
BASES = ("bicubic", "zerofill", *VARIATIONAL, "manjon", *LEARNED)
METHODS = tuple(f"{base}{fnlm}{dc}" for base in BASES for fnlm in ("", "+fnlm") for dc in ("", "+dc"))


@dataclass(frozen=True)
class Method:
    """``base[+fnlm][+dc]``: initial estimate, guided restoration, consistency with the measured map."""

    base: str
    fnlm: bool
    dc: bool

    def __str__(self) -> str:
        return self.base + "+fnlm" * self.fnlm + "+dc" * self.dc

    @property
    def needs_measurement(self) -> bool:
        """Whether it looks at the measured map beyond its first interpolation."""
        return self.dc or self.base in VARIATIONAL

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

    ``factor`` (slices, rows, columns). Limits of spectral quality: ``crlb_max_percent`` in %, for
    single metabolites ``crlb_max_percent_of``; ``snr_min``; ``linewidth_max_ppm`` (FWHM). ``ratios``:
    "after" super-resolves metabolites and divides then, "before" super-resolves the LR ratio (Li et
    al. 2022). ``ratio_floor_k``: a denominator counts as at least this many of its own σ. Lesions:
    ``tcn_times`` the reference tissue's median, ``hgg_k_sd`` SDs above it, ``hg2_min`` in the 2HG
    map's unit, ``min_volume_ml``. ``naa_as_tnaa`` lets NAA stand in for tNAA. ``denoise`` off leaves
    the LR values as measured. ``consistency``: "weighted" by noise, or "hard" replacement, for
    noise-free data. ``fnlm``: the parameters of feature non-local means; ``tv``: of total variation
    (its kind is the method's base). ``motion``: what to do where
    anatomy of the maps' own Frame of Reference seems to lie elsewhere. Raises ValueError, naming the
    setting.
    """

    factor: Shape = (4, 4, 4)
    crlb_max_percent: float = 20.0
    crlb_max_percent_of: Mapping[str, float] = field(default_factory=dict)
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
    fnlm: Fnlm = field(default_factory=Fnlm)
    tv: Tv = field(default_factory=Tv)
    motion: Literal["ignore", "warn", "correct"] = "correct"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(int(f) for f in self.factor))
        if len(self.factor) != 3 or min(self.factor) < 1:
            raise ValueError(f"a factor is three whole numbers ≥ 1, not {self.factor}")
        if self.ratios not in ("after", "before"):
            raise ValueError(f"ratios are taken 'after' or 'before', not {self.ratios!r}")
        if self.consistency not in ("weighted", "hard"):
            raise ValueError(f"consistency is 'weighted' or 'hard', not {self.consistency!r}")
        if self.motion not in ("ignore", "warn", "correct"):
            raise ValueError(f"motion is 'ignore', 'warn' or 'correct', not {self.motion!r}")
        unknown = sorted(set(self.crlb_max_percent_of) - set(Metabolite))
        if unknown:
            raise ValueError(f"crlb_max_percent_of names no metabolite: {', '.join(unknown)}")

    def digest(self) -> str:
        """sha256 (hex) over every setting; equal settings, equal digest."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
