"""Figures: methods side by side on a plane, the tumour and its errors enlarged, box plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sr_core.align import resample
from sr_core.baselines import nearest
from sr_core.kspace import Part
from sr_core.maps import Mask, Volume
from sr_core.metabolites import Contrast, Metabolite

from . import paper
from .cases import Simulated
from .gains import by_subject, values_of
from .protocol import HEALTHY
from .report import Run
from .score import tumour_zone

_MARGIN = 4
_ZOOM_MARGIN = 8
_MAP, _ERROR = "inferno", "RdBu_r"
_ERROR_SHARE = 0.5  # errors are shown to this share of the truth's range
_DPI = 110

# What is drawn beside each other, of what was run: the paper's figures 2 and 3.
WITHOUT_MRI = ("bicubic", "tv", "wtv", "unet", "gan", "unet+dc")
WITH_MRI = (
    "bicubic+fnlm",
    "unet",
    "gan",
    "unet+fnlm",
    "gan+fnlm",
    "unet2",
    "gan2",
    "unet+fnlm+dc",
    "unet2+dc",
)


@dataclass(frozen=True, eq=False)
class Shown:
    """One case of a figure: its truth and what methods made of one map, by name."""

    simulated: Simulated
    metabolite: Metabolite
    maps: Mapping[str, Volume]


def side_by_side(shown: Sequence[Shown], path: Path) -> None:
    """A row per case: truth, measured map, anatomy, methods; the plane with most lesion, else most brain."""
    rows = [_row(s) for s in shown]
    names = list(rows[0])
    figure, axes = _panels(len(rows), len(names))
    for row, s, axis in zip(rows, shown, axes, strict=True):
        top = float(row["truth"].max())
        for name, panel in zip(names, axis, strict=True):
            grey = name in tuple(Contrast)
            panel.imshow(row[name], cmap="gray" if grey else _MAP, vmin=0, vmax=None if grey else top)
        axis[0].set_ylabel(_case_words(s), fontsize=7)
    _save(figure, axes, names, path)


def zoomed(shown: Sequence[Shown], path: Path) -> None:
    """Two rows per case with a lesion: its zone enlarged, with its outline, and result minus truth."""
    lesions = [s for s in shown if tumour_zone(s.simulated.study).any()]
    if not lesions:
        return
    names = ["truth", *lesions[0].maps]
    figure, axes = _panels(2 * len(lesions), len(names))
    for s, above, below in zip(lesions, axes[::2], axes[1::2], strict=True):
        study = s.simulated.study
        box = _plane(tumour_zone(study), _ZOOM_MARGIN)
        truth = s.simulated.truth_of(s.metabolite)
        top = float(truth[box].max())
        outline = study.lesions.get("metabolic", study.lesions.get("flair"))
        for name, panel, error in zip(names, above, below, strict=True):
            values = truth if name == "truth" else s.maps[name]
            panel.imshow(values[box], cmap=_MAP, vmin=0, vmax=top)
            if outline is not None:
                panel.contour(outline[box], [0.5], colors="w", linewidths=0.6)
            if name != "truth":
                reach = _ERROR_SHARE * top
                error.imshow((values - truth)[box], cmap=_ERROR, vmin=-reach, vmax=reach)
        above[0].set_ylabel(_case_words(s), fontsize=7)
        below[0].set_ylabel(f"result − truth, ±{_ERROR_SHARE:.0%}", fontsize=7)
    _save(figure, axes, names, path)


def boxes(run: Run, path: Path) -> None:
    """PSNR, SSIM and FSIM of the full frame by method, healthy and tumour apart; a point is a subject."""
    figures = [f for f in paper.FIGURES if any(np.isfinite(s[f"{f}_full"]) for s in run.scores)]
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(
            figsize=(max(6.0, 0.45 * len(run.methods) + 2), 2.6 * len(figures)), layout="constrained"
        )
        axes = np.atleast_1d(figure.subplots(len(figures), 1, sharex=True))
        for f, axis in zip(figures, axes, strict=True):
            for offset, colour, healthy in ((-0.2, "tab:blue", True), (0.2, "tab:red", False)):
                own = [s for s in run.scores if (s.regime == HEALTHY) == healthy]
                values = [
                    [float(np.mean(v)) for v in by_subject(values_of(own, m, f"{f}_full")).values()]
                    for m in run.methods
                ]
                if not any(values):
                    continue
                at = np.arange(len(run.methods)) + offset
                drawn = axis.boxplot(values, positions=at, widths=0.32, patch_artist=True, showfliers=False)
                for patch in drawn["boxes"]:
                    patch.set(facecolor=colour, alpha=0.35)
                for x, v in zip(at, values, strict=True):
                    axis.plot(np.full(len(v), x), v, ".", color=colour, markersize=3)
                axis.plot([], [], "s", color=colour, label="healthy" if healthy else "tumour")
            axis.set_ylabel("PSNR, dB" if f == "psnr" else f.upper())
            axis.grid(axis="y", alpha=0.3)
        axes[0].legend(loc="best")
        axes[-1].set_xticks(range(len(run.methods)), run.methods, rotation=60, ha="right")
        figure.savefig(path, dpi=_DPI)


def _row(s: Shown) -> dict[str, Volume]:
    """The panels of one case by heading, cut to the brain."""
    study = s.simulated.study
    lesion = study.lesions.get("metabolic", study.lesions.get("flair"))
    plane, rows, columns = _plane(study.brain, _MARGIN)
    if lesion is not None:
        plane = int(np.argmax(lesion.sum(axis=(1, 2))))
    box = (plane, rows, columns)
    measured = study.acquisition.map_of(s.metabolite)
    assert measured is not None  # the case was resolved for this map
    factor = tuple(a // b for a, b in zip(study.grid.shape, measured.grid.shape, strict=True))
    found = {"truth": s.simulated.truth_of(s.metabolite)[box]}
    found["measured"] = nearest(np.nan_to_num(measured.values), (factor[0], factor[1], factor[2]))[box]
    for image in study.acquisition.anatomy:
        found[image.contrast] = resample(image.values, image.grid, study.grid)[box]
    return found | {name: values[box] for name, values in s.maps.items()}


def _plane(mask: Mask, margin: int) -> tuple[int, slice, slice]:
    """The plane with most of ``mask``, and the rows and columns around it."""
    part = Part.around(mask)
    rows, columns = (
        slice(max(a - margin, 0), min(b + margin, n))
        for a, b, n in zip(part.start[1:], part.stop[1:], mask.shape[1:], strict=True)
    )
    return int(np.argmax(mask.sum(axis=(1, 2)))), rows, columns


def _case_words(s: Shown) -> str:
    case = s.simulated.case
    return f"{case.subject.name}\n{case.condition.regime}, τ {case.tau:g}"


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(1.35 * columns, 1.7 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Figure, axes: Any, names: Sequence[str], path: Path) -> None:
    for panel in axes.ravel():
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set_visible(False)
    for name, panel in zip(names, axes[0], strict=True):
        panel.set_title(name, fontsize=7)
    figure.savefig(path, dpi=_DPI)
