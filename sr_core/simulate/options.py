"""How a case is simulated: every choice, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sr_core.grid import Shape
from sr_core.metabolites import Contrast

from .lesion import REGIMES, LesionPlan, Regime
from .tissue import FACTOR, LR_SHAPE


@dataclass(frozen=True)
class Options:
    """How a case is simulated.

    ``regime``: how the lesion that anatomy shows relates to the metabolic one (``draw_lesion``), or
    that the anatomy is misregistered; ``lesion`` None: healthy; ``lesion_on``: the contrasts that show
    it at all. ``noise`` multiplies the usual noise of each metabolite (0: none, LR maps are exact).
    ``snr`` instead gives every LR map the same signal-to-noise ratio, that of white matter's median (of
    2HG: of the tumour's), by white noise. ``artefacts``: spikes, lipid rim, missing voxels. ``psf``: the
    acquisition's k-space filter. ``masked``: values outside the brain are exported as 0; else the whole
    field of view is, with CRLB and without S/N and linewidth, so that noise-free LR maps are
    ``kspace.forward`` of the truth everywhere, as hard data consistency assumes. ``metabolites``: the
    seven "usual" ones, "all" twenty that are known, or "paper": one map in arbitrary units, called tCho,
    by ``chemistry.paper_model`` with ``tau``. ``matrix``: the k-space samples that are measured, (slices,
    rows, columns); ``factor``: how much finer the truth is. With a factor of 1 along slices they are
    those of a slab, each SLICE_MM thick, instead of spanning the head. Raises ValueError where that
    cannot be.
    """

    regime: Regime = "mismatch"
    noise: float = 1.0
    lesion: LesionPlan | None = field(default_factory=LesionPlan)
    artefacts: bool = True
    snr: float | None = None
    psf: Literal["none", "hamming"] = "none"
    masked: bool = True
    metabolites: Literal["usual", "all", "paper"] = "usual"
    tau: float = 0.5
    lesion_on: tuple[Contrast, ...] = tuple(Contrast)
    matrix: Shape = LR_SHAPE
    factor: Shape = FACTOR

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ValueError(f"no regime {self.regime!r}; there is {', '.join(REGIMES)}")
        if self.noise < 0 or (self.snr is not None and self.snr <= 0):
            raise ValueError(f"noise is ≥ 0 and an SNR > 0, not {self.noise} and {self.snr}")
        if self.psf not in ("none", "hamming"):
            raise ValueError(f"a psf is 'none' or 'hamming', not {self.psf!r}")
        if self.metabolites not in ("usual", "all", "paper"):
            raise ValueError(f"metabolites are 'usual', 'all' or 'paper', not {self.metabolites!r}")
        if self.tau <= 0:
            raise ValueError(f"tau is > 0, not {self.tau}")
        if not set(self.lesion_on) <= set(Contrast):
            raise ValueError(f"a lesion shows on {', '.join(Contrast)}, not on {self.lesion_on}")
        for what, values in (("matrix", self.matrix), ("factor", self.factor)):
            if len(values) != 3 or min(values) < 1:
                raise ValueError(f"a {what} is three whole numbers ≥ 1, not {values}")
        if self.artefacts and not self.masked:
            raise ValueError("artefacts are drawn for masked exports only")
