"""Real heads and real lesions: read from NIfTI files as other sites write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from sr_core import Contrast, Grid
from sr_core.simulate import (
    Entry,
    LesionPlan,
    TissueModel,
    read_labels,
    read_outlines,
    read_pool,
    read_subject,
)
from sr_core.simulate.anatomy import anatomical_image
from sr_core.simulate.external import FILES
from sr_core.simulate.lesion import draw_lesion
from sr_core.simulate.mixture import tissue_shares

POOL = Path(__file__).parents[3] / "config/evaluate/pool.toml"
SHAPE = (80, 96, 88)  # right to left, back to front, foot to head
CENTRE = (20.0, 60.0, 50.0)  # of the lesion: on the right


def head() -> np.ndarray:
    """RAS classes of an ellipsoid head: 1 CSF, 2 grey matter, 3 white matter, and a ventricle."""
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    r = np.sqrt(((i - 39.5) / 36) ** 2 + ((j - 47.5) / 44) ** 2 + ((k - 43.5) / 40) ** 2)
    out = np.zeros(SHAPE, np.int16)
    out[r < 1.0], out[r < 0.93], out[r < 0.76], out[r < 0.22] = 1, 2, 3, 1
    return out


def lesion() -> np.ndarray:
    """BraTS classes about CENTRE, an index from the right: oedema around enhancing tumour around necrosis."""
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    right = SHAPE[0] - 1 - CENTRE[0]
    r = np.sqrt((i - right) ** 2 + (j - CENTRE[1]) ** 2 + (k - CENTRE[2]) ** 2)
    out = np.zeros(SHAPE, np.int16)
    out[r < 14], out[r < 9], out[r < 4] = 2, 4, 1
    return out * (head() > 0)


def write(path: Path, values: np.ndarray, axes: str) -> None:
    """RAS ``values`` as NIfTI whose array runs along ``axes``; the origin is the head's centre."""
    affine = np.eye(4)
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(turn), path)


def entry(folder: Path, kind, axes: str = "LAS", **images: np.ndarray) -> Entry:
    files = {}
    for role, values in images.items():
        files[role] = folder / f"{role}.nii.gz"
        write(files[role], values, axes)
    return Entry("someone", kind, "external", files)


def brightness(of: dict[int, float], classes: np.ndarray, noise: float = 0.02) -> np.ndarray:
    image = np.zeros(SHAPE, np.float32)
    for c, value in of.items():
        image[classes == c] = value
    noise_of = np.random.default_rng(0).standard_normal(SHAPE) * noise
    return (image + noise_of * (image > 0)).astype(np.float32)


T1 = {1: 0.25, 2: 0.7, 3: 1.0}
FLAIR = {1: 0.15, 2: 0.8, 3: 0.6}


def at(tissue, lps) -> tuple[int, ...]:
    return tuple(np.rint(tissue.grid.to_index(lps)).astype(int))


@pytest.fixture(scope="module")
def glioma(tmp_path_factory):
    """As BraTS 2013: z-scored images in an LPS array, with classes of the tumour and a brain mask."""
    classes, ill = head(), lesion()
    t1c, flair = (brightness(b, classes) for b in (T1, FLAIR))
    t1c[ill == 4], t1c[ill == 1], t1c[ill == 2] = 1.6, 0.3, 0.7
    flair[ill > 0], flair[ill == 1] = 1.5, 0.5
    z = {
        n: ((v - v[classes > 0].mean()) / v[classes > 0].std()).astype(np.float32)
        for n, v in (("t1c", t1c), ("flair", flair))
    }
    folder = tmp_path_factory.mktemp("brats")
    return read_subject(
        entry(folder, "brats", "LPS", **z, tumour=ill.astype(np.uint8), brain=(classes > 0).astype(np.uint8))
    )


