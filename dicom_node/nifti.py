"""Results as NIfTI."""

from __future__ import annotations

from pathlib import Path

from sr_core import SuperResolved

from . import ras


def write_result(result: SuperResolved, folder: Path) -> list[Path]:
    """``<map>.nii.gz`` (float32) for each map and ratio, ``lesion_<map>.nii.gz`` (uint8) for each lesion."""
    written = [ras.write(folder / f"{m.metabolite}.nii.gz", m.values, m.grid) for m in result.maps]
    written += [ras.write(folder / f"{r.ratio}.nii.gz", r.values, r.grid) for r in result.ratios]
    written += [ras.write(folder / f"lesion_{x.source}.nii.gz", x.mask, result.grid) for x in result.lesion]
    return written
