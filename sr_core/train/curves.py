"""Loss curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_LOSSES = {"loss": "data", "consistent": "data, consistent", "adversarial": "−log D(G)", "discriminator": "D"}
_FIGURES = {"psnr": "network", "psnr_dc": "network + dc", "psnr_initial": "bicubic"}


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Training losses (logarithmic) and validation PSNR by iteration, to ``path`` (PNG)."""
    figure = Figure(figsize=(9, 3.5))
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, lines in ((left, _LOSSES), (right, _FIGURES)):
        for key, label in lines.items():
            rows = [row for row in history if key in row]
            if rows:
                axes.plot([r["iteration"] for r in rows], [r[key] for r in rows], label=label)
        axes.set_xlabel("iteration")
        axes.legend()
    left.set_yscale("log")
    left.set_title("training loss")
    right.set_title("validation PSNR in the brain (dB)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
