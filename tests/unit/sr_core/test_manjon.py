"""Unguided upsampling by self-similarity, against Convert3D's and against its own promises."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from sr_core.manjon import manjon
from sr_core.simulate import from_icbm152

# The wheel has the program as a class; it runs as a process of its own.
C3D = "import picsl_c3d, sys; picsl_c3d.Convert3D().execute(sys.argv[1])"
INNER = (slice(6, -6),) * 3


def block_mean(hr, factor):
    for axis, f in enumerate(factor):
        hr = np.stack(np.split(hr, hr.shape[axis] // f, axis), axis).mean(axis + 1)
    return hr


def half_weighted_mean(hr, factor):
    """Mean over the window of ``factor`` voxels around every sample f·i, its ends by half (even f)."""
    for axis, f in enumerate(factor):
        window = np.ones(f) if f % 2 else np.r_[0.5, np.ones(f - 1), 0.5]
        whole = ndimage.convolve1d(hr, window / f, axis=axis, mode="mirror")
        hr = np.take(whole, np.arange(0, hr.shape[axis], f), axis)
    return hr


@pytest.fixture(scope="module")
def truth():
    """(28, 52, 52) of a map of the ICBM152 brain at 1 mm."""
    tissue = from_icbm152()
    whole = 160 * tissue.gm + 100 * tissue.wm + 10 * tissue.csf
    return whole[70:98, 70:122, 80:132].astype(np.float64)


@pytest.fixture(scope="module")
def small(truth):
    return block_mean(truth[:20, :24, :28], (2, 2, 2)).astype(np.float32)


def psnr(image, truth):
    """In dB, data_range = the truth's maximum, voxels 6 and more from the border."""
    return 10 * np.log10(truth.max() ** 2 / np.mean((image - truth)[INNER] ** 2))


@pytest.mark.slow
def test_it_is_what_convert3d_makes(truth, tmp_path):
    lr = block_mean(truth, (2, 2, 2)).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(lr.T), affine), tmp_path / "in.nii")
    command = "in.nii -nlm-upsample 2x2x2 -type float -o out.nii"
    subprocess.run([sys.executable, "-c", C3D, command], cwd=tmp_path, check=True, timeout=300)
    theirs = np.asarray(nibabel.load(tmp_path / "out.nii").dataobj, dtype=np.float64).T
    ours = manjon(lr, (2, 2, 2), centres="edges")
    spline = ndimage.zoom(lr, 2, order=3, mode="reflect", grid_mode=True)
    assert np.corrcoef(ours[INNER].ravel(), theirs[INNER].ravel())[0, 1] > 0.9999
    assert abs(psnr(ours, truth) - psnr(theirs, truth)) < 0.05
    assert psnr(ours, truth) > psnr(spline, truth) + 3


@pytest.mark.parametrize(("centres", "mean"), [("first", half_weighted_mean), ("edges", block_mean)])
@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 4, 3)])
def test_every_measured_voxel_keeps_its_mean(small, centres, mean, factor):
    lr = small[:6, :8, :8]
    hr = manjon(lr, factor, centres)
    assert hr.shape == tuple(n * f for n, f in zip(lr.shape, factor, strict=True))
    assert mean(hr.astype(np.float64), factor) == pytest.approx(lr, abs=1e-4 * float(np.ptp(lr)))


@pytest.mark.parametrize(("centres", "shift"), [("first", 0.0), ("edges", 0.5)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ramp_lies_where_the_convention_says(centres, shift, axis):
    shape = [6, 6, 6]
    shape[axis] = 24
    ramp = np.indices(shape)[axis].astype(np.float32)
    hr = np.moveaxis(manjon(ramp, (4, 4, 4), centres), axis, 0)
    expected = (np.arange(96) + shift) / 4 - shift
    assert hr[32:64].mean(axis=(1, 2)) == pytest.approx(expected[32:64], abs=0.02)


@pytest.mark.parametrize("centres", ["first", "edges"])
def test_unit_and_offset_do_not_matter(small, centres):
    lr = small[:6, :8, :8]
    once = manjon(lr, (2, 2, 2), centres)
    other = manjon(0.01 * lr - 3, (2, 2, 2), centres)
    assert 100 * (other + 3) == pytest.approx(once, abs=0.02 * float(np.ptp(lr)))
    assert np.corrcoef(other.ravel(), once.ravel())[0, 1] > 0.99999


def test_a_constant_stays():
    assert (manjon(np.full((3, 4, 5), 2.5, np.float32), (4, 4, 4)) == 2.5).all()


def test_empty_space_around_the_brain_does_not_matter(small):
    """Passes are confined to what varies."""
    lr = np.pad(small[:4, :6, :6], 4)
    wide = manjon(np.pad(lr, 2), (2, 2, 2), "edges")[4:-4, 4:-4, 4:-4]
    assert wide == pytest.approx(manjon(lr, (2, 2, 2), "edges"), abs=0.02 * float(np.ptp(lr)))


def test_what_cannot_be_upsampled_is_refused(small):
    with pytest.raises(ValueError, match="finite"):
        manjon(np.where(small > 50, np.nan, small), (2, 2, 2))
    with pytest.raises(ValueError, match="factors"):
        manjon(small, (2, 0, 2))
    with pytest.raises(ValueError, match="three axes"):
        manjon(small[0], (2, 2, 2))
    with pytest.raises(ValueError, match="'edges'"):
        manjon(small, (2, 2, 2), "corner")
