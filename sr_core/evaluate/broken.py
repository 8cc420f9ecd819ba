"""Studies as they should not be: a head that moved, maps the wrong way round, lipid all over the brain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from sr_core import kspace
from sr_core.align import moved, resample
from sr_core.maps import Acquisition, Mask, MetaboliteMap, Volume
from sr_core.quality import NOT_DETECTED_PERCENT
from sr_core.rigid import rigid_matrix
from sr_core.simulate import SimulatedStudy
from sr_core.simulate.fields import smooth_field
from sr_core.simulate.study import LIPID_SHARE

Breakage = Literal["moved_once", "moved_to_and_fro", "left_right", "head_foot", "transposed", "lipid"]
BREAKAGES: tuple[Breakage, ...] = get_args(Breakage)

# Of the head between two k-space lines; a swallow moves it by less, a cough or a nod by this.
_MOVED_MM = (4.0, 12.0)
_TURNED_DEG = (3.0, 10.0)
# Of the usual lipid rim, and how far it reaches inwards (to 1/e), as lipid signal of the scalp does
# through the side lobes of the point-spread function and where its suppression failed.
_LIPID_TIMES = (3.0, 10.0)
_LIPID_REACH_MM = (6.0, 15.0)
_LIPID_ELSEWHERE = 0.1  # share in maps that are not fitted next to lipid (as in simulation)


def broken(study: SimulatedStudy, how: Breakage, seed: int) -> Acquisition:
    """The acquisition of ``study``, spoiled; its anatomy stays as it is.

    - "moved_once", "moved_to_and_fro": the head lay otherwise (4–12 mm, 3–10°) while part of k-space was
      acquired: all phase-encoding lines after one near the centre, or lines in turns of one to four.
    - "left_right", "head_foot": the maps' voxels in reverse along that axis, while the header says
      nothing of it; "transposed": rows and columns exchanged. Mask, SNR and linewidth go with the maps.
      Arrays are taken to be (head, back, left), as simulation makes them.
    - "lipid": 3 to 10 times the usual lipid rim, decaying over 6–15 mm into the brain.

    Values change and σ stays, so CRLB in % changes with the value; lipid makes σ worse too. Raises
    ValueError for another breakage.
    """
    rng = np.random.default_rng((seed, BREAKAGES.index(how) if how in BREAKAGES else 0))
    if how == "moved_once" or how == "moved_to_and_fro":
        return _moved(study, rng, how == "moved_once")
    if how == "lipid":
        return _contaminated(study, rng)
    if how == "left_right" or how == "head_foot":
        axis = 2 if how == "left_right" else 0
        return _turned(study.acquisition, lambda v: np.ascontiguousarray(np.flip(v, axis)))
    if how == "transposed":
        return _turned(study.acquisition, lambda v: np.ascontiguousarray(np.swapaxes(v, 1, 2)))
    raise ValueError(f"no breakage {how!r}; there is {', '.join(BREAKAGES)}")


def _turned(a: Acquisition, turn: Callable[[Volume], Volume]) -> Acquisition:
    """Every array of the maps' grid put through ``turn``."""

    def of(v: Volume | None) -> Volume | None:
        return None if v is None else turn(v)

    return replace(
        a,
        maps=tuple(replace(m, values=turn(m.values), crlb_percent=of(m.crlb_percent)) for m in a.maps),
        snr=of(a.snr),
        linewidth_ppm=of(a.linewidth_ppm),
        brain_mask=None if a.brain_mask is None else turn(a.brain_mask.astype(np.float32)) > 0,
    )


def _moved(study: SimulatedStudy, rng: np.random.Generator, once: bool) -> Acquisition:
    grid, lr = study.grid, study.acquisition.grid.shape
    direction, axis = rng.standard_normal((2, 3))
    centre = grid.to_patient(np.argwhere(study.brain[::4, ::4, ::4]).mean(axis=0) * 4)
    motion = rigid_matrix(
        rng.uniform(*_MOVED_MM) * direction / np.linalg.norm(direction),
        np.radians(rng.uniform(*_TURNED_DEG)) * axis / np.linalg.norm(axis),
        centre,
    )
    outer = int(rng.integers(2))  # the slowest of the phase-encoding loops
    n = lr[outer]
    if once:
        later = np.arange(n) >= round(n * rng.uniform(0.35, 0.65))
    else:
        later = (np.arange(n) // int(rng.integers(1, 5))) % 2 == 1
    late = np.expand_dims(np.fft.ifftshift(later), tuple(a for a in range(3) if a != outer))
    psf = kspace.hamming_psf(lr) if study.acquisition.psf == "hamming" else None
    elsewhere = moved(grid, motion, grid.frame_of_reference)
    maps = []
    for m in study.acquisition.maps:
        truth = study.truth_of(m.metabolite).values
        before = kspace.forward(truth, lr, psf)
        after = kspace.forward(resample(truth, elsewhere, grid), lr, psf)
        mixed = np.abs(np.fft.ifftn(np.where(late, np.fft.fftn(after), np.fft.fftn(before))))
        maps.append(_changed(m, study.noise_sigma[m.metabolite], mixed - np.abs(before)))
    return replace(study.acquisition, maps=tuple(maps))


def _contaminated(study: SimulatedStudy, rng: np.random.Generator) -> Acquisition:
    a = study.acquisition
    brain = np.isfinite(a.maps[0].values) if a.brain_mask is None else a.brain_mask
    spacing = a.grid.spacing_mm
    depth = ndimage.distance_transform_edt(brain, sampling=spacing) - min(spacing)
    patches = np.clip(0.7 + 0.5 * smooth_field(rng, brain.shape, 6.0), 0, None)
    leak = brain * patches * np.exp(-np.maximum(depth, 0) / rng.uniform(*_LIPID_REACH_MM))
    leak *= rng.uniform(*_LIPID_TIMES)
    maps = []
    for m in a.maps:
        typical = float(np.nanmedian(m.values[brain]))
        extra = LIPID_SHARE.get(m.metabolite, _LIPID_ELSEWHERE) * typical * leak
        maps.append(_changed(m, study.noise_sigma[m.metabolite], extra, 1 + 3 * np.minimum(leak, 1)))
    return replace(a, maps=tuple(maps))


def _changed(
    m: MetaboliteMap, noise_sigma: float, extra: Volume, worse: Volume | float = 1.0
) -> MetaboliteMap:
    """``m`` plus ``extra``, as a non-negative fit reports it: its σ, times ``worse``, is what it was."""
    if m.crlb_percent is None:
        raise ValueError(f"{m.metabolite} has no CRLB, and a simulated map does")
    measured: Mask = (m.crlb_percent > 0) & np.isfinite(m.values)
    had = measured & (m.crlb_percent < NOT_DETECTED_PERCENT)
    sigma = np.where(had, m.crlb_percent * m.values / 100, noise_sigma) * worse
    values = np.where(measured, np.maximum(m.values + extra, 0.0), m.values)
    detected = measured & (values > sigma)
    percent = 100 * sigma / np.where(detected, values, 1.0)
    crlb = np.where(detected, np.maximum(np.rint(percent), 1), NOT_DETECTED_PERCENT)
    return replace(
        m,
        values=np.where(measured & ~detected, 0.0, values).astype(np.float32),
        crlb_percent=np.where(measured, crlb, m.crlb_percent).astype(np.float32),
    )
