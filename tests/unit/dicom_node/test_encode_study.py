"""Which objects a study becomes, how they are numbered, named and tied together."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import UID

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import Metabolite, Ratio, SuperResolved
from tests import phantom
from tests.harness import dciodvfy_errors

_ALL = {"fused_maps": ("HGG", "TCN"), "summary": True, "measurements": True}
_QUICK = {"fused_maps": (), "summary": False, "measurements": False}


def encoded(result: SuperResolved, source: SourceStudy, **rules: object) -> list[EncodedObject]:
    """Without pictures and report, which take longest, unless they are asked for."""
    return list(encode_study(result, source, OutputRules(**(_QUICK | rules))))


@pytest.fixture(scope="module")
def source() -> SourceStudy:
    return phantom.source_study()


@pytest.fixture(scope="module")
def result(source: SourceStudy) -> SuperResolved:
    return phantom.super_resolved(source)


@pytest.fixture(scope="module")
def objects(result: SuperResolved, source: SourceStudy) -> list[EncodedObject]:
    return encoded(result, source, **_ALL)


def series(objects: list[EncodedObject]) -> dict[int, str]:
    return {int(o.dataset.SeriesNumber): str(o.dataset.SeriesDescription) for o in objects}


def named(objects: list[EncodedObject], name: str) -> EncodedObject:
    return next(o for o in objects if o.name == name)


def referenced_series(obj: EncodedObject) -> list[str]:
    return [str(s.SeriesInstanceUID) for s in obj.dataset.ReferencedSeriesSequence]


def uid_of_series(objects: list[EncodedObject], number: int) -> str:
    return next(str(o.dataset.SeriesInstanceUID) for o in objects if o.dataset.SeriesNumber == number)


def test_each_map_has_its_series_number_in_every_study(objects):
    assert series(objects) == {
        9000: "MRSI-SR T1 on map grid",
        9001: "MRSI-SR HGG x1000",
        9002: "MRSI-SR TCN x1000",
        9003: "MRSI-SR 2HG x1000",
        9101: "MRSI-SR HGG on T1 colour",
        9102: "MRSI-SR TCN on T1 colour",
        9201: "MRSI-SR HGG PM",
        9202: "MRSI-SR TCN PM",
        9205: "MRSI-SR tNAA PM",
        9211: "MRSI-SR tCho PM",
        9216: "MRSI-SR 2HG PM",
        9301: "MRSI-SR lesion",
        9302: "MRSI-SR lesion on T1",
        9401: "MRSI-SR measurements",
        9501: "MRSI-SR QC summary",
    }


def test_objects_come_in_the_order_of_sending(objects):
    order = ["MR", "SC", "PM", "REG", "SEG", "SR"]
    assert [o.kind for o in objects] == sorted((o.kind for o in objects), key=order.index)


def test_names_are_unique_and_fit_for_files(objects):
    names = [o.name for o in objects]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)


def test_patient_and_study_are_carried_on_as_they_stand(objects, source):
    for o in objects:
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "StudyInstanceUID",
            "AccessionNumber",
        ):
            assert o.dataset[keyword].value == source.header[keyword].value


def test_objects_can_be_told_as_ours_and_still_name_the_scanner(objects):
    for o in objects:
        d = o.dataset
        assert (d.Manufacturer, d.ManufacturerModelName) == ("mrsi-sr-node", "MRSI-SR")
        assert o.kind in ("SR", "REG") or d.ContentQualification == "RESEARCH"
        (scanner,) = d.ContributingEquipmentSequence
        assert (scanner.Manufacturer, scanner.DeviceSerialNumber) == ("Vendor", "12345")


def test_software_versions_hold_software_method_model_and_settings(source):
    made = phantom.super_resolved(source, model_hash="ab" * 32, method_used="unet+fnlm+dc")
    d = encoded(made, source)[0].dataset
    assert list(d.SoftwareVersions) == [
        "mrsi-sr-node 0.1.0", "unet+fnlm+dc", f"model {'ab' * 8}", f"settings {'0f' * 8}",
    ]  # fmt: skip


def test_the_anatomy_is_the_first_series_that_maps_and_lesions_refer_to(objects):
    anatomy = uid_of_series(objects, 9000)
    for o in objects:
        if o.kind == "PM" or o.name == "SEG_lesion":
            assert referenced_series(o)[0] == anatomy


def test_without_anatomy_a_map_lies_on_its_own_derived_mr_or_on_the_first(source):
    bare = phantom.source_study(anatomy_frame=None)
    objects = encoded(phantom.super_resolved(bare), bare)
    assert 9000 not in series(objects) and "SEG_lesion_on_T1" not in {o.name for o in objects}
    assert referenced_series(named(objects, "PM_TCN"))[0] == uid_of_series(objects, 9002)
    assert referenced_series(named(objects, "PM_tNAA"))[0] == uid_of_series(objects, 9001)
    assert referenced_series(named(objects, "SEG_lesion"))[0] == uid_of_series(objects, 9001)


def test_a_parent_is_made_even_where_no_derived_map_is_asked_for(result, source):
    objects = encoded(result, source, anatomy_parent=False, mr_maps=())
    assert sum(o.kind == "MR" for o in objects) == result.grid.shape[0]
    assert len({referenced_series(o)[0] for o in objects if o.kind == "PM"}) == 1


def test_each_orientation_is_written_once_and_repeated_as_it_is(source):
    oblique = phantom.source_study("oblique")
    objects = encoded(phantom.super_resolved(oblique), oblique)
    written = set()
    for o in objects:
        d = o.dataset
        if o.kind == "MR":
            written.add(tuple(map(str, d.ImageOrientationPatient)))
        elif o.kind == "PM" or o.name == "SEG_lesion":
            shared = d.SharedFunctionalGroupsSequence[0]
            written.add(tuple(map(str, shared.PlaneOrientationSequence[0].ImageOrientationPatient)))
    assert len(written) == 1 and all(len(x) <= 16 for x in written.pop())


def test_a_lesion_on_the_anatomical_planes_repeats_the_anatomys_own_orientation(objects, source):
    own = source.anatomy_headers["T1"][0]
    shared = named(objects, "SEG_lesion_on_T1").dataset.SharedFunctionalGroupsSequence[0]
    written = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(map(str, written)) == list(map(str, own.ImageOrientationPatient))


def test_a_parametric_map_refers_to_the_maps_it_was_made_from(objects, source):
    def sources(name: str) -> set[str]:
        return {str(i.ReferencedSOPInstanceUID) for i in named(objects, name).dataset.SourceImageSequence}

    t1 = {str(h.SOPInstanceUID) for h in source.anatomy_headers["T1"]}
    of = {name: {str(h.SOPInstanceUID) for h in hs} for name, hs in source.map_headers.items()}
    assert sources("PM_TCN") == of["tCho"] | of["tNAA"] | t1
    assert sources("PM_2HG") == of["2HG"] | t1
    purpose = named(objects, "PM_TCN").dataset.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")


def test_a_slice_refers_to_the_measured_slices_beside_it(objects, source):
    """Slice 5 of 12 lies between measured slices 1 and 2 of 3."""
    d = named(objects, "MR_2HG_0006").dataset
    near = {str(i.ReferencedSOPInstanceUID) for i in d.SourceImageSequence}
    assert near == {str(h.SOPInstanceUID) for h in source.map_headers["2HG"][1:3]}


def test_maps_from_another_study_are_referred_to_in_it(source):
    other = "2.25.77"
    low = source.acquisition.grid
    elsewhere = replace(source, map_headers={"2HG": phantom.instances("2HG", low, other)})
    pm = named(encoded(phantom.super_resolved(elsewhere), elsewhere), "PM_2HG").dataset
    (study,) = pm.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == other
    assert len(study.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == low.shape[0]
    assert pm.StudyInstanceUID == phantom.STUDY


def test_naa_standing_in_for_tnaa_is_named_in_the_series_description(source):
    stand_in = phantom.source_study(metabolites=(Metabolite.NAA, Metabolite.TCHO))
    objects = encoded(phantom.super_resolved(stand_in, ratios=(Ratio.TCN,)), stand_in)
    assert series(objects)[9002] == "MRSI-SR TCN (tCho/NAA) x1000"
    assert series(objects)[9202] == "MRSI-SR TCN (tCho/NAA) PM"


def test_a_long_model_name_never_pushes_the_maps_name_out(result, source):
    said = series(encoded(result, source, model_name="A very long name of a product " * 4))
    assert all(len(text) <= 64 for text in said.values())
    assert said[9001].endswith(" HGG x1000")


def uids(objects: list[EncodedObject]) -> set[str]:
    return {str(o.dataset.SOPInstanceUID) for o in objects} | {
        str(o.dataset.SeriesInstanceUID) for o in objects
    }


def test_a_second_run_names_the_same_objects(objects, result, source):
    again = encoded(phantom.super_resolved(phantom.source_study()), phantom.source_study(), **_ALL)
    assert [str(o.dataset.SOPInstanceUID) for o in again] == [str(o.dataset.SOPInstanceUID) for o in objects]
    tracked = [s.TrackingUID for s in named(again, "SEG_lesion").dataset.SegmentSequence]
    assert tracked == [s.TrackingUID for s in named(objects, "SEG_lesion").dataset.SegmentSequence]


@pytest.mark.parametrize(
    "changed", [{"model_hash": "ff"}, {"settings_hash": "ff"}, {"method_used": "zerofill"}, {"software": "2"}]
)
def test_another_model_method_or_setting_names_other_objects_but_the_same_lesions(objects, source, changed):
    other = encoded(phantom.super_resolved(source, **changed), source)
    assert not uids(other) & uids(objects)
    tracked = [s.TrackingUID for s in named(other, "SEG_lesion").dataset.SegmentSequence]
    assert tracked == [s.TrackingUID for s in named(objects, "SEG_lesion").dataset.SegmentSequence]


def test_other_voxels_under_the_same_identity_name_other_objects(source, result, objects):
    """A corrected NIfTI case keeps its study UID, and must not reuse UIDs for other pixels."""
    first, *rest = source.acquisition.maps
    values = first.values.copy()
    values[1, 2, 3] += 0.5
    corrected = replace(
        source, acquisition=replace(source.acquisition, maps=(replace(first, values=values), *rest))
    )
    assert not uids(encoded(result, corrected)) & uids(objects)


def test_anatomy_in_another_frame_is_registered_and_everything_else_stays_in_the_maps_frame(source):
    elsewhere = phantom.source_study(anatomy_frame=phantom.OTHER_FRAME)
    made = phantom.super_resolved(elsewhere, registration="rigid, quality 0.9")
    objects = encoded(made, elsewhere)
    frames = {o.name: o.dataset.get("FrameOfReferenceUID") for o in objects}
    assert frames.pop("SEG_lesion_on_T1") == phantom.OTHER_FRAME
    assert set(frames.values()) == {phantom.FRAME}
    assert "rigid, quality 0.9" in named(objects, "MR_anatomy_T1_0001").dataset.DerivationDescription


def test_anatomy_that_was_not_believed_gets_no_segmentation_on_its_planes(source, result):
    assert "SEG_lesion_on_T1" in {o.name for o in encoded(result, source)}
    assert "SEG_lesion_on_T1" not in {o.name for o in encoded(replace(result, motions=()), source)}


def test_a_source_without_frame_of_reference_gets_one_of_its_own():
    """Parametric Map and Segmentation may not go without (PS3.3 C.7.4.1)."""
    nowhere = phantom.source_study(g=phantom.grid(frame_of_reference=""), anatomy_frame=None)
    del nowhere.header.FrameOfReferenceUID
    objects = encoded(phantom.super_resolved(nowhere), nowhere)
    (frame,) = {str(o.dataset.FrameOfReferenceUID) for o in objects if "FrameOfReferenceUID" in o.dataset}
    assert UID(frame).is_valid


def test_segments_are_the_lesions_and_what_was_not_measured_those_that_reach_lower_later(objects):
    """OHIF drops frames of a segment that comes after one that reaches lower, if segments overlap."""
    found = [
        (s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for s in named(objects, "SEG_lesion").dataset.SegmentSequence
    ]
    assert found == [
        ("Metabolic lesion HGG", "52988006"),
        ("Metabolic lesion TCN", "52988006"),
        ("Not measured or repaired", "NOTMEASURED"),
    ]


def test_nothing_found_and_everything_measured_is_no_segmentation(source):
    clean = phantom.super_resolved(source, lesions=(), not_measured=False)
    assert not [o for o in encoded(clean, source) if o.kind == "SEG"]


def test_an_empty_lesion_makes_no_segment(source, result):
    empty = phantom.lesion(result.grid, "TCN", slice(0, 0))
    made = phantom.super_resolved(source, lesions=(result.lesion[0], empty), not_measured=False)
    (segment,) = named(encoded(made, source), "SEG_lesion").dataset.SegmentSequence
    assert segment.SegmentLabel == "Metabolic lesion HGG"


def test_a_single_segment_is_identified_in_each_frame_and_not_for_all(source, result):
    made = phantom.super_resolved(source, lesions=result.lesion[:1], not_measured=False)
    d = named(encoded(made, source), "SEG_lesion").dataset
    assert "SegmentIdentificationSequence" not in d.SharedFunctionalGroupsSequence[0]
    assert all("SegmentIdentificationSequence" in f for f in d.PerFrameFunctionalGroupsSequence)


def test_a_lesion_in_one_slice_comes_with_its_empty_slices(source, result):
    """Some viewers refuse a segmentation of one frame."""
    one = phantom.lesion(result.grid, slices=slice(6, 7))
    made = phantom.super_resolved(source, lesions=(one,), not_measured=False)
    assert named(encoded(made, source), "SEG_lesion").dataset.NumberOfFrames == result.grid.shape[0]


def test_rules_choose_the_objects(result, source):
    few = encoded(
        result, source, mr_maps=("TCN",), parametric_maps=("HGG",), segmentation=False,
        segmentation_on_anatomy=False, base_series=500,
    )  # fmt: skip
    assert sorted(series(few)) == [500, 501, 701]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_refused_by_name(source, result, bad):
    values = result.ratios[1].values.copy()
    values[2, 3, 4] = bad
    broken = replace(result, ratios=(result.ratios[0], replace(result.ratios[1], values=values)))
    with pytest.raises(BadObject, match=r"TCN map .* not finite"):
        encoded(broken, source)


def test_negative_values_are_announced_where_they_are_lost(source, result):
    values = result.ratios[0].values.copy()
    values[0, 0, 0] = -0.25
    shifted = replace(result, ratios=(replace(result.ratios[0], values=values), result.ratios[1]))
    objects = encoded(shifted, source)
    assert "Negative values are stored as 0" in named(objects, "MR_HGG_0001").dataset.DerivationDescription
    assert np.frombuffer(named(objects, "PM_HGG").dataset.FloatPixelData, "<f4").min() == np.float32(-0.25)


def test_a_map_of_small_ratios_has_a_window_that_the_standard_allows(result, source, tmp_path):
    small = tuple(replace(r, values=r.values / 100) for r in result.ratios)
    objects = encoded(replace(result, ratios=small, lesion=()), source)
    d = named(objects, "PM_TCN").dataset
    window = d.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert window.WindowWidth < 1
    path = tmp_path / "tcn.dcm"
    d.save_as(path, enforce_file_format=True)
    assert dciodvfy_errors([path]) == []