@pytest.mark.parametrize("axes", ["LAS", "RAS", "LPS", "PIR"])
def test_oasis_tissue_lies_where_its_affine_says_whatever_the_order_of_its_axes(tmp_path, axes):
    classes = head()
    classes[(classes == 2) & (np.arange(SHAPE[0])[:, None, None] >= 40)] = 3  # no cortex on the right
    tissue = read_subject(entry(tmp_path, "oasis", axes, t1=brightness(T1, classes), tissues=classes))
    assert tissue.name == "someone"
    for lps, volume in (
        ((0, 0, 0), tissue.csf),
        ((31, 0, 0), tissue.gm),  # left: x > 0
        ((-31, 0, 0), tissue.wm),
        ((4, 37, 0), tissue.gm),  # behind: y > 0
        ((16, 0, 20), tissue.wm),
    ):
        where = at(tissue, np.add(lps, (0.5, 0, 0)))
        assert volume[where] > 0.9, lps
    assert np.median(tissue.t1[tissue.wm > 0.9]) > np.median(tissue.t1[tissue.gm > 0.9])


def test_openms_tissue_is_told_by_brightness_and_lesions_are_filled_with_white_matter(tmp_path):
    classes, ill = head(), lesion() > 0
    t1, flair = (brightness(b, classes, 0.05) for b in (T1, FLAIR))
    t1[ill], flair[ill] = 0.5, 1.4
    tissue = read_subject(entry(tmp_path, "openms", t1=t1, flair=flair, lesion=ill.astype(np.uint8)))
    centre = (SHAPE[0] / 2 - 0.5 - (SHAPE[0] - 1 - CENTRE[0]), 47.5 - CENTRE[1], CENTRE[2] - 43.5)
    assert tissue.wm[at(tissue, centre)] > 0.99
    assert tissue.flair[at(tissue, centre)] == pytest.approx(1.4)
    assert tissue.lesion is None
    true = {"gm": 2, "wm": 3, "csf": 1}
    for name, value in true.items():
        found, expected = (
            getattr(tissue, name).sum(),
            ((classes == value) & ~ill).sum() + (name == "wm") * ill.sum(),
        )
        assert found == pytest.approx(expected, rel=0.12), name


def test_a_mixture_finds_the_shares_of_tissue_through_noise_and_a_bias_field():
    classes = head()
    i = np.arange(SHAPE[0])[:, None, None]
    bias = (1 + 0.25 * np.sin(i / 30)).astype(np.float32)
    gm, wm, csf = tissue_shares(
        brightness(T1, classes, 0.06) * bias, brightness(FLAIR, classes, 0.06), classes > 0
    )
    assert np.allclose((gm + wm + csf)[classes > 0], 1, atol=1e-5) and not (gm + wm + csf)[classes == 0].any()
    for share, value in ((csf, 1), (gm, 2), (wm, 3)):
        inner = ndimage.binary_erosion(classes == value)
        assert share[inner].mean() > 0.93
    with pytest.raises(ValueError, match="flat"):
        tissue_shares(np.ones(SHAPE, np.float32), brightness(FLAIR, classes), classes > 0)


def test_a_gliomas_own_lesion_is_the_one_that_is_simulated(glioma):
    """Metabolic: its core, on the right; on anatomy: the whole of it, in the real images untouched."""
    model = draw_lesion(glioma, LesionPlan(centre_mm=(30.0, 0.0, 0.0)), "match", np.random.default_rng(1))
    ill = lesion()
    assert (model.tumour > 0.5).sum() == pytest.approx(np.isin(ill, (1, 4)).sum(), rel=0.15)
    assert (model.flair > 0.5).sum() == pytest.approx((ill > 0).sum(), rel=0.15)
    assert (model.necrosis > 0.5).sum() == pytest.approx((ill == 1).sum(), rel=0.5)
    assert model.centre_mm[0] == pytest.approx(-19.5, abs=1)  # LPS: the right is x < 0
    assert glioma.wm[at(glioma, model.centre_mm)] == 1.0
    image = anatomical_image(glioma, model, Contrast.FLAIR, np.random.default_rng(0))
    inside = glioma.brain > 0.5
    assert np.corrcoef(image.values[inside], glioma.flair[inside])[0, 1] > 0.97


