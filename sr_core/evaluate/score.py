"""Every figure of merit of one prediction against the truth of its case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sr_core.kspace import hamming_psf
from sr_core.maps import Mask, Volume
from sr_core.metabolites import Metabolite
from sr_core.simulate import SimulatedStudy

from . import fsim
from .agreement import contrast_recovery, dc_error
from .cases import Case, Simulated
from .detail import gradient_ratio, hfen
from .metrics import gmsd, ms_ssim, nrmse, planes_of, psnr, ssim_map
from .predictions import Prediction
from .tumour import (
    Places,
    bias_percent,
    dice,
    false_lesion_percent,
    half_maximum,
    hd95_mm,
    recovery,
    true_contrast,
)

# The lesion is scored with a border of this many SR voxels (about 5.6 mm), where its edge is drawn.
_BORDER_VOXELS = 4
_NAN = float("nan")

FRAMES = ("full", "brain", "zone")
FIGURES = (
    *(f"{figure}_{frame}" for figure in ("psnr", "ssim", "fsim") for frame in FRAMES),
    *("nrmse", "ms_ssim", "gmsd", "hfen", "sharpness", "contrast", "dc_error"),
    *("dice", "hd95_mm", "bias_percent", "recovery", "false_lesion_percent", "seconds"),
)


@dataclass(frozen=True)
class Score:
    """One map of one case by one method; ``figures`` by the names of ``FIGURES``, NaN where there is none.

    ``snr`` NaN: the usual noise × ``noise``. ``tau`` is the paper's model's. ``method`` is the name in
    the report, ``requested`` and ``used`` are the method behind it and what of it the case allowed;
    ``commit`` is of the source that made the prediction.
    """

    subject: str
    source: str
    regime: str
    noise: float
    snr: float
    draw: int
    tau: float
    method: str
    metabolite: str
    requested: str
    used: str
    commit: str
    figures: Mapping[str, float]

    def __getitem__(self, figure: str) -> float:
        return self.figures.get(figure, _NAN)


class Reference:
    """The truth of one map of a case, and what scoring takes from it, computed once for all methods.

    ``match``: the study with the same lesion in its chemistry, for a case whose lesion only anatomy shows.
    """

    def __init__(
        self,
        simulated: Simulated,
        metabolite: Metabolite,
        wanted: tuple[str, ...] = (),
        match: SimulatedStudy | None = None,
    ) -> None:
        study = simulated.study
        self.study, self.metabolite, self.wanted = study, metabolite, wanted
        self.truth = simulated.truth_of(metabolite)
        self.span = float(self.truth.max())
        self.planes = planes_of(study.brain)
        self.in_planes = self.truth[self.planes].astype(np.float64)
        self.features = fsim.features(self.in_planes, self.span) if "fsim" in wanted else None
        self.zone = tumour_zone(study)
        self.contrast = _NAN
        if match is not None:
            normal = _normal(study, self.zone) & _normal(match, self.zone)
            with_lesion = match.truth_of(metabolite).values
            lesion = match.lesions["metabolic"] & study.brain
            self.contrast = true_contrast(with_lesion, self.truth, lesion, normal)

    def score(self, values: Volume, brain: Mask) -> dict[str, float]:
        """All of FIGURES but the time; ``brain`` is the result's.

        Brain: where truth and result both have it. Zone: the lesion with its border, in the brain.
        Data range everywhere: the truth's maximum.
        """
        brain = brain & self.study.brain
        zone = self.zone & brain
        found = self._similarity(values, {"brain": brain, "zone": zone})
        found["psnr_full"] = psnr(values, self.truth, np.ones_like(brain), self.span)
        found["psnr_brain"] = psnr(values, self.truth, brain, self.span)
        found["psnr_zone"] = psnr(values, self.truth, zone, self.span) if zone.any() else _NAN
        found["nrmse"] = nrmse(values, self.truth, brain)
        for name, figure in (("ms_ssim", ms_ssim), ("gmsd", gmsd)):
            if name in self.wanted:
                found[name] = figure(values, self.truth, brain, self.span)
        found["hfen"] = hfen(values, self.truth, brain)
        found["sharpness"] = gradient_ratio(values, self.truth, brain)
        grey, white = (self.study.tissue[t] & brain for t in ("gm", "wm"))
        found["contrast"] = contrast_recovery(values, self.truth, grey, white)
        found["dc_error"] = self._dc_error(values)
        return found | self._lesion(values, brain, zone)

    def _similarity(self, values: Volume, masks: Mapping[str, Mask]) -> dict[str, float]:
        """SSIM and FSIM in each frame. Full: whole planes, of those that hold brain; the rest is empty."""
        pooled = {name: mask[self.planes] for name, mask in masks.items()}
        pooled["full"] = np.ones(self.in_planes.shape, dtype=bool)
        x = values[self.planes].astype(np.float64)
        found: dict[str, float] = {}
        if "ssim" in self.wanted:
            alike = ssim_map(x, self.in_planes, self.span)
            found |= {f"ssim_{n}": float(alike[m].mean()) if m.any() else _NAN for n, m in pooled.items()}
        if self.features is not None:
            both = fsim.similarity(fsim.features(x, self.span), self.features)
            found |= {f"fsim_{n}": both.over(m) if m.any() else _NAN for n, m in pooled.items()}
        return found

    def _dc_error(self, values: Volume) -> float:
        acquisition = self.study.acquisition
        measured = acquisition.map_of(self.metabolite)
        assert measured is not None and acquisition.brain_mask is not None  # simulation gives both
        psf = hamming_psf(measured.grid.shape) if acquisition.psf == "hamming" else None
        return dc_error(values, measured.values, acquisition.brain_mask, psf)

    def _lesion(self, values: Volume, brain: Mask, zone: Mask) -> dict[str, float]:
        lesions = self.study.lesions
        if "metabolic" not in lesions:
            shown = lesions["flair"] & brain if "flair" in lesions else None
            if shown is None or not shown.any():
                return {}
            amount = false_lesion_percent(values, self.truth, shown, self.contrast)
            return {"false_lesion_percent": amount}
        lesion = lesions["metabolic"] & brain
        dead = lesions.get("necrosis")
        viable = lesion if dead is None or not (lesion & ~dead).any() else lesion & ~dead
        places = Places(lesion, viable, zone, _normal(self.study, self.zone) & brain)
        found = {
            "bias_percent": bias_percent(values, self.truth, lesion),
            "recovery": recovery(values, self.truth, places),
        }
        level = half_maximum(self.truth, places)
        if level is not None:
            drawn, true = (level.region(v, zone) for v in (values, self.truth))
            found["dice"] = dice(drawn, true)
            found["hd95_mm"] = hd95_mm(drawn, true, self.study.grid.spacing_mm)
        return found


def scored(reference: Reference, case: Case, method: str, prediction: Prediction) -> Score:
    """The score of one map of ``prediction``. Raises KeyError if it has no such map."""
    condition = case.condition
    figures = reference.score(prediction.maps[reference.metabolite], prediction.brain)
    return Score(
        subject=case.subject.name,
        source=case.subject.source,
        regime=condition.regime,
        noise=condition.noise,
        snr=condition.snr if condition.snr is not None else _NAN,
        draw=condition.draw,
        tau=case.tau,
        method=method,
        metabolite=str(reference.metabolite),
        requested=prediction.identity.method,
        used=prediction.method_used,
        commit=prediction.commit,
        figures={**figures, "seconds": prediction.seconds},
    )


def scorable(study: SimulatedStudy) -> list[Metabolite]:
    """The maps that can be scored: not 2HG where the chemistry is healthy, for its truth is zero there."""
    return [
        m.metabolite
        for m in study.acquisition.maps
        if m.metabolite is not Metabolite.HG2 or "metabolic" in study.lesions
    ]


def tumour_zone(study: SimulatedStudy) -> Mask:
    """The metabolic lesion – where only anatomy shows one, that – with its border of 4 SR voxels."""
    drawn = study.lesions.get("metabolic", study.lesions.get("flair"))
    if drawn is None or not drawn.any():
        return np.zeros_like(study.brain)
    return np.asarray(ndimage.binary_dilation(drawn, iterations=_BORDER_VOXELS))


def _normal(study: SimulatedStudy, zone: Mask) -> Mask:
    """Grey and white matter away from the lesion."""
    return np.asarray((study.tissue["gm"] | study.tissue["wm"]) & ~zone)
