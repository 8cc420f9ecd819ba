"""The non-local-means engine against its definition, written out, and against its peers."""

from itertools import product

import cv2
import numpy as np
import pytest
from dipy.denoise.nlmeans import nlmeans
from skimage.restoration import denoise_nl_means

from sr_core import nlm
from sr_core.kspace import forward
from sr_core.nlm import Kernel, Levels, bounding_box, box, nlm_pass
from sr_core.simulate import from_icbm152

IN_PLANE = (False, True, True)
NOISE = 0.02


@pytest.fixture(scope="module")
def brain():
    """Forty slices of a noisy map, 0 to 1, cut to the brain's box; and where the brain is."""
    tissue = from_icbm152()
    shape = (96, 138, 138)
    clean = forward((0.8 * tissue.gm + 0.5 * tissue.wm + 0.05 * tissue.csf).astype(np.float32), shape)
    mask = forward(tissue.brain, shape) > 0.5
    at = (slice(30, 70), *bounding_box(mask)[1:])
    noise = np.random.default_rng(0).normal(0, NOISE, clean[at].shape)
    return (clean[at] + noise).astype(np.float32), mask[at]


@pytest.fixture
def random():
    """Values, guide, mask and σ of a small volume."""
    rng = np.random.default_rng(1)
    v, g, s = (rng.random((3, 5, 6)).astype(np.float32) for _ in range(3))
    return v, g, rng.random(v.shape) > 0.3, 0.2 + 0.3 * s


def written_out(values, guide, kernel, mask=None, sigma=None, levels=None):
    """The definition, voxel by voxel, in double precision."""
    inside = np.ones(values.shape, bool) if mask is None else mask
    sigma = np.full(values.shape, np.sqrt(0.5)) if sigma is None else sigma
    precision = 1 / sigma.astype(float) ** 2
    pad = [r + max(-low, high) for r, (low, high) in zip(kernel.radius, kernel.patch, strict=True)]

    def padded(a, mirrored):
        return np.pad(a.astype(float), [(p, p) for p in pad], mode="reflect" if mirrored else "constant")

    patches = kernel.boundary != "cut"
    v, g, variance = padded(values, patches), padded(guide, patches), padded(sigma**2, patches)
    counts = padded(inside * precision, kernel.boundary == "reflect")
    compared = padded(inside, patches)
    h, mean = (padded(a, True) for a in ((levels.h, levels.mean) if levels else (np.ones_like(v),) * 2))
    patch = [np.array(p) for p in product(*(range(low, high + 1) for low, high in kernel.patch))]
    out = values.astype(float).copy()
    for at in np.argwhere(inside):
        i = tuple(at + pad)
        total, weight = v[i] * counts[i], counts[i]
        for offset in product(*(range(-r, r + 1) for r in kernel.radius)):
            j = tuple(np.add(i, offset))
            if not any(offset) or counts[j] == 0:
                continue
            first = i if offset > (0, 0, 0) else j
            if levels and (h[first] <= 0 or abs(mean[i] - mean[j]) > levels.apart * h[first]):
                continue
            squares, shared = 0.0, 0
            for p in patch:
                a, b = tuple(i + p), tuple(j + p)
                if compared[a] and compared[b]:
                    squares += (g[a] - g[b]) ** 2 / (variance[a] + variance[b])
                    shared += 1
            d = squares * len(patch) / (max(shared, 1) * (kernel.normaliser or len(patch)))
            exponent = max(d / (kernel.h**2 * (h[first] ** 2 if levels else 1)) - kernel.onset, 0)
            if kernel.cutoff is None or exponent <= kernel.cutoff:
                w = np.exp(-exponent) * counts[j]
                total, weight = total + w * v[j], weight + w
        out[tuple(at)] = total / weight
    return out


@pytest.mark.parametrize("boundary", ["reflect", "inside", "cut"])
@pytest.mark.parametrize(
    ("radius", "patch"),
    [((1, 1, 2), box(1)), ((0, 2, 3), box(1, IN_PLANE)), ((1, 2, 1), ((0, 1), (0, 1), (-1, 2)))],
)
def test_it_is_its_definition(random, boundary, radius, patch):
    values, guide, mask, sigma = random
    kernel = Kernel(radius, patch, 0.5, boundary=boundary)
    for more in ({}, {"mask": mask}, {"mask": mask, "sigma": sigma}):
        ours = nlm_pass(values, guide, kernel, **more)
        assert ours == pytest.approx(written_out(values, guide, kernel, **more), abs=1e-5)


