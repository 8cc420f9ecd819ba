"""Spectral quality: which voxels of a map may be believed, how far, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .denoise import noise_sd
from .maps import Acquisition, Labels, Mask, MetaboliteMap, Volume
from .metabolites import BY_ABSOLUTE_CRLB, NEAR_LIPID
from .settings import Settings

NOT_DETECTED_PERCENT = 999.0  # LCModel's and others' "no such peak"

# A detected 2HG or Gln is rejected if its absolute CRLB is this many times the map's median one, and
# its relative CRLB is beyond its limit too: absolute CRLB alone would delete a tumour's surest voxels.
_ABSOLUTE_TIMES = 4.0
# A spike stands this many noise SDs above its neighbours' median, and this many times their second
# highest: the highest may be a spike itself. Two voxels are less than the smallest lesion reported.
_SPIKE_SD = 10.0
_SPIKE_TIMES = 2.0
_SPIKE_SHARE = 0.1  # of the map's 99.9th percentile: among zeros any trace is many times its neighbours
# Lipid rim: this many times, by this many SDs and this share of the brain's median above the fourth
# highest value beneath it, within a window of this many voxels.
_RIM_TIMES = 1.2
_RIM_SHARE = 0.2
_RIM_SD = 3.0
_RIM_RANK = 4
_RIM_REACH = 5
_RIM_BENEATH = 0.2  # share of the window that must lie beneath: less is a thin gyrus, and no judge
# On brain maps the high-pass filter reads edges as noise too (1.2 to 2.3 times the true SD, simulated
# studies of 46 × 46 × 32): half of what it says is the floor under CRLB.
_NOISE_FLOOR = 0.5
# No voxel counts as better known than this share of the map's 99.9th percentile.
_BEST = 1e-3


@dataclass(frozen=True, eq=False)
class Screened:
    """One map after quality control, on the LR grid, in the map's unit.

    ``values``: as measured, 0 where there is none and where a metabolite that goes by absolute CRLB
    was not detected. ``sigma`` > 0: SD per voxel. ``trusted``: measured and within the limits, in
    and outside the brain. ``rejected``: the others, inside the brain; of them ``repair`` may be
    inpainted. ``reasons``: in words, with the number of brain voxels each hit; ``reason``: per voxel
    the first of them, counted from 1, and 0 where there is none.
    """

    values: Volume
    sigma: Volume
    trusted: Mask
    rejected: Mask
    repair: Mask
    noise: float
    reasons: dict[str, int]
    reason: Labels


def _spikes(values: Volume, candidates: Mask, sigma: Volume, least: float) -> Mask:
    """One or two voxels above ``least`` that stand out of their 26 neighbours as no point-spread
    function lets them."""
    ring = np.ones([3 if n >= 3 else 1 for n in values.shape], dtype=bool)
    ring[tuple(n // 2 for n in ring.shape)] = False
    if not ring.any():
        return np.zeros(values.shape, dtype=bool)
    v = np.where(candidates, values, 0.0)
    high = ndimage.rank_filter(v, -2, footprint=ring, mode="constant")
    typical = ndimage.median_filter(v, footprint=ring, mode="nearest")
    # CRLB in % of a spike's own value makes its σ as wrong as the value is.
    around = np.minimum(sigma, ndimage.median_filter(sigma, footprint=ring, mode="nearest"))
    stands_out = (v > least) & (v > _SPIKE_TIMES * high) & (v - typical > _SPIKE_SD * around)
    return np.asarray(candidates & stands_out)


def _lipid_rim(values: Volume, candidates: Mask, brain: Mask, sigma: Volume) -> Mask:
    """Voxels of the brain's outermost layer that stand out of the brain just beneath them.

    Partial volume makes a healthy rim lower than what lies beneath; lipid makes it higher.
    """
    wide = [n >= 3 for n in values.shape]
    cross = ndimage.generate_binary_structure(3, 1)[tuple(slice(None) if w else slice(1, 2) for w in wide)]
    beneath = ndimage.binary_erosion(brain, cross, border_value=1)  # the end of a slab is no rim
    around = np.ones([_RIM_REACH if w else 1 for w in wide], dtype=bool)
    known = np.where(candidates & beneath, values, 0.0)
    high = ndimage.rank_filter(known, -_RIM_RANK, footprint=around, mode="constant")
    enough = ndimage.uniform_filter(np.float32(beneath), around.shape, mode="constant") > _RIM_BENEATH
    noise = ndimage.median_filter(sigma, footprint=around, mode="nearest")
    least = _RIM_SHARE * float(np.median(values[candidates & beneath])) if known.any() else 0.0
    stands_out = (values > _RIM_TIMES * high) & (values - high > np.maximum(_RIM_SD * noise, least))
    return np.asarray(candidates & brain & ~beneath & enough & stands_out)


def screen(m: MetaboliteMap, acquisition: Acquisition, brain: Mask, settings: Settings) -> Screened:
    """Quality control of one map inside ``brain``.

    Rejected: no value; not detected (CRLB 0 or ≥ 999 %, or an exact zero); CRLB, SNR, linewidth
    beyond their limits; spikes; in metabolites fitted next to lipid, the lipid rim. 2HG, Gln, Lac, Lip go by
    absolute CRLB (CRLB % · value / 100): "not detected" is a measured low there, kept as 0 with the
    map's noise floor as its SD and never inpainted; a poor spectrum is rejected even so, but stays 0.
    """
    absolute = m.metabolite in BY_ABSOLUTE_CRLB
    crlb_max = settings.crlb_max_percent_of.get(m.metabolite, settings.crlb_max_percent)
    finite = np.isfinite(m.values)
    values = np.where(finite, m.values, 0.0).astype(np.float32)
    crlb = (
        None
        if m.crlb_percent is None
        else np.nan_to_num(m.crlb_percent, nan=NOT_DETECTED_PERCENT, posinf=NOT_DETECTED_PERCENT)
    )
    absent = finite & (values == 0)
    if crlb is not None:
        absent |= finite & ((crlb <= 0) | (crlb >= NOT_DETECTED_PERCENT))
    if absolute:
        values = np.where(absent, 0.0, values).astype(np.float32)

    noise = noise_sd(values, brain & finite & (~absent | absolute))
    peak = float(np.percentile(np.abs(values[brain & finite]), 99.9)) if (brain & finite).any() else 0.0
    own = None if crlb is None else np.where(absent, 0.0, crlb * np.abs(values) / 100.0).astype(np.float32)
    tiny = max(_BEST * peak, float(np.finfo(np.float32).tiny))
    floor = max(noise if own is None else _NOISE_FLOOR * noise, tiny)
    limit = np.inf
    if own is not None and (detected := brain & finite & ~absent).any():
        usual = float(np.median(own[detected]))
        limit = _ABSOLUTE_TIMES * max(usual, floor)
        if absolute:
            floor = max(floor, usual)
    sigma = np.full(values.shape, floor, dtype=np.float32) if own is None else np.maximum(own, floor)

    poor = np.zeros(values.shape, dtype=bool)  # the spectrum as a whole is of no use
    found: dict[str, Mask] = {"no value": ~finite}
    if acquisition.snr is not None:
        found[f"SNR < {settings.snr_min:g}"] = ~(acquisition.snr >= settings.snr_min)
    if acquisition.linewidth_ppm is not None:
        found[f"linewidth > {settings.linewidth_max_ppm:g} ppm"] = ~(
            acquisition.linewidth_ppm <= settings.linewidth_max_ppm
        )
    for mask in found.values():
        poor |= mask
    bad = poor.copy()
    if absolute:
        if own is not None and crlb is not None:
            found[f"absolute CRLB > {limit:.3g} {m.unit}"] = (
                finite & ~absent & (own > limit) & (crlb > crlb_max)
            )
    else:
        found["not detected"] = absent
        if crlb is not None:
            found[f"CRLB > {crlb_max:g} %"] = finite & ~absent & (crlb > crlb_max)
    for mask in found.values():
        bad |= mask
    found["spike"] = _spikes(values, brain & ~bad, sigma, _SPIKE_SHARE * peak)
    bad |= found["spike"]
    if m.metabolite in NEAR_LIPID:
        found["lipid rim"] = _lipid_rim(values, brain & ~bad, brain, sigma)
        bad |= found["lipid rim"]

    rejected = bad & brain
    reasons = {words: n for words, mask in found.items() if (n := int((mask & brain).sum()))}
    reason = np.zeros(values.shape, dtype=np.uint8)
    for number, words in enumerate(reasons, start=1):
        reason[found[words] & brain & (reason == 0)] = number
    return Screened(
        values=values,
        sigma=sigma.astype(np.float32),
        trusted=~bad,
        rejected=rejected,
        repair=rejected & ~absent if absolute else rejected,
        noise=noise,
        reasons=reasons,
        reason=reason,
    )
