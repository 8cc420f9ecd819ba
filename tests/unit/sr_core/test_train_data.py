"""What a network is trained on, and checkpoints that a crash cannot spoil."""

from pathlib import Path

import numpy as np
import torch

from sr_core.train.config import Data, Network, Optimiser, Recipe
from sr_core.train.data import Crops, Pair
from sr_core.train.loop import train

RECIPE = Recipe(
    name="tiny",
    seed=4,
    data=Data(folder="", split="", crop=16),
    network=Network(channels=(4, 8), neighbours=1),
    optimiser=Optimiser(iterations=6, batch=2, learning_rate=3e-3),
    validate_every=3,
)


def pair(seed: int) -> Pair:
    rng = np.random.default_rng(seed)
    brain = np.zeros((6, 24, 24), bool)
    brain[:, 3:21, 3:21] = True
    truth = (rng.random(brain.shape) * brain).astype(np.float16)
    initial = (truth + 0.1 * brain * rng.standard_normal(brain.shape)).astype(np.float16)
    return Pair(initial, truth, brain, 0.05, "tNAA", f"subject {seed}")


PAIRS = [pair(0), pair(1)]
VALIDATION = [pair(2)]


def test_a_checkpoint_half_written_at_a_crash_is_not_read(tmp_path: Path):
    folder = _folder(tmp_path)
    _, history = train(RECIPE, PAIRS, VALIDATION, folder, "cpu", resume=False)
    (folder / "checkpoint.pt.part").write_bytes(b"half")
    _, again = train(RECIPE, PAIRS, VALIDATION, folder, "cpu", resume=True)
    assert again == history


def test_crops_hold_the_same_place_in_input_and_truth():
    """With input = truth, the middle plane of every crop is its truth: also after flips, also at edges."""
    same = Pair(PAIRS[0].truth, PAIRS[0].truth, PAIRS[0].brain, 0.0, "tNAA", "s")
    for i in range(8):
        initial, _, truth = Crops([same], 16, 1, 4, 0).batch(i)
        assert initial.shape == (4, 3, 16, 16) and truth.shape == (4, 1, 16, 16)
        assert torch.equal(initial[:, 1:2], truth)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
