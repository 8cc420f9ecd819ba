"""Series become arrays: the right value at the right place, or a refusal that names what is wrong."""

import copy
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, RLELossless

from dicom_node.config import IdentifyRules, SiteRule
from dicom_node.decode import Plane, affine_from_planes, decode
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.identify import identify
from dicom_node.simulate import Identity
from dicom_node.source import SourceStudy
from sr_core import Contrast, Metabolite, Unit
from tests import builders

RULES = IdentifyRules()
TNAA = "LCM tNAA conc"
# A series is written with a round slope, at most 0.0002 for the fixtures' maps: half of it may be lost.
HALF_A_STEP = 0.0001 + 1e-6


def decoded(instances: Sequence[FileDataset], rules: IdentifyRules = RULES) -> SourceStudy:
    by_uid = {str(d.SOPInstanceUID): d for d in instances}
    return decode(identify([builders.header(d) for d in instances], rules), by_uid.__getitem__, rules)


def edited(description: str, edit: builders.Edit) -> list[FileDataset]:
    return builders.with_series(builders.usual(), description, edit)


def warned(source: SourceStudy, *words: str) -> bool:
    return any(all(w in warning for w in words) for warning in source.warnings)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_every_value_lies_where_it_was_measured(orientation: builders.Orientation, form: str) -> None:
    truth = builders.acquisition(orientation, metabolites=(Metabolite.TNAA, Metabolite.TCHO))
    source = decoded(builders.study(form=form, of=truth))
    found = source.acquisition
    assert not source.warnings
    assert found.grid.same_as(truth.grid)
    for m in truth.maps:
        mine = found.map_of(m.metabolite)
        assert mine is not None
        assert mine.unit is Unit.MMOL_PER_L
        np.testing.assert_allclose(mine.values, m.values, rtol=0, atol=HALF_A_STEP)
        assert mine.crlb_percent is not None
        np.testing.assert_allclose(mine.crlb_percent, m.crlb_percent, atol=HALF_A_STEP)
    for contrast in Contrast:
        image, wanted = found.image_of(contrast), truth.image_of(contrast)
        assert image is not None
        assert wanted is not None
        assert image.grid.same_as(wanted.grid)
        assert np.corrcoef(image.values.ravel(), wanted.values.ravel())[0, 1] > 0.9999
    assert found.acquired_matrix == truth.grid.shape


def test_instance_numbers_that_run_backwards_change_nothing() -> None:
    plain, backwards = decoded(builders.usual()), decoded(edited(TNAA, builders.descending_numbers))
    for a, b in zip(plain.acquisition.maps, backwards.acquisition.maps, strict=True):
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("name", builders.BROKEN)
def test_a_broken_map_is_refused_naming_what_is_wrong(name: str) -> None:
    defect, words = builders.BROKEN[name]
    with pytest.raises(UnsuitableGeometry) as refusal:
        decoded(edited(TNAA, defect))
    assert str(refusal.value).startswith("tNAA map: ")
    assert words in str(refusal.value)


def test_a_missing_slice_is_named_by_its_place_and_gap() -> None:
    with pytest.raises(UnsuitableGeometry) as refusal:
        decoded(edited(TNAA, builders.missing_slice))
    assert str(refusal.value) == (
        "tNAA map: a slice is missing between 17.5 mm and 28.5 mm: "
        "gap of 11.0 mm where slices are 5.5 mm apart"
    )


@pytest.mark.parametrize("name", builders.BROKEN)
def test_a_broken_anatomical_image_is_left_out_with_a_warning(name: str) -> None:
    defect, _ = builders.BROKEN[name]
    if name == "uneven slices":  # of an axial stack 1.5 mm apart
        defect = builders.shifted(0.4)
    source = decoded(edited("MPRAGE", defect))
    assert source.acquisition.image_of(Contrast.T1) is None
    assert source.acquisition.image_of(Contrast.FLAIR) is not None
    assert warned(source, "T1 (“MPRAGE”) left out")


