"""What the browser gets: the same value at the same patient point as in the DICOM that left."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from dicom_node.config import IdentifyRules
from dicom_node.errors import NotDicom
from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.web.pictures import Look, Scene, clicked, draw, index_at, point_at, shape_of, size_of
from dicom_node.web.volumes import Shelf, StudyVolumes, volumes_of
from sr_core import Grid
from tests.doors import sqlite_in
from tests.shown import Finished, finished_study

RULES = IdentifyRules()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Finished:
    return finished_study(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def volumes(study) -> StudyVolumes:
    found = volumes_of(study.store, study.spool, RULES, Shelf(), study.key.case)
    assert found is not None and found.warnings == []
    return found


def served(volumes: StudyVolumes, key: str, folder: Path) -> SimpleITK.Image:
    """A layer's NIfTI as SimpleITK reads it: in LPS."""
    path = folder / f"{key}.nii.gz"
    path.write_bytes(volumes.load(key).as_nifti())
    return SimpleITK.ReadImage(str(path))


def some_points(grid: Grid, n: int = 200) -> list[tuple[float, ...]]:
    """Patient points near voxel centres, anywhere in the grid."""
    rng = np.random.default_rng(3)
    index = np.stack([rng.integers(0, size, n) for size in grid.shape], axis=1)
    return [tuple(p) for p in grid.to_patient(index + rng.uniform(-0.4, 0.4, index.shape))]


def values_at(image: SimpleITK.Image, points: list[tuple[float, ...]]) -> np.ndarray:
    return np.array([image[image.TransformPhysicalPointToIndex(p)] for p in points], dtype=np.float64)


