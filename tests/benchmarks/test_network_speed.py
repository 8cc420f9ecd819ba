"""What a network costs: against matrix products of as many FLOPs, and against the plain way to run it."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sr_core
from sr_core import baselines, kspace
from sr_core.consistency import feasible
from sr_core.model import has_fast_bfloat16, load_model
from sr_core.simulate import Options, from_icbm152, simulate
from tests.benchmarks.paired import paired

pytestmark = pytest.mark.slow

SHIPPED = Path(sr_core.__file__).parent / "weights"
SIDE = 2048  # of the square products that are timed beside


@pytest.fixture(scope="module")
def bicubic() -> np.ndarray:
    """A tNAA map in the brain, as networks get it."""
    study = simulate(from_icbm152(), 1, Options(noise=0.0, artefacts=False))
    lr = kspace.forward(study.truth[0].values, (32, 46, 46))
    start = feasible(baselines.bicubic(lr, (4, 4, 4)), study.brain)
    return start / np.float32(np.percentile(start[study.brain], 99.9))


@pytest.mark.parametrize("name", ["unet", "unet2"])
def test_a_network_costs_little_more_than_the_matrix_products_in_it(bicubic, name, figure):
    """One 184 × 184 × 128 map, against square products of as many FLOPs in the same precision."""
    model = load_model(SHIPPED, name)
    images = tuple(bicubic for _ in model.contrasts)
    with FlopCounterMode(display=False) as counted:
        model.predict(bicubic, 0.05, images)
    flops = counted.get_total_flops()
    dtype = torch.bfloat16 if has_fast_bfloat16(model.device) else torch.float32
    square = torch.rand(SIDE, SIDE, dtype=torch.float32).to(dtype)
    timed = paired(
        {"network": lambda: model.predict(bicubic, 0.05, images), "products": lambda: square @ square},
        rounds=7,
    )
    ratio = timed.ratio("network", "products") * 2 * SIDE**3 / flops
    figure(
        f"{name}: {timed.medians['network']:.2f} s for one map, {flops / 1e9:.0f} GFLOP in {dtype}, "
        f"{ratio:.2f} × square products of as many FLOPs"
    )
    assert ratio <= 2.5  # asked: 1.35 on a quiet machine; room for a busy one


def test_a_network_is_faster_than_run_the_plain_way_and_as_good(bicubic, figure):
    """float32, memory as it comes, the whole field of view at once in batches of 16: eager torch."""
    model = load_model(SHIPPED, "unet")
    network, context = model.network, model.network.context
    padded = np.pad(bicubic, ((context, context), (0, 0), (0, 0)), mode="edge")
    stacks = np.stack([padded[4 * n : 4 * n + 4 + 2 * context] for n in range(32)])
    plain_network = type(network)(**model.card["architecture"]).eval()
    plain_network.load_state_dict(network.state_dict())

    def plain() -> np.ndarray:
        with torch.inference_mode():
            parts = [
                plain_network(torch.from_numpy(stacks[n : n + 16]), torch.full((16,), 0.05)) for n in (0, 16)
            ]
        return torch.cat(parts).reshape(bicubic.shape).numpy()

    timed = paired({"ours": lambda: model.predict(bicubic, 0.05), "plain": plain}, rounds=3)
    faster = timed.ratio("plain", "ours")
    brain = bicubic > 0
    difference = float(np.sqrt(np.mean((model.predict(bicubic, 0.05) - plain())[brain] ** 2)))
    figure(f"unet: {faster:.1f} × faster than eager float32, full field; {difference:.1e} of the range apart")
    # At 34 dB below the range an error of this size costs less than 0.01 dB.
    assert difference < 1e-3
    assert faster > 1.5 if has_fast_bfloat16(model.device) else faster > 1.0


def test_the_time_of_a_study_of_twenty_maps_is_told(figure):
    """The clinical default with everything that comes with it: anatomy, half-widths, ratios, lesions."""
    study = simulate(from_icbm152(), 1, Options(regime="match", metabolites="all"))
    resolve = sr_core.load(None, "unet+fnlm+dc")
    began = perf_counter()
    result = resolve(study.acquisition)
    seconds = perf_counter() - began
    parts = ", ".join(f"{k} {v:.1f}" for k, v in result.provenance.timings_s.items())
    figure(f"{len(result.maps)} maps, {len(result.ratios)} ratios: {seconds:.1f} s ({parts})")
    assert len(result.maps) == 20
    # Asked: 60 s on two quiet cores with bfloat16, 120 s without; room for busy ones.
    assert seconds < (180 if has_fast_bfloat16(torch.device("cpu")) else 360)