def test_onset_cutoff_normaliser_and_local_levels_are_their_definition(random):
    values, _, _, sigma = random
    kernel = Kernel((1, 2, 1), box(1), 0.6, normaliser=20.0, onset=0.4, cutoff=0.3, boundary="inside")
    levels = Levels(np.where(values > 0.8, 0, sigma).astype(np.float32), values, apart=0.9)
    for more in ({}, {"levels": levels}):
        expected = written_out(values, values, kernel, **more)
        assert nlm_pass(values, values, kernel, **more) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("boundary", ["reflect", "inside", "cut"])
def test_neither_slabs_nor_threads_change_the_result(random, boundary, monkeypatch):
    values, guide, _, _ = random
    kernel = Kernel((2, 2, 2), box(1), 0.5, boundary=boundary)
    whole = nlm_pass(values, guide, kernel)
    monkeypatch.setattr(nlm, "_SLAB", 1)
    monkeypatch.setattr(nlm, "_WORKERS", 1)
    assert nlm_pass(values, guide, kernel) == pytest.approx(whole, abs=1e-6)


def quick_exp(x, out):
    """The exponential of scikit-image's fast mode (Schraudolph, Neural Computation 11:853, 1999): ± 4 %.

    Relative to its value at 0, which is not 1, because that is what a voxel itself counts there.
    """

    def quick(y):
        bits = 2**20 / np.log(2) * np.maximum(y, -700.0).astype(np.float64) + (1072693248 - 60801)
        return (bits.astype(np.int64) << 32).view(np.float64)

    out[...] = quick(x) / quick(np.zeros(1))
    return out


