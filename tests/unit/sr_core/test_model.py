"""Networks start at their input; weights are loaded only with a card that describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sr_core
from sr_core.model import BadWeights, load_model, save_model
from sr_core.networks import UNet

SHIPPED = Path(sr_core.__file__).parent / "weights"
CARD = {
    "intended_use": "test",
    "limits": "none",
    "architecture": {"channels": [4, 8, 16], "neighbours": 1},
    "training": {"seed": 1},
    "figures": {"psnr": 1.0},
}


@pytest.fixture
def a_volume() -> np.ndarray:
    rng = np.random.default_rng(3)
    volume = np.zeros((7, 37, 42), np.float32)
    volume[1:6, 5:33, 9:40] = rng.random((5, 28, 31))
    return volume


def shaken(network: UNet) -> UNet:
    """A network that does something: random weights in its last layer too."""
    torch.manual_seed(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_an_untrained_network_returns_its_input(tmp_path, a_volume):
    save_model(tmp_path, "unet", UNet((4, 8, 16)), CARD)
    assert np.array_equal(load_model(tmp_path, "unet").predict(a_volume, 0.1), a_volume)


def test_prediction_covers_every_voxel_of_odd_sizes_and_leaves_the_rest(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16))), CARD)
    predicted = load_model(tmp_path, "unet").predict(a_volume, 0.1)
    assert predicted.shape == a_volume.shape
    inside = a_volume > 0
    assert (predicted[inside] != a_volume[inside]).mean() > 0.99
    assert np.array_equal(predicted[[0, 6]], a_volume[[0, 6]])


def test_prediction_does_not_depend_on_how_many_planes_go_together(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16))), CARD)
    model = load_model(tmp_path, "unet")
    whole = model.predict(a_volume, 0.1)
    alone = a_volume.copy()
    alone[4:] = 0
    assert np.allclose(model.predict(alone, 0.1)[1:3], whole[1:3], atol=0.02 * np.abs(whole).max())


def test_noise_level_changes_the_prediction(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16))), CARD)
    model = load_model(tmp_path, "unet")
    assert not np.array_equal(model.predict(a_volume, 0.0), model.predict(a_volume, 0.5))


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    save_model(tmp_path, "unet", UNet((4, 8, 16)), CARD)
    path = tmp_path / "unet.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(BadWeights, match="not what its card describes"):
        load_model(tmp_path, "unet")


@pytest.mark.parametrize("suffix", ["safetensors", "card.toml"])
def test_weights_and_card_come_together_or_not_at_all(tmp_path, suffix):
    save_model(tmp_path, "unet", UNet((4, 8, 16)), CARD)
    (tmp_path / f"unet.{suffix}").unlink()
    with pytest.raises(BadWeights, match="missing"):
        load_model(tmp_path, "unet")


def test_the_shipped_weights_are_small_described_and_load():
    model = load_model(SHIPPED, "unet")
    assert (SHIPPED / "unet.safetensors").stat().st_size <= 16 * 1024**2
    assert model.card["training"]["licence"] == "Apache-2.0"
    assert not set(model.card["training"]["train"]) & set(model.card["training"]["validation"])
    assert model.card["figures"]["network"] > model.card["figures"]["bicubic"]