def test_maps_on_different_grids_are_refused_naming_both() -> None:
    def without_last(instances: list[FileDataset]) -> list[FileDataset]:
        return instances[:-1]

    with pytest.raises(UnsuitableGeometry, match="tCho map lies on another grid than tNAA map: 5 × 10 × 9"):
        decoded(edited("LCM tCho conc", without_last))


def test_maps_in_two_frames_of_reference_are_refused() -> None:
    with pytest.raises(UnsuitableGeometry, match="2 different Frames of Reference"):
        decoded(edited(TNAA, builders.setting(FrameOfReferenceUID="2.25.7")))


def test_maps_without_frame_of_reference_get_a_stable_one_of_their_own() -> None:
    bare = builders.without("FrameOfReferenceUID")(
        builders.renamed([d for d in builders.usual() if "LCM" in d.SeriesDescription], "x")
    )
    first, second = decoded(bare), decoded(bare)
    frame = first.acquisition.grid.frame_of_reference
    assert frame.startswith("2.25.")
    assert frame == second.acquisition.grid.frame_of_reference == first.header.FrameOfReferenceUID
    assert warned(first, "no Frame of Reference")


def test_anatomy_without_frame_of_reference_counts_as_another_frame() -> None:
    source = decoded(edited("MPRAGE", builders.without("FrameOfReferenceUID")))
    image = source.acquisition.image_of(Contrast.T1)
    assert image is not None
    assert image.grid.frame_of_reference not in ("", source.acquisition.grid.frame_of_reference)
    assert warned(source, "T1", "no Frame of Reference")


def test_anatomy_keeps_the_other_frame_it_states() -> None:
    source = decoded(edited("MPRAGE", builders.setting(FrameOfReferenceUID="2.25.7")))
    image = source.acquisition.image_of(Contrast.T1)
    assert image is not None
    assert image.grid.frame_of_reference == "2.25.7"


def test_a_real_world_value_mapping_comes_before_rescale_and_rescale_before_stored() -> None:
    def off(instances: list[FileDataset]) -> list[FileDataset]:
        return builders.setting(RescaleSlope="7", RescaleIntercept="-3")(instances)

    plain = decoded(builders.usual()).acquisition.maps[0].values
    np.testing.assert_array_equal(decoded(edited(TNAA, off)).acquisition.maps[0].values, plain)
    stored = np.stack([d.pixel_array.astype(float) for d in builders.series(builders.usual(), TNAA)])
    unmapped = edited(TNAA, lambda i: builders.without("RealWorldValueMappingSequence")(off(i)))
    np.testing.assert_allclose(decoded(unmapped).acquisition.maps[0].values, stored * 7 - 3, rtol=1e-6)
    by_site = decoded(edited(TNAA, off), IdentifyRules(sites=(SiteRule(value_order=("stored",)),)))
    np.testing.assert_allclose(by_site.acquisition.maps[0].values, stored, rtol=1e-6)
    assert warned(by_site, "tNAA map", "stored values")


