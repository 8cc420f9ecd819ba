"""The colour series and the summary page: what is drawn lies there, what is said is so, nobody is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, check, encode_study
from dicom_node.encode.overlay import COLOUR_MAP, letters
from dicom_node.encode.page import Page
from dicom_node.encode.production import Production
from dicom_node.encode.summary import page_of
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import Contrast, Grid, RigidMotion, SuperResolved, Uncertainty
from sr_core.maps import Novelty
from tests import phantom

_QUIET = {
    "anatomy_parent": True,
    "parametric_maps": (),
    "segmentation": False,
    "segmentation_on_anatomy": False,
    "measurements": False,
}


def pictures(result: SuperResolved, source: SourceStudy, **rules: object) -> list[EncodedObject]:
    made = encode_study(result, source, OutputRules(**({"mr_maps": ("HGG",)} | _QUIET | rules)))
    return [o for o in made if o.kind == "SC"]


def fused(objects: Sequence[EncodedObject], name: str = "HGG") -> list[Dataset]:
    return [o.dataset for o in objects if o.name.startswith(f"SC_fused_{name}_")]


def rgb(d: Dataset) -> np.ndarray:
    return np.frombuffer(d.PixelData, np.uint8)[: d.Rows * d.Columns * 3].reshape(d.Rows, d.Columns, 3)


def brain_of(grid: Grid) -> np.ndarray:
    """A box off centre along every axis."""
    brain = np.zeros(grid.shape, dtype=bool)
    brain[3:10, 8:18, 7:20] = True
    return brain


@pytest.fixture(scope="module")
def source() -> SourceStudy:
    return phantom.source_study("oblique")


@pytest.fixture(scope="module")
def result(source: SourceStudy) -> SuperResolved:
    return phantom.super_resolved(source)


@pytest.fixture(scope="module")
def objects(result: SuperResolved, source: SourceStudy) -> list[EncodedObject]:
    return pictures(replace(result, brain=brain_of(result.grid)), source)


def where_pixels_lie(d: Dataset, grid: Grid) -> np.ndarray:
    """Voxel of ``grid`` that each pixel's centre lies in, by the formula of PS3.3 C.7.6.2.1.1."""
    iop, ipp = np.array(d.ImageOrientationPatient, float), np.array(d.ImagePositionPatient, float)
    r, c = np.mgrid[: d.Rows, : d.Columns]
    down, across = (float(x) for x in d.PixelSpacing)
    points = ipp + np.multiply.outer(c * across, iop[:3]) + np.multiply.outer(r * down, iop[3:])
    return grid.to_index(points)


@pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)
def test_each_pixel_shows_the_value_of_the_voxel_it_lies_on(orientation):
    """Colours are turned back into values; without anatomy beneath they are the colour map's own."""
    from matplotlib import colormaps

    bare = phantom.source_study(orientation, anatomy_frame=None)
    made = phantom.super_resolved(bare, lesions=(), not_measured=False)
    made = replace(made, brain=brain_of(made.grid))
    values = made.ratios[0].values
    table = np.rint(np.asarray(colormaps[COLOUR_MAP](np.linspace(0, 1, 256)))[:, :3] * 255)
    series = fused(pictures(made, bare))
    assert [int(d.InstanceNumber) for d in series] == list(range(1, 8))  # slices 3 to 9 have brain in them
    top = float(np.percentile(values[made.brain], 99.5))
    for d in series:
        voxels = np.rint(where_pixels_lie(d, made.grid)).astype(int)
        inside = ((voxels >= 0) & (voxels < made.grid.shape)).all(axis=-1)
        k = set(voxels[..., 0].ravel().tolist())
        assert k == {int(d.InstanceNumber) + 2}
        shown = inside.copy()
        shown[inside] = made.brain[tuple(voxels[inside].T)]
        wanted = np.zeros((*inside.shape, 3))
        share = np.clip(values[tuple(voxels[shown].T)] / top, 0, 1)
        wanted[shown] = table[np.rint(share * 255).astype(int)]
        rows, columns = (slice(i.min(), i.max() + 1) for i in shown.nonzero())
        drawn, meant = rgb(d)[rows, columns].astype(float), wanted[rows, columns]

        def alike(other: np.ndarray, drawn: np.ndarray = drawn) -> float:
            return float((np.abs(drawn - other).max(axis=-1) <= 12).mean())

        assert alike(meant) > 0.9  # the rest are letters
        assert max(alike(meant[::-1]), alike(meant[:, ::-1])) < 0.3


def test_colour_series_ascend_in_the_maps_frame_and_refer_to_the_planes_beneath(objects, result):
    assert {int(o.dataset.SeriesNumber) for o in objects} == {9101, 9102, 9501}
    series = fused(objects, "TCN")
    heights = [np.array(d.ImagePositionPatient, float) @ result.grid.normal for d in series]
    assert (np.diff(heights) > 0).all()
    for d in series:
        assert d.FrameOfReferenceUID == phantom.FRAME
        assert d.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert len({d.SeriesInstanceUID for d in series}) == 1
    assert series[0].SeriesDescription == "MRSI-SR TCN on T1 colour"


