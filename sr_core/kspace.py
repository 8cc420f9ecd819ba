"""One Fourier convention for acquisition, zero-filling and data consistency.

The forward operator A is a centred k-space crop (times the acquisition's filter): HR sample
``f·i`` lies on LR sample ``i`` (deploy/docs/decisions/0001-grid-convention.md), intensities are
kept (a constant stays that constant). Each axis is a real matrix, so volumes go through A and
A⁺ as three matrix products instead of FFTs.

An even LR axis has one line at −n/2 and none at +n/2. To keep the operator real, A adds the two HR
lines at ±n/2 into it and A⁺ splits it in halves, so that A A⁺ = 1 exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Shape
from .nlm import bounding_box

Array = NDArray[Any]
Psf = tuple[Array | None, Array | None, Array | None]

# Filter weights below this share of the centre are treated as not acquired by the pseudo-inverse.
_LOST = 1e-6


def hamming(n: int, alpha: float = 0.54) -> NDArray[np.float64]:
    """Hamming weights at k = 0 … n//2 of an axis with ``n`` acquired samples: one axis of a ``Psf``."""
    k = np.arange(n // 2 + 1)
    return np.asarray(alpha + (1.0 - alpha) * np.cos(2.0 * np.pi * k / n))


def hamming_psf(shape: Shape) -> Psf:
    """The Hamming filter along all three axes of an acquisition of ``shape`` k-space samples."""
    return hamming(shape[0]), hamming(shape[1]), hamming(shape[2])


def _cosines(n_lr: int, n_hr: int, weights: Array) -> Array:
    """Σ_k weights_k · cos(2π k (i/n_lr − j/n_hr)) over all signed k, as an (n_lr, n_hr) matrix."""
    apart = np.arange(n_lr)[:, None] / n_lr - np.arange(n_hr)[None, :] / n_hr
    total = np.full(apart.shape, weights[0])
    for k in range(1, n_lr // 2 + 1):
        total += weights[k] * 2.0 * np.cos(2.0 * np.pi * k * apart)
    return total


@dataclass(frozen=True)
class Part:
    """A box of an HR volume of ``shape``, from ``start`` up to ``stop``; the rest of it is zero.

    Most of a field of view is air: operators that know so cost half.
    """

    shape: Shape
    start: Shape
    stop: Shape

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Part:
        """The smallest box that holds ``mask``. Raises ValueError if the mask is empty."""
        a, b, c = bounding_box(mask)
        return cls(_shape(mask), (a.start, b.start, c.start), (a.stop, b.stop, c.stop))

    @property
    def box(self) -> tuple[slice, slice, slice]:
        a, b, c = (slice(i, j) for i, j in zip(self.start, self.stop, strict=True))
        return a, b, c


@lru_cache(maxsize=128)
def _matrix(
    kind: str,
    n_lr: int,
    n_hr: int,
    psf: tuple[float, ...] | None,
    dtype: str,
    damping: float = 0.0,
    ends: tuple[int, int] | None = None,
) -> Array:
    """One axis of A (n_lr × n_hr) or of its pseudo-inverse (n_hr × n_lr); of a part, its HR samples only."""
    if n_lr > n_hr:
        raise ValueError(f"k-space cannot be cropped from {n_hr} to {n_lr} samples")
    filter_ = np.ones(n_lr // 2 + 1) if psf is None else np.asarray(psf, dtype=np.float64)
    if filter_.shape != (n_lr // 2 + 1,):
        raise ValueError(
            f"the filter of {n_lr} samples has {n_lr // 2 + 1} weights (k = 0 … {n_lr // 2}), "
            f"not {filter_.shape}"
        )
    inverse = np.divide(
        filter_,
        filter_**2 + damping * (filter_ < 1.0),
        out=np.zeros_like(filter_),
        where=filter_ > _LOST * filter_.max(),
    )
    if n_lr % 2 == 0:
        inverse[-1] /= 2.0  # _cosines counts ±n/2; A adds both lines, A⁺ splits one
        if n_lr == n_hr:
            filter_[-1] /= 2.0  # the same grid has this line once
    if kind == "forward":
        matrix = _cosines(n_lr, n_hr, filter_) / n_hr
    elif kind == "pinv":
        matrix = _cosines(n_lr, n_hr, inverse).T / n_lr
    else:
        raise ValueError(f"no operator {kind!r}")
    if ends is not None:
        matrix = matrix[:, slice(*ends)] if kind == "forward" else matrix[slice(*ends)]
    matrix = np.ascontiguousarray(matrix, dtype=dtype)
    matrix.setflags(write=False)
    return matrix


def apply_axes(volume: Array, matrices: Sequence[Array]) -> Array:
    """Multiply axis a of ``volume`` (three axes) by ``matrices[a]``.

    The first and the last axis in one matrix product each, the middle one slice by slice, and that
    while the volume is small.
    """
    first, middle, last = matrices

    def through_first(v: Array) -> Array:
        return np.asarray((first @ v.reshape(v.shape[0], -1)).reshape(-1, *v.shape[1:]))

    def through_last(v: Array) -> Array:
        return np.asarray((v.reshape(-1, v.shape[2]) @ last.T).reshape(*v.shape[:2], -1))

    if middle.shape[0] > middle.shape[1]:
        return through_first(through_last(np.matmul(middle, volume)))
    return np.asarray(np.matmul(middle, through_last(through_first(volume))))


def _floating(volume: Array) -> Array:
    a = np.ascontiguousarray(volume)
    return a if a.dtype in (np.float32, np.float64) else a.astype(np.float32)


def factors(
    kind: str,
    lr_shape: Shape,
    hr: Shape | Part,
    psf: Psf | None,
    dtype: str,
    damping: float = 0.0,
) -> list[Array]:
    """The matrix per axis of A (``kind`` "forward") or A⁺ ("pinv"): see those two."""
    filters = (None, None, None) if psf is None else psf
    ends: Sequence[tuple[int, int] | None] = (None, None, None)
    if isinstance(hr, Part):
        ends = list(zip(hr.start, hr.stop, strict=True))
    return [
        _matrix(kind, n, m, None if f is None else tuple(float(w) for w in f), dtype, damping, e)
        for n, m, f, e in zip(lr_shape, hr.shape if isinstance(hr, Part) else hr, filters, ends, strict=True)
    ]


def _shape(volume: Array) -> Shape:
    if volume.ndim != 3:
        raise ValueError(f"a volume has three axes, not {volume.ndim}")
    return (volume.shape[0], volume.shape[1], volume.shape[2])


def forward(hr: Array, lr_shape: Shape, psf: Psf | None = None, part: Part | None = None) -> Array:
    """A: the LR image that an acquisition of ``lr_shape`` k-space samples makes of ``hr``.

    Shapes (slice, row, column), any sizes ≥ LR; float32 stays float32, float64 stays float64.
    ``psf`` holds per axis the filter at k = 0 … n//2, or None. With ``part``, ``hr`` is that box of
    a volume that is zero elsewhere. Raises ValueError if LR is larger, or ``hr`` is not of the box.
    """
    hr = _floating(hr)
    if part is not None and hr.shape != tuple(b - a for a, b in zip(part.start, part.stop, strict=True)):
        raise ValueError(f"{hr.shape} is not the box from {part.start} to {part.stop}")
    return apply_axes(hr, factors("forward", lr_shape, part or _shape(hr), psf, hr.dtype.str))


def pinv(lr: Array, hr: Shape | Part, psf: Psf | None = None, damping: float = 0.0) -> Array:
    """A⁺: the smallest HR image that ``forward`` takes to ``lr``; without ``psf``, zero-filling.

    ``hr`` is its shape, or the part of it that is wanted. A filter h is undone by h / (h² +
    ``damping``), so that noise is not raised where little was let through. Raises ValueError if LR
    is larger.
    """
    lr = _floating(lr)
    return apply_axes(lr, factors("pinv", _shape(lr), hr, psf, lr.dtype.str, damping))


def adjoint(lr: Array, hr: Shape | Part, psf: Psf | None = None) -> Array:
    """Aᵀ, the transpose of ``forward``. Raises ValueError if LR is larger."""
    lr = _floating(lr)
    return apply_axes(lr, [m.T for m in factors("forward", _shape(lr), hr, psf, lr.dtype.str)])


def zero_fill(lr: Array, hr_shape: Shape) -> Array:
    """Sinc interpolation: k-space padded with zeros; exact for a band-limited, periodic image."""
    return pinv(lr, hr_shape)
