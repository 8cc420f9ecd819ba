"""A map or ratio as it was measured, to be shown beside the super-resolved one."""

from __future__ import annotations

import numpy as np

from sr_core import Acquisition, Metabolite, Ratio, Volume

RATIO_PARTS: dict[str, tuple[tuple[Metabolite, ...], Metabolite]] = {
    Ratio.HGG: ((Metabolite.HG2, Metabolite.GLN), Metabolite.GLU),
    Ratio.TCN: ((Metabolite.TCHO,), Metabolite.TNAA),
}


def as_measured(acquisition: Acquisition, name: str) -> Volume | None:
    """The map ``name`` on the low-resolution grid; a ratio where its denominator is not noise, else 0.

    None if it was not measured, or a part of the ratio was not.
    """
    if name not in RATIO_PARTS:
        found = acquisition.map_of(Metabolite(name))
        return None if found is None else np.nan_to_num(found.values)
    above, below = RATIO_PARTS[name]
    parts = [acquisition.map_of(m) for m in above]
    under = acquisition.map_of(below)
    if under is None and below == Metabolite.TNAA:
        under = acquisition.map_of(Metabolite.NAA)
    if under is None or any(p is None for p in parts):
        return None
    total = np.sum([np.nan_to_num(p.values) for p in parts if p is not None], axis=0)
    values = np.nan_to_num(under.values)
    floor = 0.1 * float(np.percentile(values, 95))
    ratio = np.where(values > floor, total / np.maximum(values, max(floor, 1e-12)), 0)
    return np.asarray(ratio, dtype=np.float32)