@pytest.mark.parametrize("size", [3, 5])
def test_scikit_images_fast_mode_by_its_own_definition(brain, size, monkeypatch):
    """It compares half-open windows, {0, 1} for size 3, divides by the full size, and drops exponents > 5.

    With its approximate exp too, all that is left are the few pairs whose exponent is 5 to rounding.
    """
    values, h = brain[0], 0.08
    extent = (1 - size // 2, size // 2)
    cube = Kernel((2, 2, 2), (extent, extent, extent), h, normaliser=size**3, cutoff=5.0)
    plane = values[20:21]
    square = Kernel((0, 5, 5), ((0, 0), extent, extent), h, normaliser=size**2, cutoff=5.0)
    volume = denoise_nl_means(values.astype(np.float64), size, 2, h=h, fast_mode=True)
    image = denoise_nl_means(plane[0].astype(np.float64), size, 5, h=h, fast_mode=True)
    for theirs, image_of, kernel in ((volume, values, cube), (image[None], plane, square)):
        exact = np.abs(nlm_pass(image_of, image_of, kernel) - theirs)
        with monkeypatch.context() as m:
            m.setattr(np, "exp", quick_exp)
            same = np.abs(nlm_pass(image_of, image_of, kernel) - theirs)
        assert same.max() < 2e-3
        assert np.quantile(same, 0.999) < 1e-6
        assert exact.max() < 4e-3


def test_opencv_agrees_to_the_rounding_of_its_eight_bits(brain):
    """The same definition; OpenCV reads and writes whole numbers and has its weights in a table."""
    grey = np.clip(np.rint(brain[0][20:21] * 200), 0, 255).astype(np.uint8)
    theirs = cv2.fastNlMeansDenoising(grey[0], None, h=16, templateWindowSize=3, searchWindowSize=11)
    ours = nlm_pass(*[grey.astype(np.float32)] * 2, Kernel((0, 5, 5), box(1, IN_PLANE), 16.0))[0]
    difference = ours - theirs
    assert np.sqrt(np.mean(difference**2)) < 0.35  # of 255; rounding alone makes 0.29
    assert np.abs(difference).max() < 1.5


def test_dipy_agrees_within_its_own_weighting(brain):
    """Same windows and patches; dipy's fall-off and borders are its own: a third of the change."""
    values, mask = brain
    theirs = nlmeans(
        values, sigma=0.08, patch_radius=1, block_radius=2, rician=False, num_threads=2, method="classic"
    )
    ours = nlm_pass(values, values, Kernel((2, 2, 2), box(1), 0.08))
    apart, change = (np.sqrt(np.mean((ours - other)[mask] ** 2)) for other in (theirs, values))
    assert apart < 0.35 * change


def test_values_and_strength_scaled_together_scale_the_result(brain):
    values = brain[0][:6]
    once = nlm_pass(values, values, Kernel((1, 3, 3), box(1), 0.05))
    scaled = nlm_pass(300 * values, 300 * values, Kernel((1, 3, 3), box(1), 15.0))
    assert scaled / 300 == pytest.approx(once, abs=1e-6)


def test_with_a_noise_level_the_unit_does_not_matter(brain):
    values, mask = (a[:6] for a in brain)
    sigma = np.full(values.shape, NOISE, np.float32)
    kernel = Kernel((1, 3, 3), box(1), 0.7, onset=2.0, boundary="cut")
    once = nlm_pass(values, values, kernel, mask, sigma)
    assert nlm_pass(50 * values, 50 * values, kernel, mask, 50 * sigma) / 50 == pytest.approx(once, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("boundary", ["reflect", "inside", "cut"])
def test_a_centred_kernel_does_not_know_left_from_right(random, axis, boundary):
    values, guide, mask, sigma = random
    kernel = Kernel((1, 2, 2), box(1), 0.5, boundary=boundary)
    turned = [np.flip(a, axis) for a in random]
    expected = np.flip(nlm_pass(values, guide, kernel, mask, sigma), axis)
    assert nlm_pass(turned[0], turned[1], kernel, turned[2], turned[3]) == pytest.approx(expected, abs=1e-6)


def test_a_constant_stays_whatever_the_guide(random):
    _, guide, mask, sigma = random
    flat = np.full(guide.shape, 7.5, np.float32)
    for boundary in ("reflect", "inside", "cut"):
        kernel = Kernel((1, 2, 2), box(1), 0.5, boundary=boundary)
        assert nlm_pass(flat, guide, kernel) == pytest.approx(7.5, rel=1e-6)
        assert nlm_pass(flat, guide, kernel, mask, sigma) == pytest.approx(7.5, rel=1e-6)


def test_what_lies_outside_the_mask_neither_leaves_nor_changes(random):
    values, guide, mask, sigma = random
    kernel = Kernel((1, 2, 2), box(1), 0.5)
    spoiled = [np.where(mask, a, np.nan).astype(np.float32) for a in (values, guide, sigma)]
    out = nlm_pass(spoiled[0], spoiled[1], kernel, mask, spoiled[2])
    assert (out[mask] == nlm_pass(values, guide, kernel, mask, sigma)[mask]).all()
    assert np.isnan(out[~mask]).all()


def test_each_plane_of_a_stack_is_alone_if_the_window_says_so(brain):
    values = brain[0][:4]
    kernel = Kernel((0, 3, 3), box(1, IN_PLANE), 0.05)
    alone = np.concatenate([nlm_pass(p[None], p[None], kernel) for p in values])
    assert nlm_pass(values, values, kernel) == pytest.approx(alone, abs=1e-6)


def test_what_cannot_be_averaged_is_refused(random):
    values, guide, mask, sigma = random
    kernel = Kernel((1, 1, 1), box(1), 0.5)
    with pytest.raises(ValueError, match="finite"):
        nlm_pass(np.where(mask, np.nan, values), guide, kernel, mask)
    with pytest.raises(ValueError, match="one shape"):
        nlm_pass(values, guide[1:], kernel)
    with pytest.raises(ValueError, match="σ > 0"):
        nlm_pass(values, guide, kernel, mask, 0 * sigma)
    with pytest.raises(ValueError, match="h of non-local means"):
        Kernel((1, 1, 1), box(1), 0.0)
    with pytest.raises(ValueError, match="patch"):
        Kernel((1, 1, 1), ((1, 2), (0, 1), (0, 1)), 0.5)
    with pytest.raises(ValueError, match="radii"):
        Kernel((1, -1, 1), box(1), 0.5)
    with pytest.raises(ValueError, match="boundary"):
        Kernel((1, 1, 1), box(1), 0.5, boundary="wrap")
