"""A study arrives by C-STORE from DCMTK; its maps and lesion are in Orthanc, and every reader agrees."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy.ndimage import map_coordinates

from dicom_node.demo import LoopbackOrthanc
from dicom_node.simulate.export import Identity
from tests import builders
from tests.harness import (
    Node,
    dciodvfy_errors,
    dcmsend,
    dicom_destination,
    needs_dcmtk,
    needs_orthanc,
    tool,
)

pytestmark = [pytest.mark.peers, needs_dcmtk, needs_orthanc]

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def from_pacs(orthanc: LoopbackOrthanc, folder: Path) -> dict[str, list[Path]]:
    """Everything that Orthanc holds, by series description."""
    found: dict[str, list[Path]] = {}
    folder.mkdir()
    for instance in orthanc.get("/instances"):
        url = f"http://127.0.0.1:{orthanc.http_port}/instances/{instance}/file"
        path = folder / f"{instance}.dcm"
        path.write_bytes(urllib.request.urlopen(url, timeout=30).read())
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found.setdefault(str(header.SeriesDescription), []).append(path)
    return found


def nifti_points(path: Path, points: np.ndarray) -> np.ndarray:
    """A NIfTI's values at patient LPS points, linearly."""
    image = nibabel.load(path)
    index = np.linalg.inv(_RAS_TO_LPS @ image.affine)
    where = points @ index[:3, :3].T + index[:3, 3]
    return map_coordinates(np.asarray(image.dataobj, dtype=np.float64), where.T, order=1, mode="nearest")


def volume_points(values: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of a (slice, row, column) volume with an LPS affine at patient points, linearly."""
    index = np.linalg.inv(affine)
    where = points @ index[:3, :3].T + index[:3, 3]
    return map_coordinates(values.astype(np.float64), where.T, order=1, mode="nearest")


def parametric_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames by the formula of PS3.3 C.7.6.2.1.1, by hand: values (slice, row, column) and LPS affine."""
    d = pydicom.dcmread(path)
    shared = d.SharedFunctionalGroupsSequence[0]
    iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    rows, columns = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    positions = np.array(
        [f.PlanePositionSequence[0].ImagePositionPatient for f in d.PerFrameFunctionalGroupsSequence], float
    )
    affine = np.eye(4)
    affine[:3, 0] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 1], affine[:3, 2] = iop[3:] * rows, iop[:3] * columns
    affine[:3, 3] = positions[0]
    return np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns), affine


@pytest.fixture(scope="module")
def node(shared_orthanc: LoopbackOrthanc, module_node: Callable[..., Node]) -> Node:
    return module_node(destinations=dicom_destination(shared_orthanc.dicom_port), pictures=True)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_a_study_sent_by_dcmtk_ends_in_orthanc_and_readers_agree(orientation, orthanc, node, tmp_path):
    study = builders.study(orientation, identity=Identity(patient_id=orientation, study=orientation))
    builders.write(study, tmp_path / "study")

    dcmsend(node.port, [tmp_path / "study"])
    uid = str(study[0].StudyInstanceUID)

    def states(status) -> list[str]:
        return [r["state"] for c in status["cases"] if c["studies"] == [uid] for r in c["revisions"]]

    status = node.wait_for(lambda s: set(states(s)) & {"DONE", "FAILED", "IGNORED"})
    assert states(status) == ["DONE"], status

    held = from_pacs(orthanc, tmp_path / "held")
    objects = {name: paths for name, paths in held.items() if name.startswith("MRSI-SR")}
    classes = {
        pydicom.dcmread(p, stop_before_pixels=True).SOPClassUID.name for ps in objects.values() for p in ps
    }
    assert classes == {
        "MR Image Storage",
        "Secondary Capture Image Storage",
        "Parametric Map Storage",
        "Segmentation Storage",
        "Comprehensive SR Storage",
    }
    assert not dciodvfy_errors([p for paths in objects.values() for p in paths])
    for paths in objects.values():
        header = pydicom.dcmread(paths[0], stop_before_pixels=True)
        assert header.StudyInstanceUID == study[0].StudyInstanceUID
        assert header.PatientID == study[0].PatientID

    _the_source_is_where_it_was(study, objects)
    _readers_agree(objects, tmp_path)


