"""Training learns, resumes to the same bits, and its recipe is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sr_core.train.config import Data, Network, Optimiser, Recipe, read
from sr_core.train.data import Crops, Pair, subjects
from sr_core.train.loop import train

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """Blurred and sharp blobs."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(2):
        sharp = (rng.random((6, 40, 44)) > 0.7).astype(np.float16)
        blurred = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, -1, 2)) / 3
        brain = np.ones(sharp.shape, bool)
        made.append(Pair(blurred.astype(np.float16), sharp, brain, 0.05, "tNAA", f"s{n}"))
    return made


def recipe(iterations: int) -> Recipe:
    return Recipe(
        name="tiny",
        seed=4,
        data=Data(folder="", split="", crop=32),
        network=Network(channels=(8, 16), neighbours=1),
        optimiser=Optimiser(iterations=iterations, batch=4, learning_rate=5e-3),
        validate_every=10,
    )


def test_a_tiny_network_learns_to_deblur(pairs, tmp_path):
    _, history = train(recipe(80), pairs[:1], pairs[1:], tmp_path, "cpu", resume=False)
    assert history[-1]["psnr"] > history[-1]["psnr_initial"] + 0.3
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_interrupted_run_resumes_to_the_same_bits(pairs, tmp_path, monkeypatch):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, _ = train(recipe(20), pairs[:1], pairs[1:], tmp_path / "whole", "cpu", resume=False)

    calls = 0
    draw = Crops.batch

    def power_cut(self: Crops, iteration: int):
        nonlocal calls
        calls += 1
        if calls == 15:
            raise KeyboardInterrupt
        return draw(self, iteration)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Crops, "batch", power_cut)
        train(recipe(20), pairs[:1], pairs[1:], tmp_path / "broken", "cpu", resume=False)
    resumed, history = train(recipe(20), pairs[:1], pairs[1:], tmp_path / "broken", "cpu", resume=True)

    assert [row["iteration"] for row in history] == [10, 20]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_batches_depend_on_seed_and_iteration_only(pairs):
    a, b, other = (Crops(pairs, 32, 1, 4, seed) for seed in (1, 1, 2))
    b.batch(0)
    assert all(torch.equal(x, y) for x, y in zip(a.batch(7), b.batch(7), strict=True))
    assert not torch.equal(a.batch(7)[0], other.batch(7)[0])


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\nseed = 1\n[data]\nfolder = "a"\nsplit = "b"\n[optimiser]\nlearning = 1\n')
    with pytest.raises(ValueError, match="unknown key learning"):
        read(path)


def test_shipped_recipes_are_readable_and_no_subject_is_in_two_parts():
    for path in (ROOT / "config/train").glob("unet*.toml"):
        assert read(path).optimiser.iterations > 0
    parts = [set(subjects(ROOT / "config/train/split.toml", p)) for p in ("train", "validation", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(parts)
