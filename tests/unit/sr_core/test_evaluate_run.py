"""An evaluation from label map to page: predictions are kept, and only what is stale is made again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from sr_core import Metabolite, Settings, baselines
from sr_core.evaluate import predictions
from sr_core.evaluate.cases import cases, simulated, tissue_of
from sr_core.evaluate.illustrate import illustrate
from sr_core.evaluate.peers import load_peer
from sr_core.evaluate.predictions import Identity, Prediction
from sr_core.evaluate.protocol import Protocol, Variant, read
from sr_core.evaluate.report import of_protocol
from sr_core.evaluate.run import Bench, Worker, run
from sr_core.evaluate.score import Reference, Score, scorable, tumour_zone
from sr_core.model import BadWeights
from sr_core.resolve import SHIPPED

CONFIG = """
data = "{data}"
split = "{split}"
part = "validation"
seed = 7
model = "paper"
regimes = ["mri_only"]
snr = [inf]
methods = ["bicubic"]
[settings]
motion = "ignore"
[without_noise]
denoise = false
[[variant]]
name = "off the grid"
method = "bicubic-half-pixel"
"""


@pytest.fixture(scope="module")
def protocol(tmp_path_factory) -> Protocol:
    """One small head: white matter within grey matter, a ventricle in its middle."""
    folder = tmp_path_factory.mktemp("heads")
    where = np.indices((110, 110, 110), dtype=np.float32)
    away = np.sqrt(((where - 55) ** 2).sum(axis=0))
    labels = np.select([away < 8, away < 38, away < 45], [4, 2, 3], 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "head.nii.gz")
    (folder / "split.toml").write_text('validation = ["head"]\n')
    (folder / "small.toml").write_text(CONFIG.format(data=folder, split=folder / "split.toml"))
    return read(folder / "small.toml")


@pytest.fixture(scope="module")
def once(protocol, tmp_path_factory) -> tuple[Bench, list[Score]]:
    """The whole evaluation, run once by one process: what it left behind, and its scores."""
    bench = Bench(protocol, tmp_path_factory.mktemp("once"), SHIPPED, "abc")
    (scores,) = run(bench)
    return bench, scores


@pytest.fixture(scope="module")
def made(protocol):
    (case,) = cases(protocol)
    return simulated(case, protocol)


# What is kept.


IDENTITY = Identity("bicubic", "settings", "", 7, "input")


def prediction() -> Prediction:
    rng = np.random.default_rng(0)
    brain = np.zeros((8, 20, 20), bool)
    brain[2:6, 3:15, 4:18] = rng.random((4, 12, 14)) > 0.2
    values = np.where(brain, rng.random(brain.shape) ** 4 * 50, 0).astype(np.float32)
    return Prediction(IDENTITY, {Metabolite.TCHO: values}, brain, "bicubic", ("a warning",), "abc", 1.5)


def test_a_prediction_comes_back_to_16_bits_of_its_maximum(tmp_path):
    kept = prediction()
    predictions.write(kept, tmp_path / "a" / "p.npz")
    found = predictions.read(tmp_path / "a" / "p.npz", IDENTITY)
    assert found is not None
    assert np.array_equal(found.brain, kept.brain)
    values = kept.maps[Metabolite.TCHO]
    assert np.abs(found.maps[Metabolite.TCHO] - values).max() <= values.max() / 65535
    assert (found.method_used, found.warnings, found.commit) == ("bicubic", ("a warning",), "abc")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["p.npz"]


@pytest.mark.parametrize("key", ["method", "settings", "weights", "seed", "input"])
def test_a_prediction_of_another_identity_is_not_used(tmp_path, key):
    predictions.write(prediction(), tmp_path / "p.npz")
    other = replace(IDENTITY, **{key: 8 if key == "seed" else "other"})
    assert predictions.read(tmp_path / "p.npz", other) is None


def test_a_torn_file_is_no_prediction(tmp_path):
    predictions.write(prediction(), tmp_path / "p.npz")
    content = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "p.npz").write_bytes(content[: len(content) // 2])
    assert predictions.read(tmp_path / "p.npz", IDENTITY) is None
    assert predictions.read(tmp_path / "absent.npz", IDENTITY) is None


# A whole evaluation.


def untimed(s: Score) -> str:
    """All of a score but the seconds it took, as text: NaN equals itself there."""
    return repr(replace(s, figures={k: v for k, v in s.figures.items() if k != "seconds"}))


def test_an_evaluation_is_kept_goes_on_where_it_stopped_and_makes_stale_predictions_again(once, tmp_path):
    bench, scores = once
    bench = replace(bench, out=shutil.copytree(bench.out, tmp_path / "out"))
    assert [s.method for s in scores] == ["bicubic", "off the grid"]
    assert scores[0]["psnr_full"] > scores[1]["psnr_full"] + 1.5
    assert 0 < scores[0]["false_lesion_percent"] < 20 and np.isnan(scores[0]["recovery"])
    first, second = sorted(bench.out.glob("predictions/**/*.npz"))
    before = first.stat().st_mtime_ns
    second.unlink()  # as if it had been stopped here
    next(bench.out.glob("scores/**/off_the_grid.json")).unlink()

    (again,) = run(bench)
    assert first.stat().st_mtime_ns == before and second.exists()
    assert [untimed(s) for s in again] == [untimed(s) for s in scores]

    other = Settings(denoise=False, motion="ignore", min_volume_ml=1.0)
    changed = replace(bench.protocol.methods[0], without_noise=other)
    protocol = replace(bench.protocol, methods=(changed, bench.protocol.methods[1]))
    list(run(replace(bench, protocol=protocol)))
    assert first.stat().st_mtime_ns > before
    stored = json.loads(np.load(first)["about"].tobytes())
    assert stored["identity"]["settings"] == other.digest()

    drawn = illustrate(bench, of_protocol(bench.protocol, again, {}), bench.out / "figures")
    assert [p.name for p in drawn] == ["boxes.png", "without_mri.png", "without_mri_tumour.png"]


def test_processes_side_by_side_give_the_scores_of_one(once, tmp_path):
    bench, one = once
    two = list(run(replace(bench, out=tmp_path), jobs=2))
    for a, b in zip(one, (s for case in two for s in case), strict=True):
        assert (a.subject, a.regime, a.method, a.metabolite) == (b.subject, b.regime, b.method, b.metabolite)
        # Sums of one thread and of two differ in their last digit.
        figures = [{k: v for k, v in s.figures.items() if k != "seconds"} for s in (a, b)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-5, nan_ok=True)


def test_a_network_without_weights_is_refused_before_anything_is_resolved(protocol, tmp_path):
    network = Variant("unet", "unet+dc", Settings(), Settings(), str(tmp_path))
    bench = Bench(replace(protocol, methods=(*protocol.methods, network)), tmp_path, SHIPPED, "abc")
    with pytest.raises(BadWeights, match=r"unet\.safetensors is missing"):
        bench.networks()


# Scoring one case.


def test_a_perfect_result_has_perfect_figures_and_an_error_in_the_zone_counts_there(made):
    truth = made.study.truth[0].values
    (metabolite,) = scorable(made.study)
    reference = Reference(made, metabolite, ("ssim", "fsim"))
    perfect = reference.score(truth.copy(), made.study.brain)
    assert perfect["psnr_full"] == perfect["psnr_brain"] == perfect["psnr_zone"] == np.inf
    for name in ("ssim_full", "ssim_zone", "fsim_brain", "sharpness", "contrast"):
        assert perfect[name] == pytest.approx(1.0, abs=1e-6)
    assert perfect["hfen"] == perfect["nrmse"] == 0.0 and perfect["dc_error"] < 1e-6

    zone = tumour_zone(made.study) & made.study.brain
    off = reference.score(truth + np.float32(0.1) * zone, made.study.brain)
    assert off["psnr_zone"] == pytest.approx(20 * np.log10(truth.max() / 0.1), abs=0.01)
    assert off["psnr_brain"] > off["psnr_zone"] + 1 and off["psnr_full"] > off["psnr_brain"] + 3
    outside = reference.score(truth + np.float32(0.1) * ~made.study.brain, made.study.brain)
    assert outside["psnr_brain"] == np.inf and outside["psnr_full"] < 40


def test_the_zone_of_a_lesion_only_in_mri_is_that_which_anatomy_shows(made):
    study = made.study
    zone = tumour_zone(study)
    assert (zone | ~study.lesions["flair"]).all()
    assert 1.3 < zone.sum() / study.lesions["flair"].sum() < 6
    assert not tumour_zone(replace(study, lesions={})).any()


def test_the_plain_bicubic_knows_no_brain(made):
    found = load_peer("bicubic-plain", Settings())(made.study.acquisition)
    values = made.study.acquisition.maps[0].values
    assert found.brain.all()
    assert np.array_equal(found.maps[0].values, np.maximum(baselines.bicubic(values, (4, 4, 4)), 0))
    assert found.maps[0].values[~made.study.brain].any()


def test_the_second_truth_is_what_is_scored_against_where_it_is_asked_for(made, protocol):
    second = simulated(made.case, replace(protocol, truth=2)).study.truth[0].values
    first = made.study.truth[0].values
    assert not np.array_equal(first, second)
    assert np.corrcoef(second[made.study.brain], first[made.study.brain])[0, 1] > 0.8


def test_other_inputs_have_other_digests(made):
    acquisition = made.study.acquisition
    moved = replace(acquisition, psf="hamming")
    assert replace(made, study=replace(made.study, acquisition=moved)).input_digest != made.input_digest
    unlike = replace(made, study=replace(made.study, brain=~made.study.brain))
    assert unlike.input_digest == made.input_digest and unlike.truth_digest != made.truth_digest


def test_the_last_anatomy_is_read_once(protocol):
    (case,) = cases(protocol)
    assert tissue_of(case.subject) is tissue_of(cases(protocol)[0].subject)
    assert Worker(Bench(protocol, SHIPPED, SHIPPED, "abc")).solvers == {}