@pytest.mark.parametrize(("regime", "shown"), [("mrsi_only", False), ("mri_only", True)])
def test_a_gliomas_images_are_made_without_it_where_it_is_not_to_be_seen(glioma, regime, shown):
    model = draw_lesion(glioma, LesionPlan(), regime, np.random.default_rng(1))
    assert bool(model.tumour.any()) is not shown
    image = anatomical_image(glioma, model, Contrast.FLAIR, np.random.default_rng(0)).values
    wm = (glioma.wm > 0.9) & ~glioma.lesion.whole
    contrast = image[glioma.lesion.core & ~glioma.lesion.necrosis].mean() / image[wm].mean()
    assert contrast > 1.8 if shown else 0.8 < contrast < 1.2


@pytest.mark.parametrize("regime", ["mismatch", "larger", "shifted"])
def test_where_anatomy_is_real_it_is_the_metabolic_lesion_that_lies_elsewhere(glioma, regime):
    match = draw_lesion(glioma, LesionPlan(), "match", np.random.default_rng(1))
    other = draw_lesion(glioma, LesionPlan(), regime, np.random.default_rng(1))
    assert np.array_equal(match.flair, other.flair)
    a, b = match.tumour > 0.5, other.tumour > 0.5
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.95
    if regime == "larger":
        assert (b | ~(match.flair > 0.5)).all() and b.sum() > 1.3 * (match.flair > 0.5).sum()
    if regime == "shifted":
        apart = np.subtract(ndimage.center_of_mass(a), ndimage.center_of_mass(b))
        assert 2.5 < np.linalg.norm(apart) < 8.5


def test_images_off_one_grid_or_of_other_voxels_are_refused(tmp_path):
    off = entry(tmp_path, "oasis", t1=brightness(T1, head()), tissues=head())
    image = nibabel.load(off.files["t1"])
    moved = image.affine.copy()
    moved[0, 3] += 1
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), off.files["t1"])
    with pytest.raises(ValueError, match="one grid"):
        read_subject(off)
    coarse = image.affine @ np.diag([2.0, 2, 2, 1])
    for path in off.files.values():
        nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), coarse), path)
    with pytest.raises(ValueError, match="1 mm"):
        read_subject(off)


def test_the_pool_of_test_heads_is_internal_and_external_and_has_no_training_subject():
    pool = read_pool(POOL, Path("/somewhere"))
    counts = {(e.kind, e.group): sum(o.kind == e.kind for o in pool) for e in pool}
    assert counts == {
        ("labels", "internal"): 4,
        ("oasis", "external"): 10,
        ("openms", "external"): 2,
        ("brats", "external"): 4,
        ("icbm152", "external"): 1,
    }
    assert {e.name for e in pool if e.group == "internal"} == {f"seg_{n}_noface" for n in range(17, 21)}
    assert all(f.is_relative_to("/somewhere") for e in pool for f in e.files.values())
    assert all(set(e.files) == set(FILES[e.kind]) for e in pool)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\nkind = "ct"\ngroup = "external"', "no kind 'ct'"),
        ('name = "a"\nkind = "icbm152"\ngroup = "mine"', "'internal' or 'external'"),
        ('name = "a"\nkind = "oasis"\ngroup = "external"\nt1 = "a.nii"', "t1, tissues"),
        ('kind = "icbm152"\ngroup = "external"', "'name' is missing"),
        (
            'name = "a"\nkind = "icbm152"\ngroup = "external"\n[[subject]]\nname = "a"\nkind = "icbm152"\n'
            'group = "external"',
            "two subjects of one name: a",
        ),
    ],
)
def test_a_pool_that_is_not_one_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "pool.toml"
    path.write_text("[[subject]]\n" + text)
    with pytest.raises(ValueError, match=says) as refused:
        read_pool(path, tmp_path)
    assert str(path) in str(refused.value)


def test_the_icbm152_template_and_label_maps_are_read_as_such(tmp_path):
    assert read_subject(Entry("template", "icbm152", "external", {})).name == "template"
    labels = np.array([0, 4, 3, 2], np.int16)[head()]
    tissue = read_subject(entry(tmp_path, "labels", labels=labels))
    assert tissue.name == "someone" and tissue.t1 is None
    assert np.array_equal(tissue.gm, read_labels(tmp_path / "labels.nii.gz").gm)


