"""A whole simulated case with its truth: the paper's data model, and harder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sr_core import kspace
from sr_core.grid import Grid
from sr_core.maps import Acquisition, Mask, MetaboliteMap, RatioMap, Volume
from sr_core.metabolites import Contrast, Metabolite, Ratio, Unit

from .anatomy import anatomical_image, misregistered, small_motion
from .chemistry import CHEMISTRY, MORE, chemistry_of, concentrations
from .lesion import REGIMES, LesionModel, LesionPlan, Regime, draw_lesion
from .measure import TYPICAL_SNR, draw_artefacts, fit, kspace_noise, linewidth_map, snr_map, spoil
from .tissue import FACTOR, FRAME_OF_REFERENCE, HR_SHAPE, LR_SHAPE, VHR_SHAPE, TissueModel

# Lipid at the rim overlaps tNAA's singlet at 2.0 ppm most, and Glu and Gln next to it.
LIPID_SHARE = {Metabolite.TNAA: 1.0, Metabolite.GLU: 0.5, Metabolite.GLN: 0.5}
# A ratio's truth exists where its denominator is above this share of the brain's median.
RATIO_FLOOR = 0.1
# Share of white matter in an LR voxel from which it counts as white matter.
MOSTLY_WHITE = 0.8


@dataclass(frozen=True)
class Options:
    """How a case is simulated.

    ``regime``: how the lesion that anatomy shows relates to the metabolic one (``draw_lesion``), or
    that the anatomy is misregistered; ``lesion`` None: healthy. ``noise`` multiplies the usual noise
    of each metabolite (0: none, LR maps are exact). ``snr`` instead gives every LR map the same
    signal-to-noise ratio, that of white matter's median (of 2HG: of the tumour's), by white noise.
    ``artefacts``: spikes, lipid rim, missing voxels. ``psf``: the acquisition's k-space filter.
    ``masked``: values outside the brain are exported as 0; else the whole field of view is, with CRLB
    and without S/N and linewidth, so that noise-free LR maps are ``kspace.forward`` of the truth
    everywhere, as hard data consistency assumes. ``metabolites``: the seven "usual" ones, or "all"
    twenty that are known. Raises ValueError where that cannot be.
    """

    regime: Regime = "mismatch"
    noise: float = 1.0
    lesion: LesionPlan | None = field(default_factory=LesionPlan)
    artefacts: bool = True
    snr: float | None = None
    psf: Literal["none", "hamming"] = "none"
    masked: bool = True
    metabolites: Literal["usual", "all"] = "usual"

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ValueError(f"no regime {self.regime!r}; there is {', '.join(REGIMES)}")
        if self.noise < 0 or (self.snr is not None and self.snr <= 0):
            raise ValueError(f"noise is ≥ 0 and an SNR > 0, not {self.noise} and {self.snr}")
        if self.psf not in ("none", "hamming"):
            raise ValueError(f"a psf is 'none' or 'hamming', not {self.psf!r}")
        if self.metabolites not in ("usual", "all"):
            raise ValueError(f"metabolites are the 'usual' ones or 'all', not {self.metabolites!r}")
        if self.artefacts and not self.masked:
            raise ValueError("artefacts are drawn for masked exports only")


@dataclass(frozen=True, eq=False)
class SimulatedStudy:
    """What a site would export, and on ``grid`` (the super-resolved one) what is true.

    ``truth`` is the VHR map cropped in k-space ("first type" of ground truth, Li et al. 2022): LR maps
    are ``kspace.forward`` of it plus noise. ``lesions``: "metabolic", "necrosis", "flair", each where
    its share is above a half, and left out where the regime has none of it; empty if healthy.
    ``noise_sigma``: SD of LR noise in mmol/L where the linewidth is typical.
    """

    acquisition: Acquisition
    grid: Grid
    truth: tuple[MetaboliteMap, ...]
    truth_ratios: tuple[RatioMap, ...]
    brain: Mask
    lesions: Mapping[str, Mask]
    noise_sigma: Mapping[Metabolite, float]
    anatomy_name: str
    seed: int
    options: Options

    def truth_of(self, metabolite: Metabolite) -> MetaboliteMap:
        """The true map of ``metabolite``. Raises KeyError if it was not simulated."""
        for m in self.truth:
            if m.metabolite == metabolite:
                return m
        raise KeyError(metabolite)


def measured_grid(tissue: TissueModel) -> Grid:
    """The 46 × 46 × 32 grid over the field of view of ``tissue``, with the same first voxel centre."""
    affine = tissue.grid.affine.copy()
    affine[:3, :3] *= np.array(VHR_SHAPE) / np.array(LR_SHAPE)
    return Grid(LR_SHAPE, affine, FRAME_OF_REFERENCE)


def simulate(tissue: TissueModel, seed: int, options: Options = Options()) -> SimulatedStudy:
    """A 3D MRSI study of ``tissue`` at 5.5 × 5.6 × 5.6 mm with T1 and FLAIR at 1 mm.

    Maps of tNAA, tCho, tCr, Ins, Glu, Gln, 2HG, or of all twenty metabolites, in mmol/L with CRLB, SNR
    and linewidth. The same seed
    and options give the same study; each part draws from a stream of its own, so that switching one
    option changes nothing else.
    """
    lesion_rng, chemistry_rng, anatomy_rng, noise_rng, artefact_rng, motion_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)
    )
    lesion = (
        None if options.lesion is None else draw_lesion(tissue, options.lesion, options.regime, lesion_rng)
    )
    lr_grid = measured_grid(tissue)
    grid = lr_grid.refined(FACTOR)
    simulated = [*CHEMISTRY, *(MORE if options.metabolites == "all" else ())]
    truth = {m: kspace.forward(concentrations(tissue, lesion, m, chemistry_rng), HR_SHAPE) for m in simulated}
    brain_hr = kspace.forward(tissue.brain, HR_SHAPE)
    brain = np.asarray(kspace.forward(brain_hr, LR_SHAPE) > 0.5)
    measured = brain if options.masked else np.ones(LR_SHAPE, dtype=bool)
    psf = kspace.hamming_psf(LR_SHAPE) if options.psf == "hamming" else None

    clean = {m: kspace.forward(t, LR_SHAPE, psf) for m, t in truth.items()}
    linewidth = linewidth_map(noise_rng, brain, lr_grid.spacing_mm)
    typical_snr = options.snr or TYPICAL_SNR / max(options.noise, 0.1)
    snr = snr_map(clean[Metabolite.TNAA] + clean[Metabolite.TCR], linewidth, brain, typical_snr)
    sigma = _sigmas(tissue, lesion, clean, brain, options)
    width = linewidth if options.snr is None and options.masked else None
    fits = {
        m: fit(c, kspace_noise(noise_rng, LR_SHAPE, psf), sigma[m], width, measured) for m, c in clean.items()
    }
    if options.artefacts:
        artefacts = draw_artefacts(artefact_rng, brain)
        fits = {m: spoil(f, artefacts, LIPID_SHARE.get(m, 0.1), brain, artefact_rng) for m, f in fits.items()}
        snr, linewidth = (np.asarray(v * ~artefacts.missing, dtype=np.float32) for v in (snr, linewidth))
    anatomy = tuple(anatomical_image(tissue, lesion, c, anatomy_rng) for c in Contrast)
    if options.regime == "misregistered":
        motion = small_motion(tissue, motion_rng)
        anatomy = tuple(misregistered(image, motion) for image in anatomy)

    unit = Unit.MMOL_PER_L
    return SimulatedStudy(
        acquisition=Acquisition(
            maps=tuple(MetaboliteMap(m, f.values, unit, lr_grid, f.crlb_percent) for m, f in fits.items()),
            anatomy=anatomy,
            snr=snr if options.masked else None,
            linewidth_ppm=linewidth if options.masked else None,
            brain_mask=brain,
            acquired_matrix=LR_SHAPE,
            psf=options.psf,
        ),
        grid=grid,
        truth=tuple(MetaboliteMap(m, t, unit, grid) for m, t in truth.items()),
        truth_ratios=_ratios(truth, np.asarray(brain_hr > 0.5), grid),
        brain=np.asarray(brain_hr > 0.5),
        lesions={} if lesion is None else _masks(lesion),
        noise_sigma=sigma,
        anatomy_name=tissue.name,
        seed=seed,
        options=options,
    )


def _sigmas(
    tissue: TissueModel,
    lesion: LesionModel | None,
    clean: Mapping[Metabolite, Volume],
    brain: Mask,
    options: Options,
) -> dict[Metabolite, float]:
    """SD of LR noise of each map, mmol/L: its usual median CRLB times the noise, or the asked-for SNR.

    The signal of a metabolite that healthy tissue has is its median in the brain (for an SNR: in white
    matter); of another, its median in the tumour, or, without one, the tumour's usual concentration.
    """
    tumour = np.zeros(LR_SHAPE, dtype=bool)
    if lesion is not None:
        tumour = kspace.forward(kspace.forward(lesion.tumour, HR_SHAPE), LR_SHAPE) > 0.5
    normal = brain
    if options.snr is not None:
        normal = kspace.forward(kspace.forward(tissue.wm, HR_SHAPE), LR_SHAPE) > MOSTLY_WHITE
        normal &= ~tumour
    sigmas: dict[Metabolite, float] = {}
    for m, values in clean.items():
        c = chemistry_of(m)
        where = normal if c.wm > 0 else tumour
        signal = float(np.median(values[where])) if where.any() else c.tumour
        sigmas[m] = signal / options.snr if options.snr else options.noise * (c.crlb_percent / 100 * signal)
    return sigmas


def _ratios(truth: Mapping[Metabolite, Volume], brain: Mask, grid: Grid) -> tuple[RatioMap, ...]:
    def divided(top: Volume, below: Volume) -> Volume:
        defined = brain & (below > RATIO_FLOOR * np.median(below[brain]))
        return np.divide(top, below, out=np.zeros_like(top), where=defined)

    hgg = divided(truth[Metabolite.HG2] + truth[Metabolite.GLN], truth[Metabolite.GLU])
    tcn = divided(truth[Metabolite.TCHO], truth[Metabolite.TNAA])
    return RatioMap(Ratio.HGG, hgg, grid), RatioMap(Ratio.TCN, tcn, grid)


def _masks(lesion: LesionModel) -> dict[str, Mask]:
    shares = {"metabolic": lesion.tumour, "necrosis": lesion.necrosis, "flair": lesion.flair}
    return {
        name: np.asarray(kspace.forward(share, HR_SHAPE) > 0.5)
        for name, share in shares.items()
        if share.any()
    }
