"""Which methods on which studies: each subject of one part of the split, simulated once, seen by all."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

import sr_core
from sr_core.maps import Mask, SuperResolved, SuperResolver
from sr_core.metabolites import Metabolite
from sr_core.simulate import Options, SimulatedStudy, read_labels, simulate
from sr_core.simulate.lesion import Regime

from .metrics import nrmse, psnr, ssim

# The lesion is scored with a border of this many SR voxels (about 5.6 mm), where its edge is drawn.
_BORDER_VOXELS = 4


@dataclass(frozen=True)
class Protocol:
    """``methods`` on ``part`` of ``split``; label maps in ``data``. The first method is the baseline.

    ``noise`` multiplies the usual noise; ``regime`` as in simulation; ``seed`` draws the studies.
    """

    data: str
    split: str
    part: str
    methods: tuple[str, ...]
    seed: int
    noise: float = 1.0
    regime: Regime = "mismatch"

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("an evaluation has at least one method")


@dataclass(frozen=True)
class Score:
    """One map of one subject by one method. PSNR in dB; ``psnr_lesion`` NaN where no lesion was drawn."""

    subject: str
    method: str
    metabolite: str
    psnr: float
    nrmse: float
    ssim: float
    psnr_lesion: float


def read(path: Path) -> Protocol:
    """An evaluation's TOML. Raises ValueError naming an unknown or missing key."""
    table = tomllib.loads(path.read_text())
    table["methods"] = tuple(table.get("methods", ()))
    try:
        return Protocol(**table)
    except TypeError as e:
        raise ValueError(f"{path}: {str(e).replace('Protocol.__init__()', 'an evaluation')}") from e


def subjects(protocol: Protocol) -> list[str]:
    """Names of the label maps to evaluate. Raises ValueError if the split has no such part."""
    split = tomllib.loads(Path(protocol.split).read_text())
    if protocol.part not in split:
        raise ValueError(f"{protocol.split} has no part {protocol.part!r}; it has {', '.join(split)}")
    return [str(name) for name in split[protocol.part]]


def run(protocol: Protocol, weights: Path | None) -> Iterator[Score]:
    """Scores, subject by subject. ``weights``: folder of the networks, None for the shipped ones."""
    names = subjects(protocol)
    solvers = {method: sr_core.load(weights, method) for method in protocol.methods}
    options = Options(regime=protocol.regime, noise=protocol.noise)
    for name in names:
        tissue = read_labels(Path(protocol.data) / f"{name}.nii.gz")
        yield from compare(simulate(tissue, study_seed(protocol.seed, name), options), name, solvers)


def study_seed(seed: int, subject: str) -> int:
    """The seed of one subject's study: it depends on nothing but ``seed`` and the name."""
    return int(hashlib.sha256(f"evaluate {seed} {subject}".encode()).hexdigest()[:8], 16)


def compare(study: SimulatedStudy, subject: str, solvers: dict[str, SuperResolver]) -> Iterator[Score]:
    """Scores of every method on one study, in the brain that truth and result share.

    Data range: the truth's 99.9th percentile in the brain. 2HG is left out where no lesion was drawn:
    its truth is zero there.
    """
    for method, solve in solvers.items():
        result = solve(study.acquisition)
        for m in result.maps:
            if m.metabolite is Metabolite.HG2 and not study.lesions:
                continue
            yield _score(study, result, m.metabolite, subject, method)


def _score(
    study: SimulatedStudy, result: SuperResolved, metabolite: Metabolite, subject: str, method: str
) -> Score:
    brain = study.brain & result.brain
    truth = study.truth_of(metabolite).values
    values = next(m.values for m in result.maps if m.metabolite == metabolite)
    span = float(np.percentile(truth[brain], 99.9))
    lesion = _lesion(study) & brain
    return Score(
        subject,
        method,
        str(metabolite),
        psnr(values, truth, brain, span),
        nrmse(values, truth, brain),
        ssim(values, truth, brain, span),
        psnr(values, truth, lesion, span) if lesion.any() else float("nan"),
    )


def _lesion(study: SimulatedStudy) -> Mask:
    drawn = study.lesions.get("metabolic")
    if drawn is None or not drawn.any():
        return np.zeros_like(study.brain)
    return np.asarray(ndimage.binary_dilation(drawn, iterations=_BORDER_VOXELS))