def _the_source_is_where_it_was(study, objects) -> None:
    """The map came in asymmetric along every axis; at its own sample points the result follows it."""
    slices = builders.series(study, next(d.SeriesDescription for d in study if "tNAA" in d.SeriesDescription))
    slices.sort(
        key=lambda d: (
            d.ImagePositionPatient @ np.cross(d.ImageOrientationPatient[:3], d.ImageOrientationPatient[3:])
        )
    )
    values, affine = parametric_map(objects["MRSI-SR tNAA PM"][0])
    asked, got, wanted = [], [], []
    for d in slices:
        iop = np.array(d.ImageOrientationPatient, dtype=float)
        r, c = np.mgrid[: d.Rows, : d.Columns]
        spacing = [float(x) for x in d.PixelSpacing]
        points = (
            np.array(d.ImagePositionPatient, dtype=float)
            + np.multiply.outer(c * spacing[1], iop[:3])
            + np.multiply.outer(r * spacing[0], iop[3:])
        ).reshape(-1, 3)
        asked.append(points)
        got.append(volume_points(values, affine, points))
        wanted.append(d.pixel_array.ravel())
    measured = np.corrcoef(np.concatenate(got), np.concatenate(wanted))[0, 1]
    assert measured > 0.99, measured
    for axis_flipped in (np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1]):
        turned = [volume_points(values[axis_flipped], affine, p) for p in asked]
        assert np.corrcoef(np.concatenate(turned), np.concatenate(wanted))[0, 1] < 0.98


def _readers_agree(objects, tmp_path: Path) -> None:
    pm_path = objects["MRSI-SR HGG PM"][0]
    values, affine = parametric_map(pm_path)
    rng = np.random.default_rng(7)
    inside = rng.uniform(0.5, np.array(values.shape) - 1.5, size=(300, 3))
    points = inside @ affine[:3, :3].T + affine[:3, 3]
    wanted = volume_points(values, affine, points)
    scale = np.abs(values).max()

    out = tmp_path / "dcmqi"
    out.mkdir()
    _run(
        tool("paramap2itkimage"),
        "--inputDICOM",
        pm_path,
        "--outputDirectory",
        out,
        "--prefix",
        "pm",
        "-t",
        "nii",
    )
    assert np.allclose(nifti_points(next(out.glob("pm-*.nii*")), points), wanted, atol=1e-6 * scale)

    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "pm.dcm").write_bytes(pm_path.read_bytes())
    _run(tool("dcm2niix"), "-z", "n", "-b", "n", "-f", "converted", "-o", out, alone)
    assert np.allclose(nifti_points(out / "converted.nii", points), wanted, atol=1e-6 * scale)

    mr = next(paths for name, paths in objects.items() if name.startswith("MRSI-SR HGG x"))
    step = 1.0 / float(next(n for n in objects if n.startswith("MRSI-SR HGG x")).rsplit("x", 1)[1])
    folder = tmp_path / "mr"
    folder.mkdir()
    for p in mr:
        (folder / p.name).write_bytes(p.read_bytes())
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    read = [image.GetPixel(*image.TransformPhysicalPointToIndex(p)) * step for p in _centres(affine, inside)]
    expected = [values[tuple(i)] for i in np.rint(inside).astype(int)]
    assert np.abs(np.array(read) - expected).max() <= step / 2 + 1e-6 * scale

    seg = objects["MRSI-SR lesion"][0] if "MRSI-SR lesion" in objects else None
    assert seg is not None, sorted(objects)
    _run(
        tool("segimage2itkimage"),
        "--inputDICOM",
        seg,
        "--outputDirectory",
        out,
        "--prefix",
        "seg",
        "-t",
        "nii",
    )
    _segments_lie_where_pydicom_says(seg, sorted(out.glob("seg-*.nii*")))


def _centres(affine: np.ndarray, indices: np.ndarray) -> list[list[float]]:
    nearest = np.rint(indices)
    return [list(p) for p in nearest @ affine[:3, :3].T + affine[:3, 3]]


def _segments_lie_where_pydicom_says(seg: Path, images: list[Path]) -> None:
    """dcmqi's voxels of all segments are the voxels of the frames, at the same patient points."""
    d = pydicom.dcmread(seg)
    shared = d.SharedFunctionalGroupsSequence[0]
    iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    rows, columns = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = d.pixel_array.reshape(-1, d.Rows, d.Columns)
    ours = []
    for frame, item in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        r, c = np.nonzero(frame)
        ours.append(position + np.outer(c * columns, iop[:3]) + np.outer(r * rows, iop[3:]))
    theirs = []
    for path in images:
        image = nibabel.load(path)
        where = np.argwhere(np.asarray(image.dataobj) > 0)
        lps = _RAS_TO_LPS @ image.affine
        theirs.append(where @ lps[:3, :3].T + lps[:3, 3])
    a, b = (np.concatenate(x) for x in (ours, theirs))
    assert len(a) == len(b) > 0
    a, b = (x[np.lexsort(np.round(x, 1).T)] for x in (a, b))
    assert np.linalg.norm(a - b, axis=1).max() < 0.05


def _run(*command: object) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
