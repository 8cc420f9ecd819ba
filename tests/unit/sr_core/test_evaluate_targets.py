"""The check list: what counts as reached, and by how much it is missed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sr_core.evaluate import paper
from sr_core.evaluate.score import Score
from sr_core.evaluate.targets import CLINICAL, PLAIN, Target, targets
from tests.unit.sr_core.scored import NAN, score

SUBJECTS = "abcdefg"


def one(found: Sequence[Target], words: str) -> Target:
    (target,) = [t for t in found if words in t.words]
    return target


def with_gain(
    method: str, gains: Sequence[float], baseline: str = "bicubic", figure: str = "psnr_full", **where: object
) -> list[Score]:
    """``method`` above ``baseline`` (20 dB) by so much in each subject."""
    return [
        score(name, {figure: 20.0 + more}, subject, **where)  # type: ignore[arg-type]
        for subject, value in zip(SUBJECTS, gains, strict=False)
        for name, more in ((baseline, 0.0), (method, value))
    ]


def test_what_was_not_run_is_neither_reached_nor_missed():
    assert {t.reached for t in targets({})} == {None}
    assert {t.number for t in targets({})} == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("gains", "reached", "short"), [([3.0, 4.5], True, ""), ([3.0, 3.5], False, "0.25 dB")]
)
def test_a_mean_gain_is_reached_or_missed_by_so_much(gains, reached, short):
    nodes = [score("bicubic", {"psnr_full": 20.5}, subject) for subject in SUBJECTS]
    scores = [*with_gain("unet", gains, PLAIN), *nodes]
    found = one(targets({"table2": scores}), "U-Net, one input, as shipped")
    assert (found.reached, found.short) == (reached, short)
    assert found.found.startswith(f"{sum(gains) / 2:+.2f} dB [")
    assert f"over the node's bicubic, cut to the brain: {sum(gains) / 2 - 0.5:+.2f} dB [" in found.found


def test_everywhere_means_the_interval_in_each_cell_and_the_worst_case_is_named():
    """Above in the mean of every cell is not enough where the interval reaches below."""
    good = with_gain("unet+dc", [1.0, 2.0], "tv", snr=8.0)
    doubtful = with_gain("unet+dc", [-0.5, 3.0], "tv", regime="larger")
    found = one(targets({"regimes": good}), "unet+dc above TV")
    assert found.reached and found.short == ""
    found = one(targets({"regimes": [*good, *doubtful]}), "unet+dc above TV")
    assert found.reached is False
    assert "1 of 2 cells" in found.found and "worst map of all -0.50 dB (tCho, a, larger" in found.found
    assert found.short == "larger, no noise: 0.50 dB"


def test_the_richer_model_is_held_to_the_same_if_it_was_run():
    found = targets({"regimes_rich": with_gain("unet+dc", [1.0, 2.0], "tv")})
    assert one(found, "everywhere, richer model").reached
    assert one(found, "MRI matches, richer model").reached is None


def test_zone_targets_look_at_their_regimes_only():
    """Two inputs are to win by 1 dB where MRI matches, and not to lose in the zone where it does not."""
    matching = with_gain("unet2+dc", [1.5, 1.6], "dtv", regime="match")
    apart = with_gain("unet2+dc", [0.2, 0.3], "dtv", regime="shifted")
    assert one(targets({"regimes": [*matching, *apart]}), "directional TV").reached
    zone = with_gain("unet2+dc", [-1.0, -1.0], "tv", "psnr_zone", regime="match")
    assert one(targets({"regimes": zone}), "MRI does not match").reached is None
    zone = with_gain("unet2+dc", [-1.0, -1.0], "tv", "psnr_zone", regime="mrsi_only")
    assert one(targets({"regimes": zone}), "MRI does not match").reached is False


def test_the_clinical_default_is_held_against_bicubic_in_the_zone():
    fine = with_gain(CLINICAL, [0.1, 0.2], figure="psnr_zone", regime="mri_only", snr=15.0)
    assert one(targets({"regimes": fine}), "never below bicubic").reached


@pytest.mark.parametrize(("shares", "reached"), [([1.0, 3.0], True), ([4.0, 5.5], False)])
def test_a_false_lesion_stays_below_five_per_cent_with_its_whole_interval(shares, reached):
    scores = [
        score(CLINICAL, {"false_lesion_percent": share}, subject, "mri_only")
        for subject, share in zip(SUBJECTS, shares, strict=False)
    ]
    found = one(targets({"regimes": scores}), "Lesion only in MRI")
    assert found.reached is reached
    assert f"worst {max(shares):.2f} % (b)" in found.found


def test_external_gains_are_held_against_internal_ones():
    internal = with_gain("unet", [4.0, 4.0])
    external = [
        score(s.method, s.figures, f"x{s.subject}", source="external") for s in with_gain("unet", [2.9, 2.9])
    ]
    assert one(targets({"table2": [*internal, *external]}), "External anatomies, unet:").reached
    external = [
        score(s.method, s.figures, f"x{s.subject}", source="external") for s in with_gain("unet", [2.0, 2.0])
    ]
    found = one(targets({"table2": [*internal, *external]}), "External anatomies, unet:")
    assert found.reached is False and found.short == "0.80 dB"


def sharp(method: str, psnr: float, sharpness: float, hfen: float) -> Score:
    return score(method, {"psnr_full": psnr, "sharpness": sharpness, "hfen": hfen})


def test_a_gan_is_sharper_if_nearer_to_one_from_either_side_at_a_small_cost():
    unet = sharp("unet", 30.0, 0.8, 0.5)
    assert one(targets({"table2": [unet, sharp("gan", 29.2, 1.1, 0.5)]}), "gan sharper than unet").reached
    found = one(targets({"table2": [unet, sharp("gan", 28.5, 1.3, 0.6)]}), "gan sharper than unet")
    assert found.reached is False
    assert found.short == "gradient ratio 0.100 farther from 1; HFEN 0.100 higher; 0.50 dB too dear"


def test_the_papers_own_gains_are_the_goal_in_all_three_figures():
    base = {"psnr_full": 25.0, "ssim_full": 0.9, "fsim_full": 0.9}
    ours = {"psnr_full": 28.0, "ssim_full": 0.95, "fsim_full": 0.95}
    found = one(targets({"table2": [score("bicubic", base), score("unet2", ours)]}), "Table 2, unet2")
    assert found.reached is False
    assert found.found == "+3.00 dB, SSIM +0.050, FSIM +0.050"
    assert found.short == "FSIM -0.017"


def test_the_papers_order_is_checked_pair_by_pair():
    """In the paper's Table 2 the U-Net lies 0.81 dB above bicubic and the GAN 0.15 dB below it."""
    values = {"bicubic": 25.0, "unet": 28.0, "gan": 27.0}
    found = one(
        targets({"table2": [score(m, {"psnr_full": v}) for m, v in values.items()]}),
        "Table 2: the paper's order",
    )
    assert found.found == "2 of 3 pairs as in the paper"
    assert found.short == "gan above bicubic by 2.00 dB (paper: 0.15 below)"


def test_the_papers_gains_are_those_that_are_quoted():
    gain = paper.gain(1, "unet")
    assert gain is not None
    assert (gain.psnr, gain.ssim, gain.fsim) == pytest.approx((4.53, 0.043, 0.063))
    gain = paper.gain(2, "unet2")
    assert gain is not None
    assert (gain.psnr, gain.ssim, gain.fsim) == pytest.approx((2.74, 0.026, 0.067))
    assert paper.gain(1, "unet2") is None


def test_scores_without_a_figure_do_not_count():
    scores = [
        *with_gain("unet", [4.0], PLAIN),
        score("bicubic", {"psnr_full": 20.5}),
        score("unet", {"psnr_full": NAN}, "b"),
        score(PLAIN, {}, "b"),
    ]
    found = one(targets({"table2": scores}), "U-Net, one input, as shipped").found
    assert found.startswith("+4.00 dB")
