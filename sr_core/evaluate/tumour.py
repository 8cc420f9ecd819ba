"""The lesion in a map: its outline, its level, and whether it is there at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sr_core.kspace import Part
from sr_core.maps import Mask, Volume

# A lesion whose level is closer to normal tissue's than this share of it has no outline to speak of.
_CONTRAST = 0.1
_SURFACE = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True, eq=False)
class Places:
    """Where to look, on the SR grid: the ``lesion``, its ``zone`` (lesion and border), ``normal`` tissue.

    ``viable`` is the lesion without necrosis. ``normal`` is grey and white matter outside the zone.
    """

    lesion: Mask
    viable: Mask
    zone: Mask
    normal: Mask


@dataclass(frozen=True)
class HalfMaximum:
    """The level midway between normal tissue and lesion; ``rising``: the lesion lies above it."""

    level: float
    rising: bool

    def region(self, values: Volume, zone: Mask) -> Mask:
        """Voxels of ``zone`` on the lesion's side of the level."""
        beyond = values > self.level if self.rising else values < self.level
        return np.asarray(beyond & zone)


def half_maximum(truth: Volume, places: Places) -> HalfMaximum | None:
    """Midway between the truth's median in normal tissue and its median in the viable lesion.

    One level for truth and result alike. None where the two medians differ by less than a tenth of
    the larger: the map does not show the lesion.
    """
    if not places.viable.any() or not places.normal.any():
        return None
    normal, lesion = float(np.median(truth[places.normal])), float(np.median(truth[places.viable]))
    if abs(lesion - normal) <= _CONTRAST * max(abs(lesion), abs(normal)):
        return None
    return HalfMaximum((normal + lesion) / 2, lesion > normal)


def dice(a: Mask, b: Mask) -> float:
    """2 |a ∩ b| / (|a| + |b|); 1 for two empty masks."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def hd95_mm(found: Mask, true: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """95th percentile of the distances of either surface to the other, in mm, both directions pooled.

    Surfaces are voxels with a face to the outside. Where nothing was found it is the diagonal of the
    box around ``true``, for missing a lesion is not to be left out. Raises ValueError if ``true`` is empty.
    """
    if not true.any():
        raise ValueError("a distance needs a true outline")
    if not found.any():
        part = Part.around(true)
        size = np.subtract(part.stop, part.start) * np.asarray(spacing_mm)
        return float(np.linalg.norm(size))
    box = Part.around(found | true).box
    surfaces = [
        v & ~ndimage.binary_erosion(v, _SURFACE) for v in (np.pad(found[box], 1), np.pad(true[box], 1))
    ]
    away = [ndimage.distance_transform_edt(~s, sampling=spacing_mm) for s in surfaces]
    return float(np.percentile(np.concatenate([away[1][surfaces[0]], away[0][surfaces[1]]]), 95))


def bias_percent(x: Volume, truth: Volume, lesion: Mask) -> float:
    """By how many per cent of the truth's mean over ``lesion`` the mean of ``x`` is off."""
    true = _mean(truth, lesion)
    return 100 * (_mean(x, lesion) - true) / true if true else float("nan")


def recovery(x: Volume, truth: Volume, places: Places) -> float:
    """Share of the lesion's true contrast (lesion's mean minus normal tissue's median) that ``x`` shows.

    NaN where the map does not show the lesion (``half_maximum``).
    """
    if half_maximum(truth, places) is None:
        return float("nan")
    shown, true = (_mean(v, places.lesion) - float(np.median(v[places.normal])) for v in (x, truth))
    return shown / true


def true_contrast(with_lesion: Volume, without: Volume, lesion: Mask, normal: Mask) -> float:
    """What the lesion adds to the mean over ``lesion``, in the unit of ``without``.

    Both maps are of one anatomy, the first with the lesion in its chemistry. They are brought to one
    scale by the medians in ``normal``, for the paper's model normalises each to its own maximum; a map
    that is zero there keeps its scale.
    """
    scales = [float(np.median(v[normal])) for v in (with_lesion, without)]
    scale = scales[1] / scales[0] if min(scales) > 0 else 1.0
    return scale * _mean(with_lesion, lesion) - _mean(without, lesion)


def false_lesion_percent(x: Volume, truth: Volume, shown: Mask, contrast: float) -> float:
    """What ``x`` adds to the truth over ``shown``, a lesion that only anatomy shows, in % of ``contrast``.

    ``contrast`` is that of the same lesion where the chemistry has it (``true_contrast``). Its size
    counts: the absolute value.
    """
    return 100 * abs(_mean(x, shown) - _mean(truth, shown)) / abs(contrast) if contrast else float("nan")


def _mean(values: Volume, where: Mask) -> float:
    return float(values[where].mean(dtype=np.float64)) if where.any() else float("nan")
