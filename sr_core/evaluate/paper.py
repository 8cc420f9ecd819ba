"""Tables 1 and 2 of Li et al., Neuro-Oncology Advances 4(1):vdac071 (2022), as printed."""

from __future__ import annotations

from dataclasses import dataclass

FIGURES = ("psnr", "ssim", "fsim")


@dataclass(frozen=True)
class Published:
    """PSNR (dB), SSIM and FSIM of one method, and the readers' mean opinion score."""

    psnr: float
    ssim: float
    fsim: float
    mos: float

    def over(self, other: Published) -> Published:
        """The differences to ``other``."""
        return Published(
            self.psnr - other.psnr, self.ssim - other.ssim, self.fsim - other.fsim, self.mos - other.mos
        )


# By our names of the methods. Ground truth of type 2 in the first table, of type 1 in the second.
TABLES: dict[int, dict[str, Published]] = {
    1: {
        "bicubic": Published(28.57, 0.921, 0.901, 3.42),
        "tv": Published(28.25, 0.868, 0.892, 3.35),
        "unet": Published(33.10, 0.964, 0.964, 4.31),
        "gan": Published(30.83, 0.934, 0.939, 4.42),
    },
    2: {
        "bicubic": Published(28.09, 0.880, 0.854, 3.02),
        "wtv": Published(27.93, 0.883, 0.887, 3.13),
        "unet": Published(28.90, 0.899, 0.910, 3.63),
        "gan": Published(27.94, 0.874, 0.892, 3.84),
        "bicubic+fnlm": Published(28.59, 0.907, 0.898, 4.07),
        "wtv+fnlm": Published(28.08, 0.904, 0.899, 4.06),
        "unet+fnlm": Published(28.97, 0.915, 0.920, 4.42),
        "gan+fnlm": Published(28.00, 0.905, 0.906, 4.36),
        "unet2": Published(30.83, 0.906, 0.921, 4.57),
        "gan2": Published(30.75, 0.902, 0.917, 4.58),
    },
}


def gain(table: int, method: str) -> Published | None:
    """The paper's gain of ``method`` over its bicubic; None for one that is not in ``table``."""
    found = TABLES[table].get(method)
    return found.over(TABLES[table]["bicubic"]) if found else None
