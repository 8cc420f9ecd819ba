"""Scores made by hand, for tests of what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sr_core.evaluate.score import Score

NAN = float("nan")


def score(
    method: str,
    figures: Mapping[str, float],
    subject: str = "a",
    regime: str = "match",
    snr: float = NAN,
    draw: int = 0,
    metabolite: str = "tCho",
    source: str = "internal",
) -> Score:
    """One score; without noise unless ``snr`` says otherwise."""
    return Score(
        subject, source, regime, 0.0, snr, draw, 0.5, method, metabolite, method, method, "abc", dict(figures)
    )


def gaining(gains: Mapping[str, Sequence[float]], regime: str = "larger", snr: float = NAN) -> list[Score]:
    """ "bicubic" at 20 dB, "better" above it by so much in each draw of each subject; two maps, ± 1 dB."""
    return [
        score(
            method,
            {**{f"psnr_{f}": db for f in ("full", "brain", "zone")}, "ssim_full": db / 100, "nrmse": 0.1},
            subject,
            regime,
            snr,
            draw,
            metabolite,
        )
        for subject, values in gains.items()
        for draw, value in enumerate(values)
        for metabolite, more in (("tNAA", 1.0), ("tCho", -1.0))
        for method, db in (("bicubic", 20.0), ("better", 20.0 + value + more))
    ]