def nearest(values: np.ndarray, affine: np.ndarray, points: list[tuple[float, ...]]) -> np.ndarray:
    index = np.rint((np.array(points) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    return values[tuple(index.T)].astype(np.float64)


def test_every_map_the_anatomy_and_the_segments_are_there(volumes):
    maps = {"HGG", "TCN", "tNAA", "tCho", "Glu", "Gln", "2HG"}
    by_kind = {
        kind: {x.name for x in volumes.layers.values() if x.kind == kind} for kind in ("map", "measured")
    }
    assert by_kind == {"map": maps, "measured": maps}
    assert list(volumes.layers)[:3] == ["anatomy", "sr-HGG", "sr-TCN"]  # ratios first
    assert volumes.layers["anatomy"].name == "T1"
    segments = {x.label for x in volumes.layers.values() if x.kind == "segment"}
    assert segments == {"Metabolic lesion HGG", "Metabolic lesion TCN", "Not measured or repaired"}


@pytest.mark.parametrize("name", ["HGG", "2HG"])
def test_simpleitk_reads_from_the_nifti_what_dcmqi_and_highdicom_read_from_the_parametric_map(
    study, volumes, name, tmp_path
):
    points = some_points(study.result.grid)
    shown = values_at(served(volumes, f"sr-{name}", tmp_path), points)
    program = Path(sys.executable).with_name("paramap2itkimage")
    path = study.files[f"PM_{name}"]
    done = subprocess.run(
        [program, "--inputDICOM", path, "--outputDirectory", tmp_path, "--prefix", "pm", "-t", "nrrd"],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (image,) = tmp_path.glob("pm-*.nrrd")
    assert np.allclose(shown, values_at(SimpleITK.ReadImage(str(image)), points), rtol=1e-6)
    volume = hd.imread(path).get_volume(apply_real_world_transform=True)
    assert np.allclose(shown, nearest(volume.array, volume.affine, points), rtol=1e-6)
    assert len(set(shown)) > 150  # not all one


def test_the_units_are_those_of_the_parametric_map(volumes):
    assert volumes.layers["sr-HGG"].unit == "ratio" and volumes.layers["sr-2HG"].unit == "mmol/L"
    assert volumes.layers["lr-2HG"].unit == "mmol/L"


def test_measured_maps_lie_where_they_were_measured(study, volumes, tmp_path):
    for m in study.source.acquisition.maps:
        points = some_points(m.grid)
        image = served(volumes, f"lr-{m.metabolite}", tmp_path)
        assert np.allclose(values_at(image, points), nearest(m.values, m.grid.affine, points), rtol=1e-6)


def test_the_anatomy_and_each_lesion_lie_where_they_are(study, volumes, tmp_path):
    grid, points = study.result.grid, some_points(study.result.grid, 2000)
    anatomy = values_at(served(volumes, "anatomy", tmp_path), points)
    assert np.abs(anatomy - nearest(study.result.anatomy[0].values, grid.affine, points)).max() <= 0.5
    for lesion in study.result.lesion:
        key = next(k for k, x in volumes.layers.items() if x.label == f"Metabolic lesion {lesion.source}")
        shown = volumes.load(key)
        found = {
            tuple(i)
            for i in np.rint(grid.to_index(shown.grid.to_patient(np.argwhere(shown.values)))).astype(int)
        }
        assert found == set(map(tuple, np.argwhere(lesion.mask)))
        inside = [tuple(p) for p in grid.to_patient(np.argwhere(lesion.mask)[::9])]
        assert (values_at(served(volumes, key, tmp_path), inside) == 1).all()


def test_a_readout_at_a_point_is_the_voxels_value(study, volumes):
    grid, hgg = study.result.grid, study.result.ratios[0]
    for index in [(0, 0, 0), (7, 8, 12), (23, 39, 35)]:
        assert volumes.load("sr-HGG").at(grid.to_patient(index)) == pytest.approx(
            float(hgg.values[index]), rel=1e-6
        )
    assert volumes.load("sr-HGG").at(grid.to_patient((-1, 0, 0))) is None


def test_the_tag_of_a_volume_changes_with_its_voxels_only(study, volumes):
    again = volumes_of(study.store, study.spool, RULES, Shelf(), study.key.case)
    assert again is not None and again.layers == volumes.layers
    assert len({x.tag for x in volumes.layers.values()}) == len(volumes.layers)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_click_on_a_picture_finds_the_voxel_that_was_drawn_there(study, volumes, plane):
    """Light one voxel up, look for its pixels in the picture, click on them: it is that voxel again."""
    grid = study.result.grid
    shape = shape_of(grid)
    wanted = (shape[0] // 3, shape[1] // 4, shape[2] - 3)
    point = point_at(grid, wanted)
    assert index_at(grid, point) == wanted
    lit = np.zeros(grid.shape, dtype=np.float32)
    lit[tuple(np.rint(grid.to_index(point)).astype(int))] = 1.0
    shown = type(volumes.load("sr-HGG"))(volumes.layers["sr-HGG"], lit, grid)
    look = Look("gray", 1.0, 0.5, 1.0)
    other = point_at(grid, tuple(n // 2 for n in shape))
    fixed = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    through = point_at(grid, tuple(wanted[a] if a == fixed else n // 2 for a, n in enumerate(shape)))
    assert through != other
    (picture,) = [pixels(draw(Scene(grid, None, shown, (), look, through), plane))]
    assert picture.shape[1::-1] == size_of(grid, plane)
    white = np.argwhere((picture == 255).all(axis=-1))
    row, column = np.median(white[outside_letters(white, picture.shape)], axis=0).astype(int)
    assert index_at(grid, clicked(grid, plane, through, int(column), int(row))) == wanted


def test_left_of_the_patient_is_on_the_right_and_the_head_on_top(study, volumes):
    """Radiological view, however the voxels are stored."""
    grid = study.result.grid
    middle = tuple(n // 2 for n in shape_of(grid))
    point = point_at(grid, middle)
    width, height = size_of(grid, "coronal")
    right_of_picture = clicked(grid, "coronal", point, width - 1, height // 2)
    top_of_picture = clicked(grid, "coronal", point, width // 2, 0)
    assert right_of_picture[0] > point[0] and top_of_picture[2] > point[2]
    bottom = clicked(grid, "axial", point, size_of(grid, "axial")[0] // 2, size_of(grid, "axial")[1] - 1)
    assert bottom[1] > point[1]


def test_files_that_retention_removed_are_named_as_such(study, volumes, tmp_path):
    shutil.copytree(study.folder, tmp_path / "data")
    store, spool = Store(sqlite_in(tmp_path / "data")), Spool(tmp_path / "data" / "spool")
    found = volumes_of(store, spool, RULES, Shelf(), study.key.case)
    for path in spool.root.rglob("*.dcm"):
        path.unlink()
    assert found is not None
    with pytest.raises(NotDicom, match="retention"):
        found.load("sr-HGG")
    gone = volumes_of(store, spool, RULES, Shelf(), study.key.case)
    assert gone is not None and any("retention" in w for w in gone.warnings)


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def outside_letters(at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Letters stand at the middle of each edge."""
    row, column = at.T
    margin = 20
    return (row > margin) & (row < shape[0] - margin) & (column > margin) & (column < shape[1] - margin)
