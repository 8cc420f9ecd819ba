"""The readings of feature non-local means, from the paper's single pass to joint weights.

All take an initial map x⁰ on the SR grid, in any unit, and give a float32 map that is non-negative
and zero outside the brain. W is the row-normalised operator of ``weights``: (W x)_v = Σ_u w(v, u) x_u
/ Σ_u w(v, u), over brain voxels only. The fifth reading, unguided, is ``sr_core.manjon``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from sr_core import consistency
from sr_core.blocks import block_mean, block_spread
from sr_core.consistency import Measurement
from sr_core.grid import Shape
from sr_core.kspace import Part
from sr_core.maps import Mask, Volume

from .parameters import Fnlm
from .weights import GuideWeights, Values, operator


@dataclass(frozen=True, eq=False)
class _Brain:
    """Brain voxels as a list, and their places in the smallest box around them."""

    part: Part
    at: NDArray[np.int64]

    @classmethod
    def of(cls, brain: Mask) -> _Brain:
        part = Part.around(brain)
        return cls(part, np.flatnonzero(brain[part.box]))

    def listed(self, box: Volume) -> Values:
        return np.asarray(np.take(box, self.at), dtype=np.float32)

    def boxed(self, values: Values) -> Volume:
        a, b = self.part.start, self.part.stop
        box = np.zeros([j - i for i, j in zip(a, b, strict=True)], dtype=np.float32)
        np.put(box, self.at, values)
        return box

    def whole(self, values: Values) -> Volume:
        out = np.zeros(self.part.shape, dtype=np.float32)
        out[self.part.box] = self.boxed(values)
        return out

    def corrected(self, values: Values, m: Measurement) -> Values:
        """``consistency.correct``, positivity and brain support."""
        change = consistency.correction(self.boxed(values), m, self.part)
        return np.asarray(np.maximum(values + self.listed(change), 0), dtype=np.float32)


def single(x: Volume, g: GuideWeights) -> Volume:
    """The paper's sequential use of MRI: one pass, x¹ = W x⁰.

    Li et al. 2022 (Methods, "MRSI super-resolution"): a map that was enlarged by other means "is
    subsequently reinterpolated by FNLM weights based on prior MRI". The weights are

        w(v, u) = exp(−‖f(v) − f(u)‖² / (K h²)),   w(v, v) = 1,

    with K features f of the anatomical image alone (``guide_features``) and u among the ``kept`` most
    similar voxels within ``radius`` of v. Jafari-Khouzani (IEEE TMI 33:1969, 2014) names a feature
    vector "that characterizes the laminar pattern"; which features, which h and which window is not
    known to us, so this is a reading of it: intensity, smoothed intensity, gradient magnitude and
    local SD, as boundaries and sheets of grey and white matter differ in them.

    A pass is an average: it cannot add energy, it moves a voxel's value towards that of voxels which
    look alike on the MRI. What it gains, it gains where metabolism follows anatomy. Where it does not
    (a metabolic lesion that the MRI does not show) the lesion is averaged away; where the MRI has an
    edge that metabolism lacks, nothing is lost, for equal values average to themselves. Nothing in
    this mode looks at the measured map again: noise goes down, and so may true contrast. For that
    see ``joint`` and data consistency.

    Parameters that matter: ``h`` (0.06 follows the MRI closely and hardly averages, 0.12 averages
    more), ``radius`` and ``kept``, ``window`` "2d" for slices thicker than twice their pixels.
    ``passes``, ``refresh`` and ``hx`` are of no use here.
    """
    brain = _Brain.of(g.brain)
    values = brain.listed(consistency.feasible(x, g.brain)[brain.part.box])
    return brain.whole(operator(g) @ values)


def boxmean(x: Volume, g: GuideWeights, factor: Shape, passes: int = Fnlm.passes) -> Volume:
    """Guide weights, with the mean over each LR voxel's window kept as it was:

        r = W xᵗ,   xᵗ⁺¹ = max(r + S B (x⁰ − r), 0),

    B the mean over the window of each LR voxel and S its spreading back (``sr_core.blocks``): after
    each pass every LR voxel has nearly the mean that the initial map had there. It is the subsampling
    constraint of Coupe and Manjon's upsampling methods (Manjón et al., Med Image Anal 14:784, 2010:
    "the downsampled version of the reconstructed image should be the same as the original"), taken
    for FNLM: without it repeated passes would flatten the map region by region.

    It is an approximation of the physics: an MRSI voxel is not a box, it is the point-spread
    function of a k-space crop, with side lobes far beyond the window. It needs, in turn, nothing but
    the initial map: neither the acquired matrix nor noise. So it is the mode for exports of unknown
    origin, where data consistency is off; otherwise ``dc`` is better founded and better (see
    config/evaluate/guided.toml for the comparison).

    A window's mean also holds on to the initial map's noise and to its blur across tissue borders:
    where a window is half grey and half white matter its mean stays right while its halves are told
    apart by W. Passes converge; five do most of it, ``passes`` more do no harm.
    ``factor``: HR voxels per LR voxel. As ``dc`` it has no guard against a guide that shows something
    else than the map: weights are the guide's alone.
    """
    brain = _Brain.of(g.brain)
    whole = consistency.feasible(x, g.brain)
    wanted = block_mean(whole, factor)
    inside = np.maximum(block_mean(g.brain.astype(np.float32), factor), np.float32(1e-3))
    averaging = operator(g)
    values = brain.listed(whole[brain.part.box])
    for _ in range(passes):
        values = averaging @ values
        for _ in range(2):  # neighbouring windows share their ends: one correction undoes some of another
            missing = ((wanted - block_mean(brain.whole(values), factor)) / inside).astype(np.float32)
            values = values + brain.listed(block_spread(missing, factor)[brain.part.box])
        values = np.asarray(np.maximum(values, 0), dtype=np.float32)
    return brain.whole(values)


def dc(x: Volume, g: GuideWeights, measured: Measurement, passes: int = Fnlm.passes) -> Volume:
    """Guide weights with data consistency after each pass:

        r = W xᵗ,   xᵗ⁺¹ = P₊(r + A⁺ D (y − A r)),

    A the acquisition (k-space crop to the acquired matrix, times its filter), y the measured LR map
    before denoising, D the noise weights of ``consistency.correct`` (1 in the hard form), P₊ the
    projection on non-negative maps within the brain. Each pass asks the guide for what the
    acquisition could not see, and the acquisition for all it did see: fixed points agree with the
    measurement to within its noise, and are as alike within tissue as that allows.

    It is the iteration of plug-and-play and POCS methods (Youla and Webb, IEEE TMI 1:81, 1982) with
    FNLM's averaging as the regulariser, and the strongest conventional method of this package where
    the guide is right: on noise-free simulated maps it gains about ten times what ``single`` does.
    The original FNLM has no such step, as far as is known to us.

    Where the guide is wrong it is wrong with conviction: A sees only the low frequencies, and a lesion
    edge that the guide puts elsewhere stays elsewhere. Guide-only weights lose several dB in the
    tumour zone against plain bicubic as soon as the guide's edge is about one LR voxel away from the
    true one. So this mode is for phantoms, healthy volunteers and comparison; patients get ``joint``.

    W is one sparse matrix for all maps and passes of a study. ``passes`` of 10 to 12 reach the
    plateau; more sharpen noise where y is noisy.
    """
    return _iterated(x, g, measured, passes, lambda turn, values: None)


def joint(x: Volume, g: GuideWeights, measured: Measurement | None, p: Fnlm = Fnlm()) -> Volume:  # noqa: B008
    """Guide weights times the similarity of the map itself, with data consistency where there is a
    measurement:

        w_joint(v, u) = w(v, u) · exp(−(x̃_v − x̃_u)² / (hx · range)²),

    x̃ the current estimate, smoothed by a Gaussian of one voxel inside the brain, its range its 99.9th
    percentile; taken anew every ``refresh`` passes, so that edges which data consistency brings back
    stop being averaged over. The rest is ``dc``; without a measurement it is one pass.

    The idea is the joint (cross) bilateral filter's (Petschnigg et al., ACM TOG 23:664, 2004) put on
    FNLM's weights: the guide proposes, the map disposes. Two voxels average only if both the MRI and
    the metabolite map call them alike. A metabolic lesion that FLAIR does not show is then no longer
    mixed with its surroundings (its own contrast parts them), nor one whose border lies elsewhere on
    FLAIR; a FLAIR lesion without metabolic change draws no border, as equal values average to
    themselves whichever way they are parted.

    The price is paid where the guide was right: some of the map's own blur and noise counts as
    contrast, and parts voxels that belong together. ``hx`` sets it: 0.08 is over-cautious and keeps
    noise, 0.3 is nearly ``dc``. The measured contrast of a lesion is a large part of the map's range,
    tissue contrast (grey against white) a tenth of it, noise at usual CRLB a few percent; 0.15 lies
    between. This is the default for patients.
    """
    brain = g.brain
    start = consistency.feasible(x, brain)
    spread = p.hx * float(np.percentile(start[brain], 99.9))
    if spread <= 0:
        return start
    listing = _Brain.of(brain)
    inside = _blurred(brain[listing.part.box].astype(np.float32))
    room = np.empty(g.weight.size, dtype=np.float32)

    def own(turn: int, values: Values) -> sparse.csr_matrix | None:
        if turn % p.refresh:
            return None
        smooth = (_blurred(listing.boxed(values)) / np.maximum(inside, 1e-6)).astype(np.float32)
        return operator(g, listing.listed(smooth), spread, room)

    return _iterated(start, g, measured, p.passes if measured is not None else 1, own)


def restore(x: Volume, g: GuideWeights, measured: Measurement | None, factor: Shape, p: Fnlm) -> Volume:
    """``x`` by the mode of ``p``; with ``measured``, modes that do not use it are made consistent after.

    ``dc`` without a measurement is ``single``.
    """
    if p.mode == "joint":
        return joint(x, g, measured, p)
    if p.mode == "dc" and measured is not None:
        return dc(x, g, measured, p.passes)
    done = boxmean(x, g, factor, p.passes) if p.mode == "boxmean" else single(x, g)
    return done if measured is None else consistency.alternate(done, measured, g.brain)


def _blurred(box: Volume) -> Volume:
    return np.asarray(ndimage.gaussian_filter(box, 1.0, truncate=3.0, mode="constant"), dtype=np.float32)


def _iterated(
    x: Volume,
    g: GuideWeights,
    measured: Measurement | None,
    passes: int,
    renewed: Callable[[int, Values], sparse.csr_matrix | None],
) -> Volume:
    """Passes of averaging and correction; ``renewed`` may give other weights before a pass."""
    brain = _Brain.of(g.brain)
    values = brain.listed(consistency.feasible(x, g.brain)[brain.part.box])
    averaging: sparse.csr_matrix | None = None
    for turn in range(passes):
        other = renewed(turn, values)
        if other is not None:
            averaging = other
        elif averaging is None:
            averaging = operator(g)
        values = np.asarray(averaging @ values, dtype=np.float32)
        if measured is not None:
            values = brain.corrected(values, measured)
    return brain.whole(values)
