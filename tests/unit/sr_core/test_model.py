"""Networks start at their input; weights are loaded only with a card that describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sr_core
from sr_core.model import BadWeights, load_model, save_model, standardised
from sr_core.networks import UNet

SHIPPED = Path(sr_core.__file__).parent / "weights"
CARD = {
    "intended_use": "test",
    "limits": "none",
    "architecture": {"channels": [4, 8, 16], "planes": 4, "context": 2},
    "training": {"seed": 1},
    "figures": {"psnr": 1.0},
}


@pytest.fixture
def a_volume() -> np.ndarray:
    rng = np.random.default_rng(3)
    volume = np.zeros((23, 37, 42), np.float32)
    volume[5:18, 5:33, 9:40] = rng.random((13, 28, 31))
    return volume


def shaken(network: UNet) -> UNet:
    """A network that does something: random weights in its last layer too."""
    torch.manual_seed(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_an_untrained_network_returns_its_input(tmp_path, a_volume):
    save_model(tmp_path, "unet", UNet((4, 8, 16), 4, 2), CARD)
    assert np.array_equal(load_model(tmp_path, "unet").predict(a_volume, 0.1), a_volume)


def test_prediction_covers_every_voxel_of_odd_sizes_and_leaves_the_rest(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16), 4, 2)), CARD)
    predicted = load_model(tmp_path, "unet").predict(a_volume, 0.1)
    assert predicted.shape == a_volume.shape
    inside = a_volume > 0
    assert (predicted[inside] != a_volume[inside]).mean() > 0.99
    assert np.array_equal(predicted[:4], a_volume[:4]) and np.array_equal(predicted[20:], a_volume[20:])


def test_slabs_lie_alike_between_measured_planes_wherever_the_brain_begins(tmp_path, a_volume):
    """A brain that begins in the middle of a slab: the same planes go together as in the whole volume."""
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16), 4, 2)), CARD)
    model = load_model(tmp_path, "unet")
    whole = model.predict(a_volume, 0.1)
    upper = a_volume.copy()
    upper[:9] = 0
    assert np.allclose(model.predict(upper, 0.1)[14:16], whole[14:16], atol=0.02 * np.abs(whole).max())


def test_a_single_slab_goes_through_plane_by_plane(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16), 4, 2)), CARD)
    model = load_model(tmp_path, "unet")
    together = model.predict(a_volume, 0.1, single=True)
    other = a_volume.copy()
    other[[k for k in range(23) if k != 9]] *= 0.5
    assert np.array_equal(model.predict(other, 0.1, single=True)[9], together[9])
    assert not np.array_equal(together[9], a_volume[9])


def test_a_missing_image_is_a_blank_one_and_none_too_few_is_refused(tmp_path, a_volume):
    card = {**CARD, "architecture": {**CARD["architecture"], "images": 2}}
    save_model(tmp_path, "unet2", shaken(UNet((4, 8, 16), 4, 2, images=2)), card)
    model = load_model(tmp_path, "unet2")
    assert model.contrasts == ("T1", "FLAIR")
    flair = standardised(a_volume, a_volume > 0)
    blank = np.zeros_like(flair)
    without = model.predict(a_volume, 0.1, (None, flair))
    assert np.array_equal(without, model.predict(a_volume, 0.1, (blank, flair)))
    assert not np.array_equal(without, model.predict(a_volume, 0.1, (flair, None)))
    with pytest.raises(ValueError, match="takes 2 anatomical images, not 0"):
        model.predict(a_volume, 0.1)


def test_a_scanner_s_gain_and_offset_drop_out_of_an_image(a_volume):
    brain = a_volume > 0
    plain = standardised(a_volume, brain)
    assert np.allclose(standardised(a_volume * 700 + 30, brain), plain, atol=1e-3)
    assert not plain[~brain].any() and np.abs(plain).max() <= 4
    assert not standardised(np.ones_like(a_volume), brain).any()


def test_noise_level_changes_the_prediction(tmp_path, a_volume):
    save_model(tmp_path, "unet", shaken(UNet((4, 8, 16), 4, 2)), CARD)
    model = load_model(tmp_path, "unet")
    assert not np.array_equal(model.predict(a_volume, 0.0), model.predict(a_volume, 0.5))


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    save_model(tmp_path, "unet", UNet((4, 8, 16), 4, 2), CARD)
    path = tmp_path / "unet.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(BadWeights, match="not what its card describes"):
        load_model(tmp_path, "unet")


@pytest.mark.parametrize("suffix", ["safetensors", "card.toml"])
def test_weights_and_card_come_together_or_not_at_all(tmp_path, suffix):
    save_model(tmp_path, "unet", UNet((4, 8, 16), 4, 2), CARD)
    (tmp_path / f"unet.{suffix}").unlink()
    with pytest.raises(BadWeights, match="missing"):
        load_model(tmp_path, "unet")


def test_the_shipped_weights_are_small_described_and_load():
    model = load_model(SHIPPED, "unet")
    assert (SHIPPED / "unet.safetensors").stat().st_size <= 16 * 1024**2
    assert model.card["training"]["licence"] == "Apache-2.0"
    assert not set(model.card["training"]["train"]) & set(model.card["training"]["validation"])
    assert model.card["figures"]["network"] > model.card["figures"]["bicubic"]


@pytest.mark.parametrize("suffix", [" 1.5", ' "a \\"quoted\\" word"'])
def test_a_card_survives_writing_and_reading(tmp_path, suffix):
    card = {**CARD, "limits": suffix, "recipe": {"phase": [{"iterations": 3}, {"iterations": 4}]}}
    save_model(tmp_path, "unet", UNet((4, 8, 16), 4, 2), card)
    read = dict(load_model(tmp_path, "unet").card)
    read.pop("sha256")
    assert read == card


def test_a_saved_network_predicts_the_same_after_loading(tmp_path, a_volume):
    """Weights are stored in half precision, and bfloat16 may be used: equal within that, and repeatable."""
    network = shaken(UNet((4, 8, 16), 4, 2))
    save_model(tmp_path, "unet", network, CARD)
    predicted = [load_model(tmp_path, "unet").predict(a_volume, 0.05) for _ in range(2)]
    assert np.array_equal(*predicted)
    padded = np.pad(a_volume, ((2, 1 + 2), (0, 3), (0, 2)), mode="edge")
    stacks = torch.from_numpy(np.stack([padded[4 * n : 4 * n + 8] for n in range(6)]))
    with torch.inference_mode():
        expected = network(stacks, torch.full((6,), 0.05)).reshape(24, 40, 44)[:23, :37, :42].numpy()
    inside = (slice(8, 16), slice(14, 24), slice(18, 31))
    assert np.abs(predicted[0] - expected)[inside].max() < 0.03 * np.abs(expected).max()
    assert np.abs(expected - a_volume)[inside].max() > 0.02  # it does something
