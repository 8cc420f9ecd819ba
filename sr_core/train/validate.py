"""How good a network is on subjects that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sr_core.consistency import Measurement, correction, feasible
from sr_core.maps import Volume
from sr_core.model import LoadedModel
from sr_core.networks import UNet

from .cases import Case


def validate(network: UNet, cases: Sequence[Case], device: torch.device) -> dict[str, float]:
    """Mean in-brain PSNR in dB (data range 1: the LR 99.9th percentile) of the input and the output.

    ``psnr_dc``: of the output in agreement with the measured map. ``ratio``: mean |gradient| of the
    output over that of the truth, 1 for one as sharp. Means over maps, then cases.
    """
    model = LoadedModel({}, "", network.to(device).eval(), device)
    rows = []
    for case in cases:
        images = [np.asarray(i, np.float32) for i in case.images][: network.images]
        figures = []
        for p in case.pairs:
            initial, truth = np.asarray(p.initial, np.float32), np.asarray(p.truth, np.float32)
            result = feasible(model.predict(initial, p.sigma, images), case.brain)
            agreed = _agreed(result, p.measured, case)
            figures.append(
                [
                    _psnr(initial, truth, case.brain),
                    _psnr(result, truth, case.brain),
                    _psnr(agreed, truth, case.brain),
                    _sharpness(result, case.brain) / _sharpness(truth, case.brain),
                ]
            )
        rows.append(np.mean(figures, axis=0))
    names = ("psnr_initial", "psnr", "psnr_dc", "ratio")
    return dict(zip(names, (float(v) for v in np.mean(rows, axis=0)), strict=True))


def _agreed(x: Volume, measured: Measurement, case: Case) -> Volume:
    return feasible(x + correction(x, measured, case.part), case.brain)


def _psnr(x: Volume, truth: Volume, brain: NDArray[np.bool_]) -> float:
    return float(-10 * np.log10(np.mean((x - truth)[brain] ** 2)))


def _sharpness(x: Volume, brain: NDArray[np.bool_]) -> float:
    rows, columns = np.gradient(x, axis=(1, 2))
    return float(np.hypot(rows, columns)[brain].mean())
