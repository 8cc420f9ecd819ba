"""Anatomy that was moved onto the maps: the motion is sent along, and lesions on its planes go through it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, check, encode_study
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import AnatomicalImage, Contrast, Grid, RigidMotion, SuperResolved
from tests import phantom


def motion(centre: np.ndarray, turn_deg: tuple[float, float, float], shift_mm: tuple[float, float, float]):
    """A rigid motion with nothing symmetric in it, about ``centre``."""
    euler = SimpleITK.Euler3DTransform([float(c) for c in centre], *[float(np.radians(t)) for t in turn_deg])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(euler.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift_mm
    return matrix


def encoded(result: SuperResolved, source: SourceStudy, **rules: object) -> list[EncodedObject]:
    few = {"mr_maps": (), "fused_maps": (), "parametric_maps": (), "summary": False, "measurements": False}
    return list(encode_study(result, source, OutputRules(**(few | rules))))


def named(objects: list[EncodedObject], name: str) -> Dataset:
    return next(o.dataset for o in objects if o.name == name)


@pytest.fixture(scope="module", params=["another frame", "the same frame"])
def moved(request: pytest.FixtureRequest) -> tuple[SourceStudy, SuperResolved, np.ndarray]:
    """A study whose T1 was found to lie elsewhere: maps' LPS mm to the T1's own, by the last value."""
    frame = phantom.OTHER_FRAME if request.param == "another frame" else phantom.FRAME
    source = phantom.source_study("oblique", anatomy_frame=frame)
    made = phantom.super_resolved(source)
    centre = made.grid.to_patient((np.array(made.grid.shape) - 1) / 2)
    matrix = motion(centre, (19.0, -8.0, 27.0), (2.5, -3.5, 1.5))
    return source, replace(made, motions=(RigidMotion(Contrast.T1, matrix),)), matrix


@pytest.fixture(scope="module")
def objects(moved) -> list[EncodedObject]:
    source, result, _ = moved
    return encoded(result, source)


def matrix_of(item: Dataset) -> np.ndarray:
    (step,) = item.MatrixRegistrationSequence[0].MatrixSequence
    assert step.FrameOfReferenceTransformationMatrixType == "RIGID"
    return np.array([float(x) for x in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)


def itk(values: np.ndarray, grid: Grid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing([float(s) for s in grid.spacing_mm[::-1]])
    image.SetOrigin([float(o) for o in grid.origin_mm])
    u, _, vt = np.linalg.svd((grid.affine[:3, :3] / np.array(grid.spacing_mm))[:, ::-1])
    image.SetDirection([float(x) for x in (u @ vt).ravel()])
    return image


def segment(d: Dataset, headers: tuple[Dataset, ...], number: int) -> np.ndarray:
    """A segment on the planes of ``headers``, by the instances its frames refer to."""
    bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")
    frames = bits[: d.NumberOfFrames * d.Rows * d.Columns].reshape(-1, d.Rows, d.Columns)
    place = {str(h.SOPInstanceUID): k for k, h in enumerate(headers)}
    out = np.zeros((len(headers), d.Rows, d.Columns), dtype=bool)
    for frame, item in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
        if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            plane = item.DerivationImageSequence[0].SourceImageSequence[0]
            out[place[str(plane.ReferencedSOPInstanceUID)]] = frame
    return out


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_the_matrix_takes_the_anatomys_points_to_the_maps(objects, moved):
    """As PS3.3 C.20.2.1.1 has it: from the frame named in the item to the frame of the object."""
    _, result, matrix = moved
    d = named(objects, "REG_anatomy")
    assert d.FrameOfReferenceUID == phantom.FRAME
    at_rest, to_maps = d.RegistrationSequence
    assert (matrix_of(at_rest) == np.eye(4)).all()
    point = result.grid.to_patient((3, 7, 11))
    own = matrix @ np.append(point, 1)
    assert (matrix_of(to_maps) @ own)[:3] == pytest.approx(point, abs=1e-6)


def test_a_lesion_on_the_anatomys_planes_is_where_an_outside_reader_puts_it_by_that_matrix(objects, moved):
    """SimpleITK resamples the lesion through the matrix as written; the inverse would be elsewhere."""
    source, result, _ = moved
    written = matrix_of(named(objects, "REG_anatomy").RegistrationSequence[1])
    t1 = source.acquisition.anatomy[0].grid

    def through(matrix: np.ndarray, mask: np.ndarray) -> np.ndarray:
        transform = SimpleITK.AffineTransform(3)
        transform.SetMatrix(matrix[:3, :3].ravel().tolist())
        transform.SetTranslation(matrix[:3, 3].tolist())
        like = itk(np.zeros(t1.shape), t1)
        moved_there = SimpleITK.Resample(itk(mask, result.grid), like, transform, SimpleITK.sitkLinear, 0.0)
        return SimpleITK.GetArrayFromImage(moved_there) >= 0.5

    d = named(objects, "SEG_lesion_on_T1")
    for number, lesion in enumerate(result.lesion, start=1):
        found = segment(d, source.anatomy_headers["T1"], number)
        assert overlap(found, through(written, lesion.mask)) > 0.9
        assert overlap(found, through(np.linalg.inv(written), lesion.mask)) < 0.6
        assert overlap(found, through(np.eye(4), lesion.mask)) < 0.6


def test_the_segmentation_lies_in_the_anatomys_own_frame_and_on_its_planes(objects, moved):
    source, _, _ = moved
    d = named(objects, "SEG_lesion_on_T1")
    own = source.anatomy_headers["T1"]
    assert d.FrameOfReferenceUID == own[0].FrameOfReferenceUID
    assert d.ReferencedSeriesSequence[0].SeriesInstanceUID == own[0].SeriesInstanceUID


def test_images_that_were_moved_are_named_and_a_frame_only_if_it_is_another(objects, moved):
    source, _, _ = moved
    item = named(objects, "REG_anatomy").RegistrationSequence[1]
    t1 = source.anatomy_headers["T1"]
    named_images = [str(i.ReferencedSOPInstanceUID) for i in item.ReferencedImageSequence]
    assert named_images == [str(h.SOPInstanceUID) for h in t1]
    elsewhere = t1[0].FrameOfReferenceUID != phantom.FRAME
    assert item.get("FrameOfReferenceUID") == (phantom.OTHER_FRAME if elsewhere else None)


def test_the_gate_passes_it_with_and_without_the_result(objects, moved):
    check(objects)
    check(objects, moved[1])


def spoiled(objects: list[EncodedObject], spoil) -> list[EncodedObject]:
    out = []
    for o in objects:
        if o.kind == "REG":
            o = EncodedObject(copy.deepcopy(o.dataset), o.kind, o.name)
            spoil(o.dataset.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0])
        out.append(o)
    return out


def _inverted(step: Dataset) -> None:
    m = np.array([float(x) for x in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
    step.FrameOfReferenceTransformationMatrix = [f"{x:.12g}"[:16] for x in np.linalg.inv(m).ravel()]


def _scaled(step: Dataset) -> None:
    m = np.array([float(x) for x in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
    m[:3, :3] *= 1.01
    step.FrameOfReferenceTransformationMatrix = [f"{x:.12g}"[:16] for x in m.ravel()]


@pytest.mark.parametrize(
    ("spoil", "words"), [(_inverted, "is not undone by any matrix"), (_scaled, "no rigid motion")]
)
def test_the_gate_holds_a_matrix_of_the_other_direction_and_one_that_stretches(objects, moved, spoil, words):
    with pytest.raises(BadObject, match=words):
        check(spoiled(objects, spoil), moved[1])


def test_the_gate_holds_a_segmentation_in_a_frame_that_is_registered_to_none():
    source = phantom.source_study(anatomy_frame=phantom.OTHER_FRAME)
    objects = encoded(phantom.super_resolved(source), source)
    with pytest.raises(BadObject, match="registered to none"):
        check([o for o in objects if o.kind != "REG"])


def test_a_registration_that_was_refused_leaves_nothing_behind(moved):
    source, result, _ = moved
    made = {o.name for o in encoded(replace(result, motions=(), anatomy=()), source, mr_maps=("HGG",))}
    assert not made & {"REG_anatomy", "SEG_lesion_on_T1"}


def test_without_the_registration_no_lesion_goes_on_moved_planes(moved):
    source, result, _ = moved
    made = {o.name for o in encoded(result, source, registration=False)}
    assert not made & {"REG_anatomy", "SEG_lesion_on_T1"}


def test_anatomy_that_lies_as_its_header_says_needs_no_registration():
    source = phantom.source_study()
    names = {o.name for o in encoded(phantom.super_resolved(source), source)}
    assert "SEG_lesion_on_T1" in names and "REG_anatomy" not in names


def test_images_of_one_frame_that_moved_apart_do_not_claim_the_frame(moved):
    source, result, matrix = moved
    t1 = source.acquisition.anatomy[0]
    flair = AnatomicalImage(Contrast.FLAIR, t1.values, t1.grid)
    both = replace(
        source,
        acquisition=replace(source.acquisition, anatomy=(t1, flair)),
        anatomy_headers={**source.anatomy_headers, "FLAIR": phantom.instances("FLAIR", t1.grid)},
    )
    apart = matrix.copy()
    apart[0, 3] += 4.0
    motions = (RigidMotion(Contrast.T1, matrix), RigidMotion(Contrast.FLAIR, apart))
    d = named(encoded(replace(result, motions=motions), both), "REG_anatomy")
    assert len(d.RegistrationSequence) == 3
    assert not any("FrameOfReferenceUID" in item for item in d.RegistrationSequence[1:])
