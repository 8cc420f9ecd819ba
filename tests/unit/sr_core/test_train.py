"""Training learns, resumes to the same bits, and its recipe is checked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from sr_core import kspace
from sr_core.consistency import Measurement
from sr_core.kspace import Part
from sr_core.train import loop
from sr_core.train.cases import Case, Pair, draw_options, subjects
from sr_core.train.config import Data, Network, Phase, Recipe, read
from sr_core.train.data import Crops
from sr_core.train.loop import train

ROOT = Path(__file__).parents[3]
HR = (8, 40, 48)


def case(seed: int) -> Case:
    """Sharp blobs and their LR image enlarged."""
    rng = np.random.default_rng(seed)
    brain = np.zeros(HR, bool)
    brain[:, 2:38, 3:45] = True
    smooth = ndimage.gaussian_filter(rng.random(HR), 5)
    truth = ((smooth > smooth.mean()) * brain).astype(np.float32)
    values = kspace.forward(truth, (2, 10, 12))
    initial = np.maximum(kspace.zero_fill(values, HR), 0) * brain
    measured = Measurement(values, np.full(values.shape, 1e-4, np.float32), np.ones(values.shape, bool))
    image = (2 * truth - 1).astype(np.float16) * brain
    pair = Pair("tNAA", initial.astype(np.float16), truth.astype(np.float16), 0.02, measured)
    return Case(f"s{seed}", "paper", Part(HR, (0, 0, 0), HR), brain, (image, image), (image, image), (pair,))


CASES, VALIDATION = [case(0), case(1)], [case(2)]

RECIPE = Recipe(
    name="tiny",
    seed=4,
    data=Data(folder="", split=""),
    network=Network(channels=(8, 16), context=2),
    phases=(Phase(iterations=20, learning_rate=5e-3, batch=4, crop=32),),
    validate_every=10,
)
GAN = replace(
    RECIPE,
    phases=(
        Phase(iterations=4, learning_rate=3e-3, batch=2, crop=16),
        Phase(iterations=2, learning_rate=1e-3, consistent=True),
        Phase(iterations=4, learning_rate=1e-3, batch=4, crop=16, adversarial=1e-3, ms_ssim=0.1, l1=0.1),
    ),
    network=Network(channels=(4, 8), images=2),
    dropout=0.3,
    validate_every=5,
)


class PowerCut(Exception):
    """In the middle of an iteration."""


def test_a_tiny_network_learns_to_deblur(tmp_path):
    recipe = replace(RECIPE, phases=(replace(RECIPE.phases[0], iterations=160, decay="cosine", warmup=5),))
    _, history = train(recipe, CASES, VALIDATION, tmp_path, "cpu", resume=False)
    assert history[-1]["psnr"] > history[-1]["psnr_initial"] + 0.15
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("recipe", [RECIPE, GAN], ids=["U-Net", "GAN by phases, two inputs"])
def test_an_interrupted_run_resumes_to_the_same_bits(recipe, tmp_path, monkeypatch):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, _ = train(recipe, CASES, VALIDATION, tmp_path / "whole", "cpu", resume=False)

    average = loop._average

    def power_cut(recipe: Recipe, state):
        if state.iteration == recipe.iterations - 2:
            raise PowerCut
        average(recipe, state)

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(loop, "_average", power_cut)
        train(recipe, CASES, VALIDATION, tmp_path / "broken", "cpu", resume=False)
    resumed, history = train(recipe, CASES, VALIDATION, tmp_path / "broken", "cpu", resume=True)

    assert [row["iteration"] for row in history] == [recipe.iterations // 2, recipe.iterations]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_phase_s_losses_reach_the_history(tmp_path):
    _, history = train(GAN, CASES, VALIDATION, tmp_path, "cpu", resume=False)
    assert {"loss", "discriminator", "adversarial", "psnr", "psnr_dc", "ratio"} <= history[-1].keys()
    assert all(np.isfinite(v) for row in history for v in row.values())


def test_a_killed_process_leaves_a_checkpoint_that_resumes(tmp_path):
    """kill -9 in the middle of training: what was saved is whole, and training goes on from there."""
    script = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from tests.unit.sr_core.test_train import CASES, RECIPE, VALIDATION\n"
        "from sr_core.train.loop import train\n"
        "long = replace(RECIPE, phases=(replace(RECIPE.phases[0], iterations=100000),), validate_every=5)\n"
        "train(long, CASES, VALIDATION, Path(sys.argv[1]), 'cpu', resume=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["iteration"] % 5 == 0
    on = replace(RECIPE, phases=(replace(RECIPE.phases[0], iterations=content["iteration"] + 5),))
    _, history = train(on, CASES, VALIDATION, tmp_path, "cpu", resume=True)
    assert history[-1]["iteration"] == content["iteration"] + 5


def test_a_gan_starts_from_the_weights_it_is_given(tmp_path):
    first, _ = train(RECIPE, CASES, VALIDATION, tmp_path, "cpu", resume=False)
    still = replace(RECIPE, phases=(Phase(iterations=1, learning_rate=0.0, batch=2, crop=16),), ema=0.0)
    (tmp_path / "on").mkdir()
    second, _ = train(still, CASES, VALIDATION, tmp_path / "on", "cpu", False, start=first.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_two_processes_train_one_network(tmp_path):
    """torchrun: each process draws its share of the batch, the first one writes."""
    script = tmp_path / "both.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.unit.sr_core.test_train import CASES, GAN, VALIDATION\n"
        "from sr_core.train.loop import train\n"
        "train(GAN, CASES, VALIDATION, Path(sys.argv[1]), 'cpu', resume=False)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=240, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["iteration"] == GAN.iterations
    assert len(content["history"]) == 2


def test_batches_depend_on_seed_and_iteration_only():
    a, b, other = (Crops(CASES, Network(context=1), seed) for seed in (1, 1, 2))
    b.batch(0, 4, 32)
    first, again = a.batch(7, 4, 32), b.batch(7, 4, 32)
    assert torch.equal(first.stack, again.stack) and torch.equal(first.truth, again.truth)
    assert not torch.equal(first.stack, other.batch(7, 4, 32).stack)


def test_the_learning_rate_follows_the_phases():
    recipe = replace(
        RECIPE,
        phases=(
            Phase(iterations=100, learning_rate=1.0, decay="cosine", warmup=10),
            Phase(iterations=10, learning_rate=0.25),
        ),
    )
    rates = [recipe.phase_at(i)[1] for i in range(110)]
    assert rates[0] < 0.1 and rates[10] > 0.95
    assert rates[99] == pytest.approx(0.01, abs=0.002)
    assert rates[100:] == [0.25] * 10
    with pytest.raises(IndexError):
        recipe.phase_at(110)


def test_half_of_the_studies_are_the_paper_s_and_every_regime_is_seen():
    rng = np.random.default_rng(0)
    drawn = [draw_options(kind, RECIPE.data, rng) for kind in ("paper", "rich") for _ in range(150)]
    assert {o.regime for o in drawn} == set(RECIPE.data.regimes)
    assert any(o.lesion is None for o in drawn) and any(o.lesion is not None for o in drawn)
    assert any(o.noise == 0 for o in drawn[:150]) and any(o.noise == 0 for o in drawn[150:])
    assert len({o.tau for o in drawn}) == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[phase]]\nlearning = 1\n", "unknown key learning"),
        ("", "at least one"),
        ('[data]\nfolder = "a"\nsplit = "b"\ntruth = "3"\n', "type1"),
        ('[data]\nfolder = "a"\nsplit = "b"\nregimes = ["luck"]\n', "no regime luck"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, text, words):
    path = tmp_path / "r.toml"
    data = "" if "[data]" in text else '[data]\nfolder = "a"\nsplit = "b"\n'
    path.write_text(f'name = "x"\nseed = 1\n{data}{text}')
    with pytest.raises(ValueError, match=words):
        read(path)


def test_shipped_recipes_are_readable_and_no_subject_is_in_two_parts():
    recipes = {
        path.stem: read(path) for path in (ROOT / "config/train").glob("*.toml") if path.stem != "split"
    }
    assert {"unet", "gan", "unet2", "gan2", "unet-small", "gan-small", "unet2-small", "gan2-small"} <= set(
        recipes
    )
    parts = [set(subjects(ROOT / "config/train/split.toml", p)) for p in ("train", "validation", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(parts)


@pytest.mark.parametrize("name", ["unet", "unet2"])
def test_the_full_recipe_is_the_paper_s(name):
    """Batch 16, Adam, 20k iterations at 1e-4; the GAN 10k at 1e-5 and 10k at 1e-6 from there."""
    plain, gan = (read(ROOT / f"config/train/{n}.toml") for n in (name, name.replace("unet", "gan")))
    assert [(p.iterations, p.learning_rate, p.batch) for p in plain.phases] == [(20000, 1e-4, 16)]
    assert [(p.iterations, p.learning_rate, p.batch) for p in gan.phases] == [
        (10000, 1e-5, 16),
        (10000, 1e-6, 16),
    ]
    assert gan.start == name and gan.network == plain.network
    assert all(p.adversarial > 0 for p in gan.phases)
