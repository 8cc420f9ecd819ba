"""Grey matter, white matter and CSF by brightness: a mixture of three Gaussians on T1 and FLAIR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.maps import Mask, Volume

# Shares of CSF, grey and white matter expected of a brain (those of healthy adults), and how much an
# image counts against them: contrast agent and tumours leave little contrast between grey and white.
EXPECTED = (0.17, 0.46, 0.37)
_TRUST = 1.0
# Grey and white matter differ on T1 by at least this many of their spreads, or they would become one.
_APART = 1.5
# Quantile of brightness above which contrast agent is seen, not tissue.
_VESSELS_FROM = 0.97
_ROUNDS, _BIAS_ROUNDS = 60, 3
_LEARNED_FROM = 40_000  # voxels: a mixture needs no more
_SMOOTHED_MM, _SMOOTHED_BIAS_MM = 0.5, 25.0

Reals = NDArray[np.float64]


def tissue_shares(t1: Volume, flair: Volume, inside: Mask) -> tuple[Volume, Volume, Volume]:
    """Shares of grey matter, white matter and CSF (sum 1 ``inside``, 0 elsewhere) of images of 1 mm voxels.

    CSF is darkest on ``t1`` and white matter brightest, after a smooth bias field is divided out. Raises
    ValueError if the mask is empty or an image flat there.
    """
    if not inside.any() or any(np.ptp(v[inside]) == 0 for v in (t1, flair)):
        raise ValueError("tissue cannot be told apart where an image is flat or its brain mask is empty")
    values = np.stack([_smoothed(v * inside, inside)[inside] for v in (t1, flair)])
    values = np.minimum(values, np.quantile(values, _VESSELS_FROM, axis=1, keepdims=True).astype(np.float32))
    for _ in range(_BIAS_ROUNDS):
        shares, means = _mixture(values)
        for channel, mean in zip(values, means.T, strict=True):
            expected = np.maximum(shares.T @ mean, 1e-3 * mean.max())
            channel /= _smooth_part(channel / expected, inside)
    shares, _ = _mixture(values)
    volumes = np.zeros((3, *inside.shape), dtype=np.float32)
    volumes[:, inside] = shares
    csf, gm, wm = (_smoothed(v, inside) for v in volumes)
    return gm, wm, csf


def _smoothed(values: Volume, inside: Mask) -> Volume:
    """``values`` (0 elsewhere) smoothed a little within ``inside``."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), _SMOOTHED_MM)
    smooth = ndimage.gaussian_filter(values.astype(np.float32), _SMOOTHED_MM)
    return np.asarray(np.divide(smooth, weight, out=np.zeros_like(smooth), where=inside), dtype=np.float32)


def _mixture(values: Volume) -> tuple[Volume, Volume]:
    """Posterior (3, n) of CSF, grey and white matter, and their means (3, channels), of (channels, n).

    By expectation–maximisation. Grey matter, folded and thin, is spread up to twice as wide as white
    matter, and CSF over a good part of what lies between it and them.
    """
    every = max(1, values.shape[1] // _LEARNED_FROM)
    x = values[:, ::every].astype(np.float64)
    rank = np.argsort(np.argsort(x[0])) / x.shape[1]
    edges = np.cumsum(EXPECTED)[:2]
    posterior = np.stack([rank < edges[0], (rank >= edges[0]) & (rank < edges[1]), rank >= edges[1]]) * 1.0
    for _ in range(_ROUNDS):
        mass = posterior.sum(axis=1) + 1e-9
        mean = posterior @ x.T / mass[:, None]
        spread = np.sqrt(np.einsum("kn,kcn->kc", posterior, (x - mean[:, :, None]) ** 2) / mass[:, None])
        spread += 0.01 * x.std(axis=1)
        spread[1] = np.clip(spread[1], spread[2], 2 * spread[2])
        spread[1:, 0] = np.minimum(spread[1:, 0], abs(mean[2, 0] - mean[1, 0]) / _APART)
        spread[0] = np.maximum(spread[0], 0.2 * (mean[1:].max(axis=0) - mean[0]))
        weight = mass / mass.sum() + _TRUST * np.array(EXPECTED)
        posterior = _posterior(x, mean, spread, weight)
    return _posterior(values, mean, spread, weight).astype(np.float32), mean.astype(np.float32)


def _posterior(x: NDArray[np.floating], mean: Reals, spread: Reals, weight: Reals) -> Reals:
    """(3, n); what is brighter than grey and white matter counts as the brighter of them, not as CSF."""
    log = np.log(weight / spread.prod(axis=1))[:, None] * np.ones(x.shape[1])
    for channel, m, s in zip(x, mean.T, spread.T, strict=True):
        seen = np.minimum(channel, (m + 2 * s)[1:].max())
        log -= (seen - m[:, None]) ** 2 / (2 * s[:, None] ** 2)
    density = np.exp(log - log.max(axis=0))
    return np.asarray(density / density.sum(axis=0))


def _smooth_part(ratio: Volume, inside: Mask) -> Volume:
    """What of ``ratio`` (about 1) varies slowly: its mean over a wide neighbourhood inside the brain."""
    step = (slice(None, None, 4),) * 3  # so slow a field is as well known on every fourth voxel
    volume = np.zeros(inside.shape, dtype=np.float32)
    volume[inside] = np.clip(ratio, 0.5, 2.0)
    wide = _SMOOTHED_BIAS_MM / 4
    summed, weight = (
        ndimage.gaussian_filter(v[step], wide, mode="constant") for v in (volume, inside.astype(np.float32))
    )
    mean = np.divide(summed, weight, out=np.ones_like(summed), where=weight > 1e-3)
    found = ndimage.map_coordinates(mean, np.argwhere(inside).T / 4.0, order=1, mode="nearest")
    return np.asarray(found / found.mean(), dtype=np.float32)