def test_letters_name_where_rows_and_columns_point():
    assert letters(np.array([1.0, 0, 0])) == "L" and letters(np.array([-1.0, 0, 0])) == "R"
    assert letters(np.array([0, 1.0, 0])) == "P" and letters(np.array([0, 0, -1.0])) == "F"
    assert letters(np.array([0.6, 0, 0.8])) == "HL"
    assert letters(np.array([0.98, -0.2, 0.0])) == "L"


def test_what_was_not_measured_is_hatched_and_a_lesion_outlined(source, result):
    def first(made: SuperResolved, k: int) -> np.ndarray:
        return rgb(fused(pictures(made, source))[k]).astype(int)

    plain = replace(
        result, lesion=(), quality=replace(result.quality, not_measured=np.zeros(result.grid.shape, bool))
    )
    scale = 4
    hatched = np.abs(first(result, 0) - first(plain, 0)).max(axis=-1) > 0
    region = result.quality.not_measured[0].repeat(scale, 0).repeat(scale, 1)
    part = hatched[: region.shape[0], : region.shape[1]]
    assert part[region].any() and not part[~region].any()
    outlined = first(replace(result, quality=plain.quality), 6)
    cyan = (outlined == (0, 255, 255)).all(axis=-1)[: region.shape[0], : region.shape[1]]
    lesion = result.lesion[0].mask[6].repeat(scale, 0).repeat(scale, 1)
    assert cyan[lesion].any() and not cyan[~lesion].any()


def test_nothing_on_a_picture_comes_from_the_patient(result, objects):
    """Another name, number, birth date, study date: the same pixels, so Burned In Annotation is NO."""
    other = phantom.source_study(
        "oblique", PatientName="Someone^Else", PatientID="77", PatientBirthDate="20000101",
        StudyDate="19990909", AccessionNumber="OTHER", StudyDescription="Someone's head",
    )  # fmt: skip
    again = pictures(replace(result, brain=brain_of(result.grid)), other)
    assert [o.dataset.PixelData for o in again] == [o.dataset.PixelData for o in objects]
    assert {o.dataset.BurnedInAnnotation for o in objects} == {"NO"}


def test_the_gate_passes_pictures_and_holds_broken_ones(result, source):
    made = list(encode_study(result, source, OutputRules(mr_maps=(), parametric_maps=(), measurements=False)))
    check(made, result)
    wrong = next(i for i, o in enumerate(made) if o.name == "SC_fused_HGG_0003")
    swapped = [*made[:wrong], made[wrong + 1], made[wrong], *made[wrong + 2 :]]
    with pytest.raises(BadObject, match="do not follow"):
        check(swapped)
    blank = Dataset()
    blank.update(made[wrong].dataset)
    blank.file_meta = made[wrong].dataset.file_meta
    blank.PixelData = bytes(len(made[wrong].dataset.PixelData))
    with pytest.raises(BadObject, match="a picture of nothing"):
        check([*made[:wrong], EncodedObject(blank, "SC", made[wrong].name)])


def page(result: SuperResolved, source: SourceStudy) -> Page:
    return page_of(Production.of(result, source, OutputRules()))


def test_the_summary_shows_measured_and_super_resolved_maps_of_the_slice_with_the_lesion(result, source):
    first, *rest = page(result, source).pictures
    assert [p.title.split(" ")[0] for p in (first[1], rest[0][1], rest[1][1])] == ["HGG", "TCN", "2HG"]
    lesions = result.lesion[0].mask | result.lesion[1].mask
    k = int(lesions.sum(axis=(1, 2)).argmax())
    assert np.array_equal(first[1].plane, result.ratios[0].values[k])
    assert np.array_equal(rest[1][0].plane, source.acquisition.maps[2].values[round(k / 4)])
    assert np.array_equal(first[1].outline, result.lesion[0].mask[k])
    assert first[0].plane is None and first[0].missing  # Gln and Glu were not measured: no HGG to show
    # every metabolite's picture covers the same part, four voxels for one
    assert rest[1][1].plane.shape == tuple(4 * n for n in rest[1][0].plane.shape)


def test_the_summary_lists_lesions_and_says_where_there_is_none(result, source):
    rows = page(result, source).lesions
    volume = result.lesion[0].mask.sum() * result.grid.voxel_volume_ml
    assert list(rows[1]) == ["HGG", ">= 1.5 ratio", f"{volume:.1f} mL", "1", "2.00", "3.00"]
    none = replace(result, lesion=(phantom.lesion(result.grid, "TCN", slice(0, 0)),))
    assert page(none, source).lesions[1][2] == "no region above the limit"


