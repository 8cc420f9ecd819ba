"""Networks and their weights: they start at bicubic, can learn, and are what their card says."""

import numpy as np
import pytest
import torch

from sr_core.losses import data_loss
from sr_core.model import load_model, save_model
from sr_core.networks import UNet

CARD = {
    "architecture": {"channels": [4, 8], "neighbours": 1},
    "training": {"seed": 0},
    "figures": {"network": 1.5, "what": 'a "quoted" word'},
    "intended_use": "tests",
    "limits": "all",
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = UNet((4, 8), neighbours=1)
    torch.nn.init.normal_(net.exit.weight, std=1.0)
    return net


@pytest.fixture
def saved(network, tmp_path):
    save_model(tmp_path, "tiny", network, CARD)
    return tmp_path


@pytest.fixture
def volume():
    out = np.zeros((10, 30, 26), np.float32)
    out[2:8, 6:20, 5:19] = np.random.default_rng(0).random((6, 14, 14))
    return out


def test_an_untrained_network_returns_the_plane_it_was_given_exactly():
    torch.manual_seed(1)
    planes = torch.rand(2, 3, 16, 24)
    assert torch.equal(UNet((4, 8, 8), 1)(planes, torch.tensor([0.0, 0.1])), planes[:, 1:2])


def test_a_tiny_network_overfits_one_patch():
    torch.manual_seed(0)
    truth = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), scale_factor=4)
    blurred = torch.nn.functional.avg_pool2d(truth, 5, stride=1, padding=2)
    net, sigma = UNet((8, 16), 0), torch.zeros(1)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    first = data_loss(net(blurred, sigma), truth)
    for _ in range(250):
        adam.zero_grad()
        loss = data_loss(net(blurred, sigma), truth)
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.05 * float(first.detach())


def test_a_saved_network_predicts_the_same_after_loading(network, saved, volume):
    """Weights are stored in half precision, and bfloat16 may be used: equal within that."""
    model = load_model(saved, "tiny")
    with torch.inference_mode():
        padded = np.pad(volume, ((1, 1), (0, 0), (0, 0)), mode="edge")
        planes = torch.from_numpy(np.stack([padded[k : k + 3] for k in range(10)]))
        expected = network(planes, torch.full((10,), 0.05))[:, 0].numpy()
    inside = (slice(3, 7), slice(8, 18), slice(8, 16))
    assert np.abs(model.predict(volume, 0.05) - expected)[inside].max() < 0.02
    assert np.abs(expected - volume)[inside].max() > 0.05  # it does something


def test_prediction_is_deterministic(saved, volume):
    a, b = (load_model(saved, "tiny").predict(volume, 0.05) for _ in range(2))
    assert np.array_equal(a, b)


def test_a_card_survives_writing_and_reading(saved):
    card = dict(load_model(saved, "tiny").card)
    card.pop("sha256")
    assert card == CARD
