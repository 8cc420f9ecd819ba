"""A whole simulated case with its truth: the paper's data model, and harder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from sr_core import kspace
from sr_core.grid import Grid
from sr_core.maps import Acquisition, Mask, MetaboliteMap, RatioMap, Volume
from sr_core.metabolites import Contrast, Metabolite, Ratio, Unit
from sr_core.nlm import bounding_box

from .anatomy import anatomical_image, misregistered, small_motion
from .chemistry import CHEMISTRY, MORE, chemistry_of, concentrations, paper_model
from .lesion import LesionModel, draw_lesion
from .measure import TYPICAL_SNR, Reach, draw_artefacts, fit, kspace_noise, linewidth_map, snr_map, spoil
from .options import Options
from .scan import Scan, measured_grid
from .tissue import TissueModel

__all__ = ["SimulatedStudy", "measured_grid", "simulate"]

# What the one map of the paper's model is called.
PAPER_MAP = Metabolite.TCHO
# Lipid at the rim overlaps tNAA's singlet at 2.0 ppm most, and Glu and Gln next to it.
LIPID_SHARE = {Metabolite.TNAA: 1.0, Metabolite.GLU: 0.5, Metabolite.GLN: 0.5}
# A ratio's truth exists where its denominator is above this share of the brain's median.
RATIO_FLOOR = 0.1
# Share of white matter in an LR voxel from which it counts as white matter.
MOSTLY_WHITE = 0.8
# Share of grey or white matter in an SR voxel from which it counts as nothing else.
PURE = 0.9


@dataclass(frozen=True, eq=False)
class SimulatedStudy:
    """What a site would export, and on ``grid`` (the super-resolved one) what is true.

    ``truth`` is the VHR map cropped in k-space ("first type" of ground truth, Li et al. 2022): LR maps
    are ``kspace.forward`` of it plus noise. ``tissue``: "gm" and "wm", where nearly all of the voxel is
    healthy grey or white matter, by share above PURE. ``lesions``: "metabolic", "necrosis", "flair", each
    where its share is above a half, and left out where the regime has none of it; empty if healthy.
    ``noise_sigma``: SD of LR noise, in the maps' unit, where the linewidth is typical.
    """

    acquisition: Acquisition
    grid: Grid
    truth: tuple[MetaboliteMap, ...]
    truth_ratios: tuple[RatioMap, ...]
    brain: Mask
    tissue: Mapping[str, Mask]
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


def simulate(
    tissue: TissueModel,
    seed: int,
    options: Options = Options(),  # noqa: B008 - frozen
) -> SimulatedStudy:
    """A 3D MRSI study of ``tissue`` at 5.5 × 5.6 × 5.6 mm (or as ``options`` say) with T1 and FLAIR at 1 mm.

    Maps of tNAA, tCho, tCr, Ins, Glu, Gln, 2HG, or of all twenty metabolites, in mmol/L, or the paper's
    one, with CRLB, SNR and linewidth. The same seed and options give the same study; each part draws from
    a stream of its own, so that switching one option changes nothing else. Raises ValueError for a
    matrix and factor finer than ``tissue``.
    """
    with threadpool_limits(1, user_api="blas"):  # many small products: threads would wait for each other
        return _simulated(tissue, seed, options)


def _simulated(tissue: TissueModel, seed: int, options: Options) -> SimulatedStudy:
    lesion_rng, chemistry_rng, anatomy_rng, noise_rng, artefact_rng, motion_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)
    )
    lesion = (
        None if options.lesion is None else draw_lesion(tissue, options.lesion, options.regime, lesion_rng)
    )
    scan = Scan.of(tissue, options.matrix, options.factor, lesion)
    truth = {m: scan.truth(v) for m, v in _metabolism(tissue, lesion, options, chemistry_rng)}
    brain_hr = scan.truth(tissue.brain)
    brain = np.asarray(scan.measured(brain_hr) > 0.5)
    measured = brain if options.masked else np.ones(scan.lr.shape, dtype=bool)
    psf = kspace.hamming_psf(scan.lr.shape) if options.psf == "hamming" else None

    clean = {m: scan.measured(t, psf) for m, t in truth.items()}
    linewidth = linewidth_map(noise_rng, brain, scan.lr.spacing_mm, _head(tissue, scan, brain))
    typical_snr = options.snr or TYPICAL_SNR / max(options.noise, 0.1)
    highest = [clean[m] for m in (Metabolite.TNAA, Metabolite.TCR) if m in clean] or [*clean.values()]
    snr = snr_map(sum(highest[1:], highest[0]), linewidth, brain, typical_snr)
    sigma = _sigmas(tissue, lesion, scan, clean, brain, options)
    width = linewidth if options.snr is None and options.masked else None
    fits = {
        m: fit(c, kspace_noise(noise_rng, scan.lr.shape, psf), sigma[m], width, measured)
        for m, c in clean.items()
    }
    if options.artefacts:
        artefacts = draw_artefacts(artefact_rng, brain)
        fits = {m: spoil(f, artefacts, LIPID_SHARE.get(m, 0.1), brain, artefact_rng) for m, f in fits.items()}
        snr, linewidth = (np.asarray(v * ~artefacts.missing, dtype=np.float32) for v in (snr, linewidth))
    anatomy = tuple(
        anatomical_image(tissue, lesion if c in options.lesion_on else None, c, anatomy_rng) for c in Contrast
    )
    if options.regime == "misregistered":
        motion = small_motion(tissue, motion_rng)
        anatomy = tuple(misregistered(image, motion) for image in anatomy)

    unit = Unit.ARBITRARY if options.metabolites == "paper" else Unit.MMOL_PER_L
    inside = np.asarray(brain_hr > 0.5)
    return SimulatedStudy(
        acquisition=Acquisition(
            maps=tuple(MetaboliteMap(m, f.values, unit, scan.lr, f.crlb_percent) for m, f in fits.items()),
            anatomy=anatomy,
            snr=snr if options.masked else None,
            linewidth_ppm=linewidth if options.masked else None,
            brain_mask=brain,
            acquired_matrix=scan.lr.shape,
            psf=options.psf,
        ),
        grid=scan.grid,
        truth=tuple(MetaboliteMap(m, t, unit, scan.grid) for m, t in truth.items()),
        truth_ratios=_ratios(truth, inside, scan.grid),
        brain=inside,
        tissue=_tissue_masks(tissue, lesion, scan),
        lesions={} if lesion is None else _lesion_masks(lesion, scan, options),
        noise_sigma=sigma,
        anatomy_name=tissue.name,
        seed=seed,
        options=options,
    )


def _head(tissue: TissueModel, scan: Scan, brain: Mask) -> Reach:
    """Where the brain begins and ends in LR voxels, also where a slab shows a part of it only."""
    if scan.slices is None:
        where = np.argwhere(brain)
        return where.min(axis=0), where.max(axis=0)
    box = bounding_box(tissue.brain > 0.5)
    ends = [[b.start for b in box], [b.stop - 1 for b in box]]
    low, high = scan.lr.to_index(tissue.grid.to_patient(ends))
    return low, high


def _metabolism(
    tissue: TissueModel, lesion: LesionModel | None, options: Options, rng: np.random.Generator
) -> Iterator[tuple[Metabolite, Volume]]:
    """Each metabolite with its VHR map."""
    if options.metabolites == "paper":
        yield PAPER_MAP, paper_model(tissue, lesion, options.tau)
        return
    for m in (*CHEMISTRY, *(MORE if options.metabolites == "all" else ())):
        yield m, concentrations(tissue, lesion, m, rng)


def _sigmas(
    tissue: TissueModel,
    lesion: LesionModel | None,
    scan: Scan,
    clean: Mapping[Metabolite, Volume],
    brain: Mask,
    options: Options,
) -> dict[Metabolite, float]:
    """SD of LR noise of each map: its usual median CRLB times the noise, or the asked-for SNR.

    The signal of a metabolite that healthy tissue has is its median in the brain (for an SNR: in white
    matter); of another, its median in the tumour, or, without one, the tumour's usual concentration.
    """
    if options.noise == 0 and options.snr is None:
        return dict.fromkeys(clean, 0.0)
    tumour = np.zeros(scan.lr.shape, dtype=bool)
    if lesion is not None:
        tumour = scan.measured(scan.truth(lesion.tumour)) > 0.5
    normal = brain
    if options.snr is not None:
        normal = scan.measured(scan.truth(tissue.wm)) > MOSTLY_WHITE
        normal &= ~tumour
    sigmas: dict[Metabolite, float] = {}
    for m, values in clean.items():
        c = chemistry_of(m)
        where = normal if c.wm > 0 else tumour
        signal = float(np.median(values[where])) if where.any() else c.tumour
        sigmas[m] = signal / options.snr if options.snr else options.noise * (c.crlb_percent / 100 * signal)
    return sigmas


def _ratios(truth: Mapping[Metabolite, Volume], brain: Mask, grid: Grid) -> tuple[RatioMap, ...]:
    """HGG and TCN; none of the one map of the paper's model."""
    if Metabolite.TNAA not in truth:
        return ()

    def divided(top: Volume, below: Volume) -> Volume:
        defined = brain & (below > RATIO_FLOOR * np.median(below[brain]))
        return np.divide(top, below, out=np.zeros_like(top), where=defined)

    hgg = divided(truth[Metabolite.HG2] + truth[Metabolite.GLN], truth[Metabolite.GLU])
    tcn = divided(truth[Metabolite.TCHO], truth[Metabolite.TNAA])
    return RatioMap(Ratio.HGG, hgg, grid), RatioMap(Ratio.TCN, tcn, grid)


def _lesion_masks(lesion: LesionModel, scan: Scan, options: Options) -> dict[str, Mask]:
    shares = {"metabolic": lesion.tumour, "necrosis": lesion.necrosis}
    if options.lesion_on:
        shares["flair"] = lesion.flair
    return {name: scan.is_mostly(share) for name, share in shares.items() if share.any()}


def _tissue_masks(tissue: TissueModel, lesion: LesionModel | None, scan: Scan) -> dict[str, Mask]:
    shares = {"gm": tissue.gm, "wm": tissue.wm}
    if lesion is not None:
        ill = np.maximum(lesion.tumour, lesion.flair)
        healthy = np.float32(1) - ill / np.maximum(tissue.parenchyma, np.float32(1e-3))
        shares = {name: np.asarray(v * healthy, dtype=np.float32) for name, v in shares.items()}
    return {name: scan.is_mostly(share, PURE) for name, share in shares.items()}