def test_a_real_world_value_table_is_looked_up() -> None:
    def as_table(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            item = d.RealWorldValueMappingSequence[0]
            del item.RealWorldValueSlope, item.RealWorldValueIntercept
            item.RealWorldValueLUTData = [float(x) ** 2 for x in range(20)]
            item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 2, 21
            pixels = np.frombuffer(d.PixelData, dtype=np.uint16)
            d.PixelData = (pixels % 23).astype(np.uint16).tobytes()
        return instances

    instances = edited(TNAA, as_table)
    values = decoded(instances).acquisition.maps[0].values
    lowest = builders.series(instances, TNAA)[0].pixel_array.astype(float)
    inside = (lowest >= 2) & (lowest <= 21)
    np.testing.assert_array_equal(values[0], np.where(inside, (lowest - 2) ** 2, np.nan))


def test_padding_is_not_a_value() -> None:
    truth = builders.acquisition(metabolites=(Metabolite.TNAA,))
    values = truth.maps[0].values.copy()
    values[2, 3:5, 1] = np.nan
    holed = builders.acquisition(metabolites=(Metabolite.TNAA,))
    object.__setattr__(holed.maps[0], "values", values)
    found = decoded(builders.study(of=holed)).acquisition.maps[0].values
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_slices_decode_to_the_same_values(syntax: str) -> None:
    truth = builders.acquisition(metabolites=(Metabolite.TNAA,), shape=(2, 40, 36), anatomy=())
    study = builders.study(of=truth)
    plain = decoded(study).acquisition.maps[0].values
    for d in study:
        d.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(decoded(study).acquisition.maps[0].values, plain)


def test_a_float_parametric_map_is_read_as_it_is() -> None:
    on = builders.grid()
    values = builders.asymmetric(on) / 7
    study = builders.usual()
    pm = builders.parametric_map(builders.series(study, "LCM Glu conc"), on, values)
    found = decoded([pm]).acquisition
    assert found.grid.same_as(on)
    np.testing.assert_array_equal(found.maps[0].values, values)


def test_one_file_with_several_metabolites_gives_each_its_frames() -> None:
    study = builders.study(form="enhanced")
    wanted = ("LCM tNAA conc", "LCM tCho conc", "LCM tNAA CRLB")
    source = decoded([builders.in_one_file([builders.series(study, w)[0] for w in wanted])])
    truth = builders.acquisition()
    for mine, m in zip(source.acquisition.maps, truth.maps[:2], strict=True):
        assert mine.metabolite == m.metabolite
        np.testing.assert_allclose(mine.values, m.values, atol=HALF_A_STEP)
    assert source.acquisition.maps[0].crlb_percent is not None


def test_an_absolute_crlb_becomes_percent_of_its_map_and_none_detected_becomes_999() -> None:
    def absolute(instances: list[FileDataset]) -> list[FileDataset]:
        for d in builders.without("RescaleSlope")(instances):
            item = d.RealWorldValueMappingSequence[0]
            item.MeasurementUnitsCodeSequence[0].CodeValue = "mmol/L"
            item.LUTLabel, d.SeriesDescription = "tNAA SD", "tNAA SD"
            item.RealWorldValueSlope *= 0.02 / 5.0  # 5 % everywhere: now 0.02 mmol/L
        return instances

    source = decoded(edited("LCM tNAA CRLB", absolute))
    m = source.acquisition.maps[0]
    np.testing.assert_allclose(m.crlb_percent, 100 * 0.02 / m.values, rtol=1e-5)


def test_a_linewidth_in_hz_is_divided_by_the_proton_frequency() -> None:
    def in_hz(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            item = d.RealWorldValueMappingSequence[0]
            item.MeasurementUnitsCodeSequence[0].CodeValue = "Hz"
            item.RealWorldValueSlope *= 127.732434  # 3 T
        return instances

    width = decoded(edited("LCM FWHM", in_hz)).acquisition.linewidth_ppm
    np.testing.assert_allclose(width, 0.05, rtol=1e-4)


def test_a_quality_map_on_another_grid_is_left_out_with_a_warning() -> None:
    source = decoded(edited("LCM SNR", builders.setting(PixelSpacing=["4.0", "4.0"])))
    assert source.acquisition.snr is None
    assert warned(source, "SNR map left out", "another grid")


def test_series_of_two_patients_are_refused_and_not_named() -> None:
    with pytest.raises(UnsuitableInput) as refusal:
        decoded(edited("MPRAGE", builders.setting(PatientID="SOMEONE-ELSE")))
    assert "2 different patients" in str(refusal.value)
    assert "SOMEONE" not in str(refusal.value)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"PatientName": "Else^Someone"}, "2 different patients"),
        ({"PatientBirthDate": "19011231"}, "2 birth dates"),
    ],
)
def test_without_a_patient_id_two_names_or_birth_dates_are_two_patients(other: dict, words: str) -> None:
    """Under one Study Instance UID: nothing is mixed, and nobody is named."""
    study = builders.setting(PatientID="")(builders.study())
    study = builders.with_series(study, "MPRAGE", builders.setting(**other))
    assert len({d.StudyInstanceUID for d in study}) == 1
    with pytest.raises(UnsuitableInput, match=words) as refusal:
        decoded(study)
    assert "Else" not in str(refusal.value) and "1901" not in str(refusal.value)