def test_the_summary_calls_for_a_close_look_where_there_is_reason(result, source):
    assert not page(result, source).alerts
    novelty = Novelty(9.0, 3.0, "maps fit better mirrored", {})
    words = " ".join(page(replace(result, novelty=novelty), source).alerts)
    assert "maps fit better mirrored" in words
    moved = phantom.super_resolved(source, registration="T1 lies 3.1 mm, 2.0° from the maps")
    moved = replace(moved, motions=(RigidMotion(Contrast.T1, np.eye(4)),))
    assert "3.1 mm" in " ".join(page(moved, source).alerts)
    assert "was moved onto the maps" in " ".join(page(moved, source).paragraphs["Anatomy"])
    left_out = replace(result, motions=(), anatomy=())
    assert "T1 left out" in " ".join(page(left_out, source).alerts)
    everywhere = np.ones(source.acquisition.grid.shape, dtype=bool)
    poor = replace(result.quality.maps[0], rejected=everywhere)
    bad = replace(result, quality=replace(result.quality, maps=(poor, *result.quality.maps[1:])))
    assert "rejected in tNAA" in " ".join(page(bad, source).alerts)
    assert page(bad, source).bars[0].rejected == 1.0


def test_the_summary_says_what_was_not_done_and_only_counts_remarks_that_quote_headers(source):
    said = phantom.super_resolved(source, warnings=("+fnlm is dropped: there is no T1 or FLAIR to guide it",))
    quoting = replace(source, warnings=("T1 (“Doe^Jane head”) left out: two slices are missing",))
    lines = " ".join(page(said, quoting).paragraphs["What was not done, and other remarks"])
    assert "+fnlm is dropped" in lines and "1 remark on the input" in lines
    assert "Doe" not in lines
    foot = page(said, quoting).foot
    assert "method bicubic (asked for: unet+fnlm+dc)" in foot and "mrsi-sr-node 0.1.0" in foot


def test_a_ratio_is_as_doubtful_as_its_parts_together(result, source):
    """TCN = 2 with tCho and tNAA known to a tenth and a fifth: to 0.6 at most, to first order."""
    ones = np.ones(result.grid.shape, dtype=np.float32)
    by = {str(m.metabolite): m for m in result.maps}
    maps = (replace(by["tCho"], values=ones * 4), replace(by["tNAA"], values=ones * 2), by["2HG"])
    doubt = tuple(
        Uncertainty(of, "half-width: some", ones * np.float32(u)) for of, u in (("tCho", 0.4), ("tNAA", 0.4))
    )
    tcn = replace(result.ratios[1], values=ones * 2)
    made = replace(result, maps=maps, ratios=(result.ratios[0], tcn), uncertainty=doubt)
    shown = page(made, source).pictures
    assert np.nanmax(shown[1][2].plane) == pytest.approx(0.6, rel=1e-5)
    assert shown[0][2].plane is None  # HGG: its parts have none


def test_the_summary_is_one_page_of_one_size(objects):
    (d,) = [o.dataset for o in objects if o.name == "SC_summary"]
    assert (d.Rows, d.Columns, d.Modality) == (1100, 1600, "OT")
    assert "ImagePositionPatient" not in d


def test_pictures_can_be_left_out(result, source):
    assert not pictures(result, source, fused_maps=(), summary=False)


def test_uncertainty_maps_are_made_on_demand_and_refer_to_their_map(result, source):
    doubt = tuple(
        Uncertainty("tNAA", method, phantom.volume(result.grid, seed=7))
        for method in ("half-width: |x - truth|", "null-space share: |x|", "guidance: |x - x0|")
    )
    made = replace(result, uncertainty=doubt)
    rules = {"mr_maps": (), "fused_maps": (), "summary": False, "measurements": False}
    assert not [o for o in encode_study(made, source, OutputRules(**rules)) if "half" in o.name]
    objects = list(encode_study(made, source, OutputRules(**rules, uncertainty_maps=True)))
    check(objects, made)
    by = {o.name: o.dataset for o in objects}
    found = {n: int(d.SeriesNumber) for n, d in by.items() if int(d.SeriesNumber) >= 9601}
    assert found == {"PM_tNAA_half_width": 9613, "PM_tNAA_null_space": 9614, "PM_tNAA_guidance": 9615}
    d = by["PM_tNAA_half_width"]
    assert d.SourceImageSequence[0].ReferencedSOPInstanceUID == by["PM_tNAA"].SOPInstanceUID
    mapping = d.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTLabel == "tNAA half-width"
    assert np.array_equal(np.frombuffer(d.FloatPixelData, "<f4"), doubt[0].values.ravel())


def test_key_objects_are_the_summary_and_each_maps_picture_of_its_lesion(result, source):
    few = {"mr_maps": (), "parametric_maps": (), "measurements": False}
    objects = list(encode_study(result, source, OutputRules(**few, key_objects=True)))
    check(objects, result)
    assert objects[-1].kind == "KO"
    images = [i for i in objects[-1].dataset.ContentSequence if i.ValueType == "IMAGE"]
    chosen = {str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in images}
    names = {o.name for o in objects if str(o.dataset.SOPInstanceUID) in chosen}
    assert names == {"SC_summary", "SC_fused_HGG_0006", "SC_fused_TCN_0004"}
    with pytest.raises(BadObject, match="not sent before it"):
        check([o for o in objects if o.name != "SC_summary"])
