"""What a network is shown: crops that fit together, and anatomy that is not always to be trusted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sr_core.train.config import Network
from sr_core.train.data import Crops
from sr_core.train.loop import train
from tests.unit.sr_core.test_train import CASES, RECIPE, VALIDATION, case

NETWORK = Network(context=1, images=2)


def test_a_checkpoint_half_written_at_a_crash_is_not_read(tmp_path: Path):
    short = replace(RECIPE, phases=(replace(RECIPE.phases[0], iterations=4, crop=16),), validate_every=2)
    _, history = train(short, CASES, VALIDATION, tmp_path, "cpu", resume=False)
    (tmp_path / "checkpoint.pt.part").write_bytes(b"half")
    _, again = train(short, CASES, VALIDATION, tmp_path, "cpu", resume=True)
    assert again == history


def test_crops_hold_the_same_place_in_input_truth_and_images():
    """With input = truth = image, the slab of every crop is its truth: after flips and at edges too."""
    one = case(3)
    truth = one.pairs[0].truth
    same = replace(one, images=(truth, truth), pairs=(replace(one.pairs[0], initial=truth),))
    crops = Crops([same], NETWORK, 0)
    seen = 0
    for i in range(12):
        batch = crops.batch(i, 4, 24)
        assert batch.images is not None
        for k in range(4):
            single = torch.equal(batch.stack[k, 0], batch.stack[k, 1])
            if single:  # a slab by itself is blurred in plane: not its truth
                continue
            seen += 1
            assert torch.equal(batch.stack[k, 1:5], batch.truth[k])
            # Images vary in gain, offset and noise, but not in place.
            image, there = batch.images[k, 1:5].numpy(), batch.truth[k].numpy()
            assert not image[there == 0].any()
            assert (batch.inside[k].numpy() >= (there > 0)).all()
    assert seen > 20


def test_a_single_slab_is_alike_in_all_its_planes_and_blurred_in_plane():
    crops = Crops(CASES, NETWORK, 1)
    singles = [
        (b.stack[k], b.truth[k])
        for b in (crops.batch(i, 8, 32) for i in range(12))
        for k in range(8)
        if torch.equal(b.stack[k, 0], b.stack[k, 5]) and b.truth[k].any()
    ]
    assert singles
    for stack, truth in singles:
        assert all(torch.equal(truth[0], plane) for plane in truth)
        assert not torch.equal(stack[0], truth[0])


def test_images_are_withheld_as_often_as_asked():
    def empty(dropout: float) -> float:
        crops = Crops(CASES, NETWORK, 2, dropout)
        batches = [crops.batch(i, 16, 32) for i in range(20)]
        return float(np.mean([[not b.images[k, :6].any() for k in range(16)] for b in batches]))

    assert empty(0.0) == 0.0
    assert 0.22 < empty(0.3) < 0.38


def test_a_lesion_can_be_missing_from_one_image():
    """Now and then an image is shown as it was before the lesion."""
    one = case(5)
    bright = tuple((np.asarray(i, np.float32) + 2).astype(np.float16) * one.brain for i in one.plain)
    crops = Crops([replace(one, images=bright)], NETWORK, 3, dropout=0.3)
    batches = [crops.batch(i, 16, 32) for i in range(10)]
    shown = [b.images[k, :6] for b in batches for k in range(16) if b.images[k, :6].any()]
    means = [float(image[image != 0].mean()) for image in shown]
    low = np.mean(np.array(means) < 0.5)
    assert 0.05 < low < 0.4


def test_a_whole_map_comes_as_all_its_slabs():
    drawn = Crops(CASES, NETWORK, 0).whole(3)
    assert drawn.batch.stack.shape == (2, 6, 40, 48) and drawn.batch.truth.shape == (2, 4, 40, 48)
    truth = drawn.batch.truth.reshape(-1, 40, 48).numpy()
    assert any(np.array_equal(truth, np.asarray(c.pairs[0].truth, np.float32)) for c in CASES)