def test_a_birth_date_that_a_host_drops_makes_no_second_patient() -> None:
    study = builders.setting(PatientID="")(builders.study())
    study = builders.with_series(study, "MPRAGE", builders.setting(PatientBirthDate=""))
    assert decoded(study).acquisition.anatomy


def test_a_constant_map_is_left_out_but_2hg_may_be_zero_everywhere() -> None:
    def zero(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            d.PixelData = bytes(len(d.PixelData))
        return instances

    source = decoded(edited("LCM Glu conc", zero))
    assert source.acquisition.map_of(Metabolite.GLU) is None
    assert warned(source, "Glu map left out", "all its values are 0")
    kept = decoded(edited("LCM 2HG conc", zero)).acquisition.map_of(Metabolite.HG2)
    assert kept is not None
    assert not kept.values.any()


@pytest.mark.parametrize(
    ("rule", "header", "matrix"),
    [
        (None, [10, 0, 0, 9], (6, 10, 9)),
        (None, [0, 9, 5, 0], (6, 5, 9)),
        (None, [20, 0, 0, 9], None),
        ("as_exported", None, (6, 10, 9)),
        ((3, 5, 5), [10, 0, 0, 9], (3, 5, 5)),
        (None, None, None),
    ],
)
def test_the_acquired_matrix_comes_from_the_site_rule_else_from_the_header(
    rule: tuple[int, int, int] | str | None, header: list[int] | None, matrix: tuple[int, int, int] | None
) -> None:
    edit: Callable[[list[FileDataset]], list[FileDataset]] = (
        builders.without("AcquisitionMatrix")
        if header is None
        else builders.setting(AcquisitionMatrix=header)
    )
    rules = IdentifyRules() if rule is None else IdentifyRules(sites=(SiteRule(acquired_matrix=rule),))
    maps = [copy.deepcopy(d) for d in builders.usual() if d.SeriesDescription.endswith("conc")]
    assert decoded(edit(maps), rules).acquisition.acquired_matrix == matrix


def test_a_site_states_its_k_space_filter() -> None:
    stated = IdentifyRules(sites=(SiteRule(psf="hamming"),))
    assert decoded(builders.usual(), stated).acquisition.psf == "hamming"
    assert decoded(builders.usual()).acquisition.psf == "none"


def test_maps_that_disagree_on_the_acquired_matrix_leave_it_unknown() -> None:
    source = decoded(edited(TNAA, builders.setting(AcquisitionMatrix=[8, 0, 0, 8])))
    assert source.acquisition.acquired_matrix is None
    assert warned(source, "do not agree on the acquired matrix")


def test_a_single_slab_is_a_volume_of_one_slice() -> None:
    slab = builders.acquisition(metabolites=(Metabolite.TNAA,), shape=(1, 10, 9), anatomy=())
    found = decoded(builders.study(of=slab)).acquisition
    assert found.grid.shape == (1, 10, 9)
    assert found.grid.spacing_mm[0] == pytest.approx(5.5)


def test_a_plane_too_small_for_spectroscopic_imaging_is_no_usable_map() -> None:
    tiny = builders.acquisition(metabolites=(Metabolite.TNAA,), shape=(6, 4, 9), anatomy=())
    with pytest.raises(UnsuitableInput, match=r"no usable metabolite map.*at least 8 × 8"):
        decoded(builders.study(of=tiny))


@pytest.mark.parametrize("name", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "Петров^Иван", "Ærø^Åse"])
def test_headers_go_on_unchanged_in_any_script(name: str) -> None:
    source = decoded(builders.study(identity=Identity(patient_name=name)))
    assert str(source.header.PatientName) == name
    assert "PixelData" not in source.header
    heights = [float(h.ImagePositionPatient[2]) for h in source.map_headers["tNAA"]]
    assert heights == sorted(heights)
    assert set(source.anatomy_headers) == {"T1", "FLAIR"}


