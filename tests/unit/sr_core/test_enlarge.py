"""What a network is given, whatever the unit of the map."""

import numpy as np
import pytest

from sr_core import Metabolite, Settings, baselines
from sr_core.brain import brain_lr, brain_sr
from sr_core.enlarge import Enlarge, Input
from sr_core.prepare import prepare
from sr_core.settings import Method
from tests.unit.sr_core.phantoms import LR, brain_study


class Recorder:
    """A network that changes nothing and remembers its input."""

    sha256 = "0" * 64
    contrasts = ()

    def __init__(self):
        self.seen = []

    def predict(self, volume, noise_sigma, images=(), single=False):
        self.seen.append((volume, noise_sigma))
        return volume


@pytest.mark.parametrize("unit", [1.0, 1e4])
def test_a_network_gets_maps_over_their_low_resolution_99_9th_percentile(unit):
    acquisition, _ = brain_study(noise=0.1)
    m = acquisition.map_of(Metabolite.TNAA)
    scaled = type(m)(m.metabolite, m.values * np.float32(unit), m.unit, m.grid, m.crlb_percent)
    inside = brain_lr(acquisition)
    p = prepare(scaled, acquisition, inside, Settings(), LR)
    network, brain = Recorder(), brain_sr(inside, (4, 4, 4))
    grid = acquisition.grid.refined((4, 4, 4))
    method = Method.parse("unet")
    out = Enlarge(method, Settings(), network, acquisition.grid, grid, brain).initial(
        Input(p.values, p.sigma, p.scale, None)
    )
    ((volume, noise),) = network.seen
    assert np.percentile(volume[::4, ::4, ::4][inside], 99.9) == pytest.approx(1.0, abs=1e-3)
    assert 0.005 < noise < 0.03
    expected = np.maximum(baselines.bicubic(p.values, (4, 4, 4)), 0) * brain
    assert np.abs(out - expected).max() < 1e-5 * unit * 11
