"""Every study simulated once, resolved by every method, and scored against its truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

import sr_core
from sr_core.maps import Acquisition, Mask, SuperResolved, SuperResolver
from sr_core.metabolites import Metabolite
from sr_core.simulate import SimulatedStudy, read_labels, simulate

from .fsim import fsim
from .metrics import gmsd, ms_ssim, nrmse, psnr, ssim
from .protocol import Condition, Figure, Protocol, subjects

# The lesion is scored with a border of this many SR voxels (about 5.6 mm), where its edge is drawn.
_BORDER_VOXELS = 4
_FIGURES = {"ssim": ssim, "ms_ssim": ms_ssim, "fsim": fsim, "gmsd": gmsd}


@dataclass(frozen=True)
class Score:
    """One map of one study by one method. PSNR in dB; NaN where a figure was not asked for.

    ``psnr_zone``: in the tumour zone; NaN where no lesion was drawn. ``snr`` NaN: usual noise × ``noise``.
    """

    subject: str
    regime: str
    noise: float
    snr: float
    draw: int
    method: str
    metabolite: str
    psnr: float
    nrmse: float
    psnr_zone: float
    ssim: float
    ms_ssim: float
    fsim: float
    gmsd: float


def run(protocol: Protocol, weights: Path | None) -> Iterator[Score]:
    """Scores, study by study. ``weights``: folder of the networks, None for the shipped ones."""
    solvers = {v.name: sr_core.load(weights, v.method, v.settings) for v in protocol.methods}
    for name in subjects(protocol):
        tissue = read_labels(Path(protocol.data) / f"{name}.nii.gz")
        for condition in protocol.conditions():
            seed = study_seed(protocol.seed, name, condition.draw)
            study = simulate(tissue, seed, protocol.options(condition))
            acquisition = _only(study.acquisition, protocol.metabolites)
            study = replace(study, acquisition=acquisition)
            yield from compare(study, name, condition, solvers, protocol.figures)


def study_seed(seed: int, subject: str, draw: int = 0) -> int:
    """The seed of one draw of one subject: it depends on nothing but these three."""
    which = f" draw {draw}" if draw else ""
    return int(hashlib.sha256(f"evaluate {seed} {subject}{which}".encode()).hexdigest()[:8], 16)


def _only(acquisition: Acquisition, metabolites: tuple[Metabolite, ...]) -> Acquisition:
    """``acquisition`` with the maps of ``metabolites``; all, if there are none."""
    if not metabolites:
        return acquisition
    return replace(acquisition, maps=tuple(m for m in acquisition.maps if m.metabolite in metabolites))


def compare(
    study: SimulatedStudy,
    subject: str,
    condition: Condition,
    solvers: Mapping[str, SuperResolver],
    figures: tuple[Figure, ...] = ("ssim",),
) -> Iterator[Score]:
    """Scores of every method on one study, in the brain that truth and result share.

    Data range: the truth's 99.9th percentile in the brain. 2HG is left out where the chemistry is
    healthy: its truth is zero there.
    """
    zone = tumour_zone(study)
    for method, solve in solvers.items():
        result = solve(study.acquisition)
        for m in result.maps:
            if m.metabolite is Metabolite.HG2 and "metabolic" not in study.lesions:
                continue
            yield _score(study, result, m.metabolite, zone, subject, condition, method, figures)


def _score(
    study: SimulatedStudy,
    result: SuperResolved,
    metabolite: Metabolite,
    zone: Mask,
    subject: str,
    condition: Condition,
    method: str,
    figures: tuple[Figure, ...],
) -> Score:
    brain = study.brain & result.brain
    truth = study.truth_of(metabolite).values
    values = next(m.values for m in result.maps if m.metabolite == metabolite)
    span = float(np.percentile(truth[brain], 99.9))
    where = zone & brain
    found = {
        name: figure(values, truth, brain, span) if name in figures else float("nan")
        for name, figure in _FIGURES.items()
    }
    return Score(
        subject=subject,
        regime=condition.regime,
        noise=condition.noise,
        snr=condition.snr if condition.snr is not None else float("nan"),
        draw=condition.draw,
        method=method,
        metabolite=str(metabolite),
        psnr=psnr(values, truth, brain, span),
        nrmse=nrmse(values, truth, brain),
        psnr_zone=psnr(values, truth, where, span) if where.any() else float("nan"),
        **found,
    )


def tumour_zone(study: SimulatedStudy) -> Mask:
    """The metabolic lesion – where only anatomy shows one, that – with its border of 4 SR voxels."""
    drawn = study.lesions.get("metabolic", study.lesions.get("flair"))
    if drawn is None or not drawn.any():
        return np.zeros_like(study.brain)
    return np.asarray(ndimage.binary_dilation(drawn, iterations=_BORDER_VOXELS))