def test_an_attribute_with_a_value_it_cannot_have_stops_nothing() -> None:
    def spoil(instances: list[FileDataset]) -> list[FileDataset]:
        for d in instances:
            for keyword in ("InstanceNumber", "SeriesNumber", "AcquisitionNumber"):
                tag = Tag(keyword)
                d._dict[tag] = RawDataElement(tag, "IS", 4, b"1.5 ", 0, False, True)
        return instances

    source = decoded(edited(TNAA, spoil))
    np.testing.assert_array_equal(
        source.acquisition.maps[0].values, decoded(builders.usual()).acquisition.maps[0].values
    )


def test_pixels_that_cannot_be_decoded_are_refused_in_words() -> None:
    def cut(instances: list[FileDataset]) -> list[FileDataset]:
        instances[0].PixelData = instances[0].PixelData[:20]
        return instances

    with pytest.raises(UnsuitableInput, match="tNAA map: its pixels cannot be decoded"):
        decoded(edited(TNAA, cut))


def test_class_7_compressed_pixels_that_claim_to_be_without_end_are_refused_before_they_are_decoded() -> None:
    def lying(instances: list[FileDataset]) -> list[FileDataset]:
        instances[0].compress(RLELossless, generate_instance_uid=False)
        instances[0].Rows = instances[0].Columns = 65535
        return instances

    tracemalloc.start()
    with pytest.raises(UnsuitableInput, match="65535 × 65535 × 1 pixels, far more than it holds"):
        decoded(edited(TNAA, lying))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 1024**2


def plane(position: Sequence[float], orientation: Sequence[float] = (1, 0, 0, 0, 1, 0)) -> Plane:
    o = np.array(orientation, dtype=float)
    return Plane(np.array(position, dtype=float), o[:3], o[3:], (3.0, 2.0), (8, 8))


def test_the_affine_takes_slice_row_column_to_patient_millimetres() -> None:
    affine = affine_from_planes([plane((1, 2, 7)), plane((1, 2, 3)), plane((1, 2, 5))])
    np.testing.assert_allclose(affine @ (2, 1, 4, 1), (1 + 4 * 2, 2 + 1 * 3, 3 + 2 * 2, 1))


def test_slices_ascend_along_row_by_column_whatever_the_orientation() -> None:
    upside_down = (1, 0, 0, 0, -1, 0)
    affine = affine_from_planes([plane((0, 0, z), upside_down) for z in (3, 5, 7)])
    np.testing.assert_allclose(affine[:3, 3], (0, 0, 7))
    np.testing.assert_allclose(affine[:3, 0], (0, 0, -2))


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ([plane((0, 0, z), (1, 0, 0, 0.1, 1, 0)) for z in (0, 2)], "perpendicular"),
        ([plane((0, 0.1 * z, z)) for z in (0, 2, 4)], "sheared: it leans by 5.7°"),
        ([plane((0, 0, 0)), plane((0, 0.9, 2)), plane((0, 0, 4))], "at 2.0 mm is shifted by 0.90 mm"),
        ([plane((0, 0, 0))], "states no thickness"),
        ([plane((0, 0, z)) for z in (0, 2, 4, 10, 12)], "2 slices are missing between 4.0 mm and 10.0 mm"),
        ([plane((0, 0, 0)), plane((0, 0, 2), (-1, 0, 0, 0, -1, 0))], "tilted by 180.0°"),
    ],
)
def test_planes_that_make_no_regular_stack_are_refused(planes: list[Plane], words: str) -> None:
    with pytest.raises(UnsuitableGeometry, match=words):
        affine_from_planes(planes, "tNAA map")


def test_slices_missing_throughout_are_noticed_by_the_stated_distance() -> None:
    every_other = [
        Plane(p.position, p.row_direction, p.column_direction, p.spacing_mm, p.shape, 2.0)
        for p in (plane((0, 0, z)) for z in (0, 4, 8, 12))
    ]
    with pytest.raises(UnsuitableGeometry, match="missing throughout"):
        affine_from_planes(every_other)


def test_no_map_at_all_is_said() -> None:
    with pytest.raises(UnsuitableInput, match="no usable metabolite map"):
        decode([], lambda _: Dataset(), RULES)
