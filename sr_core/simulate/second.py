"""The paper's second ground truth: what feature non-local means make of the noise-free LR maps."""

from __future__ import annotations

from dataclasses import replace

from sr_core import kspace
from sr_core.maps import MetaboliteMap
from sr_core.resolve import load
from sr_core.settings import Settings

from .study import SimulatedStudy

# The pipeline of the paper's second type of ground truth, as we read it ("Training Data Simulation").
SECOND_TRUTH = "wtv+fnlm"


def second_truth(study: SimulatedStudy) -> tuple[MetaboliteMap, ...]:
    """Maps as ``SECOND_TRUTH`` super-resolves them from the exact LR maps and the study's anatomy.

    "Ground truth of type 2" of Li et al. 2022 ("Training Data Simulation"): what is scored against it is
    agreement with FNLM, not accuracy. The study's own noise plays no part. 0 outside the brain.
    """
    lr = study.acquisition.grid
    exact = tuple(
        MetaboliteMap(t.metabolite, kspace.forward(t.values, lr.shape), t.unit, lr) for t in study.truth
    )
    acquisition = replace(study.acquisition, maps=exact, snr=None, linewidth_ppm=None, psf="none")
    settings = Settings(factor=study.options.factor, denoise=False, consistency="hard", motion="ignore")
    return load(None, SECOND_TRUTH, settings)(acquisition).maps