def test_a_warped_head_is_another_one_of_about_that_size_and_the_same_by_seed(tmp_path):
    path = tmp_path / "labels.nii.gz"
    write(path, np.array([0, 4, 3, 2], np.int16)[head()], "RAS")
    plain = read_labels(path)
    one, same, other = (read_labels(path, warp=np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one.gm, same.gm) and np.array_equal(one.grid.affine, same.grid.affine)
    assert not np.array_equal(one.gm, other.gm)
    for warped in (one, other):
        for name in ("gm", "wm", "csf"):
            assert getattr(warped, name).sum() == pytest.approx(getattr(plain, name).sum(), rel=0.3)
        a, b = (t.grid.to_patient(np.argwhere(t.brain > 0.5)) for t in (warped, plain))
        assert np.abs(a.mean(axis=0) - b.mean(axis=0)).max() < 6
        assert (np.ptp(a, axis=0) / np.ptp(b, axis=0)).max() < 1.25
        pieces = np.bincount(ndimage.label(warped.wm > 0.5)[0].ravel())[1:]
        assert pieces.max() > 0.99 * pieces.sum()  # bent, not torn


def test_real_outlines_are_the_large_connected_lesions_of_a_mask(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:30, 10:22, 10:18] = 1  # 1920 mm³
    mask[50:62, 50:60, 50:60] = 1  # 1200 mm³
    mask[70, 70, 70] = 1
    write(tmp_path / "lesions.nii.gz", mask, "LAS")
    found = read_outlines(tmp_path / "lesions.nii.gz")
    assert [int(o.mask.sum()) for o in found] == [1920, 1200]
    assert found[0].radius_mm == pytest.approx((3 * 1920 / (4 * np.pi)) ** (1 / 3))
    assert len(read_outlines(tmp_path / "lesions.nii.gz", smallest_ml=0.0)) == 3


@pytest.fixture(scope="module")
def brick(tmp_path_factory):
    """A flat lesion, 20 × 16 × 8 mm."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:30, 10:26, 10:18] = 1
    path = tmp_path_factory.mktemp("lesions") / "brick.nii.gz"
    write(path, mask, "RAS")
    return read_outlines(path)[0]


@pytest.fixture(scope="module")
def white() -> TissueModel:
    shape = (96, 96, 96)
    nothing = np.zeros(shape, np.float32)
    grid = Grid(shape, np.eye(4)[[2, 1, 0, 3]], "cube")
    return TissueModel(nothing, nothing + 1, nothing, grid, "cube")


def flatness(mask: np.ndarray) -> float:
    """Longest over shortest principal axis."""
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T))
    return float(np.sqrt(spread[2] / spread[0]))


@pytest.mark.parametrize("radius", [8.0, 16.0])
def test_a_lesion_of_a_real_outline_has_its_shape_and_the_asked_for_size(white, brick, radius):
    plan = LesionPlan(radius_mm=radius, centre_mm=(48.0, 48.0, 48.0), outline=brick)
    drawn, again, other = (draw_lesion(white, plan, "match", np.random.default_rng(s)) for s in (3, 3, 4))
    inside = drawn.tumour > 0.5
    assert np.array_equal(drawn.tumour, again.tumour)
    assert not np.array_equal(inside, other.tumour > 0.5)  # turned otherwise
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.3)
    assert flatness(inside) == pytest.approx(flatness(brick.mask), rel=0.3)
    assert (drawn.necrosis > 0.5).any() and (drawn.necrosis <= drawn.tumour + 1e-6).all()
    assert ((drawn.flair > 0.5) | ~inside).all()


def test_an_outline_changes_nothing_but_the_lesions_shape(white, brick):
    """Where it lies and its texture come from the same draws."""
    plan = LesionPlan()
    drawn, real = (
        draw_lesion(white, p, "match", np.random.default_rng(3)) for p in (plan, replace(plan, outline=brick))
    )
    assert drawn.centre_mm == real.centre_mm and drawn.radius_mm == real.radius_mm
    assert np.array_equal(drawn.texture, real.texture)
    assert flatness(real.tumour > 0.5) > 1.2 * flatness(drawn.tumour > 0.5)
