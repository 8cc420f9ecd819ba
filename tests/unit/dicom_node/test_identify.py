"""What each series is, and the reason in words."""

import random
from collections.abc import Sequence

import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset

from dicom_node.config import IdentifyRules, SiteRule
from dicom_node.identify import IdentifiedSeries, Role, identify
from dicom_node.names import METABOLITES, canonical, read_label
from sr_core import Metabolite
from tests import builders

RULES = IdentifyRules()


def identified(instances: Sequence[FileDataset], rules: IdentifyRules = RULES) -> dict[str, IdentifiedSeries]:
    """By description."""
    return {s.description: s for s in identify([builders.header(d) for d in instances], rules)}


@pytest.fixture(scope="module")
def study() -> list[FileDataset]:
    return builders.study()


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def either_form(request: pytest.FixtureRequest) -> list[FileDataset]:
    return builders.study(form=request.param)


def only(instances: Sequence[FileDataset], *descriptions: str) -> list[FileDataset]:
    return [d for d in instances if d.SeriesDescription in descriptions]


def test_every_series_of_a_good_study_is_what_it_says(either_form: list[FileDataset]) -> None:
    found = identified(either_form)
    assert found["MPRAGE"].role is Role.T1
    assert found["T2 FLAIR SPACE dark-fluid"].role is Role.FLAIR
    for m in builders.METABOLITES:
        part = found[f"LCM {m} conc"].parts[0]
        assert (part.metabolite, part.quality, part.unit) == (m, None, "mmol/L")
        bound = found[f"LCM {m} CRLB"].parts[0]
        assert (bound.metabolite, bound.quality, bound.of, bound.unit) == (None, "crlb", m, "%")
    assert found["LCM SNR"].parts[0].quality == "snr"
    assert found["LCM FWHM"].parts[0].quality == "linewidth"
    assert found["LCM tNAA conc"].reason == "tNAA map, named by its series description"


def test_the_order_of_arrival_changes_nothing(study: list[FileDataset]) -> None:
    shuffled = list(study)
    random.Random(1).shuffle(shuffled)
    first, second = identified(study), identified(shuffled)
    assert {k: (s.role, s.reason) for k, s in first.items()} == {
        k: (s.role, s.reason) for k, s in second.items()
    }


@pytest.mark.parametrize("name", builders.DECOYS)
def test_a_decoy_is_refused_with_the_reason(either_form: list[FileDataset], name: str) -> None:
    make, word = builders.DECOYS[name]
    decoy = make(either_form)
    found = identify([builders.header(d) for d in (*either_form, *decoy)], RULES)
    (judged,) = (s for s in found if s.uid == decoy[0].SeriesInstanceUID)
    assert judged.role in (Role.OTHER, Role.OURS, Role.SPECTRA)
    assert word in judged.reason
    assert not judged.parts
    taken = {s.description: s.parts for s in found if s.uid != judged.uid}
    assert taken == {k: s.parts for k, s in identified(either_form).items()}


def test_our_results_are_known_by_number_and_name_when_an_archive_drops_the_model(
    study: list[FileDataset],
) -> None:
    back = builders.setting(ManufacturerModelName="")(builders.our_own(study))
    assert identified(back)["MRSI-SR tNAA"].role is Role.OURS


def test_headers_without_series_number_instance_number_or_description_are_identified_by_codes(
    study: list[FileDataset],
) -> None:
    bare = study
    for keyword in ("SeriesNumber", "InstanceNumber", "SeriesDescription", "ProtocolName"):
        bare = builders.without(keyword)([builders.renamed([d], "x")[0] for d in bare])
    found = identify([builders.header(d) for d in bare], RULES)
    assert sorted(p.metabolite for s in found for p in s.parts if p.metabolite) == sorted(
        builders.METABOLITES
    )
    assert all(s.reason for s in found)


def test_of_two_maps_of_one_metabolite_the_later_is_taken_and_both_say_so(study: list[FileDataset]) -> None:
    again = builders.renamed(
        builders.series(study, "LCM tNAA conc"),
        "again",
        SeriesDescription="LCM tNAA conc 2",
        SeriesNumber=131,
    )
    found = identified([*study, *again])
    assert found["LCM tNAA conc"].role is Role.OTHER
    assert "taken from series 131 “LCM tNAA conc 2” instead (the latest)" in found["LCM tNAA conc"].reason
    assert "not from series 101 “LCM tNAA conc”" in found["LCM tNAA conc 2"].reason


def test_a_t1_without_contrast_agent_is_preferred_to_a_later_one_with(study: list[FileDataset]) -> None:
    gd = builders.renamed(
        builders.series(study, "MPRAGE"), "gd", SeriesDescription="MPRAGE_km", SeriesNumber=40
    )
    found = identified([*study, *gd])
    assert found["MPRAGE"].role is Role.T1
    assert found["MPRAGE_km"].role is Role.OTHER
    assert "contrast-enhanced" in found["MPRAGE_km"].reason
    alone = identified([*only(study, "LCM tNAA conc"), *gd])["MPRAGE_km"]
    assert alone.role is Role.T1
    assert "none without contrast agent" in alone.reason


def test_of_two_t1_the_one_in_the_frame_of_the_maps_is_taken(study: list[FileDataset]) -> None:
    other = builders.renamed(
        builders.series(study, "MPRAGE"),
        "frame",
        SeriesDescription="MPRAGE repeated",
        SeriesNumber=50,
        FrameOfReferenceUID="2.25.99",
    )
    assert identified([*study, *other])["MPRAGE"].role is Role.T1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SpacingBetweenSlices": "4.0", "SliceThickness": "4.0"}, "voxels of 4.0 mm"),
        ({"MRAcquisitionType": "2D"}, "2D acquisition"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "reformat"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "projection"),
    ],
)
def test_a_t1_that_will_not_do_says_why(
    study: list[FileDataset], change: dict[str, object], reason: str
) -> None:
    found = identified(builders.with_series(study, "MPRAGE", builders.setting(**change)))["MPRAGE"]
    assert found.role is Role.OTHER
    assert reason in found.reason


def test_anatomy_without_names_is_known_by_its_timing(study: list[FileDataset]) -> None:
    unnamed = builders.setting(SeriesDescription="ax")(
        builders.renamed(builders.series(study, "MPRAGE"), "a")
    ) + builders.setting(SeriesDescription="brain")(
        builders.renamed(builders.series(study, "T2 FLAIR SPACE dark-fluid"), "b")
    )
    found = identified(unnamed)
    assert (found["ax"].role, found["brain"].role) == (Role.T1, Role.FLAIR)
    assert "TI 1800 ms" in found["brain"].reason


def test_one_file_with_several_metabolites_is_split_by_frame() -> None:
    enhanced = only(builders.study(form="enhanced"), "LCM tNAA conc", "LCM tCho conc", "LCM tNAA CRLB")
    found = identified([builders.in_one_file(enhanced)])["LCM maps"]
    assert [(p.metabolite, p.quality, p.of, p.frames) for p in found.parts] == [
        ("tNAA", None, None, (0, 1, 2, 3, 4, 5)),
        ("tCho", None, None, (6, 7, 8, 9, 10, 11)),
        (None, "crlb", "tNAA", (12, 13, 14, 15, 16, 17)),
    ]


def test_one_classic_series_with_several_metabolites_is_split_by_image_comments(
    study: list[FileDataset],
) -> None:
    mixed = builders.told_by_comments(study, ["LCM tNAA conc", "LCM Glu conc", "LCM Glu CRLB"])
    found = identified(mixed)["LCM maps"]
    assert {(p.metabolite, p.of): len(p.sop_uids) for p in found.parts} == {
        ("tNAA", None): 6,
        ("Glu", None): 6,
        (None, "Glu"): 6,
    }


def test_a_parametric_map_is_named_by_its_quantity(study: list[FileDataset]) -> None:
    source = builders.acquisition()
    pm = builders.parametric_map(
        builders.series(study, "LCM Glu conc"), source.grid, builders.asymmetric(source.grid)
    )
    found = identified([pm])["quantified"]
    assert (found.parts[0].metabolite, found.parts[0].unit) == ("Glu", "mmol/L")
    assert "quantity definition" in found.reason


def test_a_site_rule_comes_before_all_guesses(study: list[FileDataset]) -> None:
    site = SiteRule(
        match={"Manufacturer": "(?i)simul"},
        maps=r"^X_(?P<met>[A-Za-z0-9]+)_(?P<kind>c|sd)$",
        fields=("SeriesDescription",),
        alias={"acetyl": "tNAA"},
        units={"c": "mmol/kg", "sd": "absolute"},
    )
    strange = builders.setting(SeriesDescription="X_acetyl_c")(
        builders.renamed(builders.series(study, "LCM tCho conc"), "s")
    ) + builders.setting(SeriesDescription="X_acetyl_sd")(
        builders.renamed(builders.series(study, "LCM tCho CRLB"), "t")
    )
    found = identified(strange, IdentifyRules(sites=(site,)))
    assert found["X_acetyl_c"].parts[0].metabolite == "tNAA"
    assert found["X_acetyl_c"].parts[0].unit == "mmol/kg"
    assert (found["X_acetyl_sd"].parts[0].of, found["X_acetyl_sd"].parts[0].unit) == ("tNAA", "absolute")


def test_a_map_resampled_to_the_anatomy_is_refused(study: list[FileDataset]) -> None:
    fine = builders.setting(PixelSpacing=["0.9", "0.9"])
    found = identified(builders.with_series(study, "LCM tNAA conc", fine))["LCM tNAA conc"]
    assert found.role is Role.OTHER
    assert "0.9 mm" in found.reason


def test_lone_creatine_is_total_creatine_and_beside_phosphocreatine_it_is_not(
    study: list[FileDataset],
) -> None:
    def named(description: str, as_name: str) -> list[FileDataset]:
        copies = builders.renamed(builders.series(study, description), as_name, SeriesDescription=as_name)
        return builders.without("RealWorldValueMappingSequence")(copies)

    lone = identified(named("LCM tCr conc", "Cr map"))
    assert lone["Cr map"].parts[0].metabolite == "tCr"
    assert "taken as tCr" in lone["Cr map"].reason
    both = identified(named("LCM tCr conc", "Cr map") + named("LCM tCho conc", "PCr map"))
    assert both["Cr map"].parts[0].metabolite == "Cr"


def test_a_code_of_the_peak_gives_way_to_the_words_for_the_pool() -> None:
    """SNOMED has one code for NAA; "tNAA" in words says that NAAG is under the peak too."""
    enhanced = only(builders.study(form="enhanced"), "LCM tNAA conc")
    assert identified(enhanced)["LCM tNAA conc"].parts[0].metabolite == "tNAA"


def test_a_stray_screenshot_in_a_map_series_is_left_out_and_named(study: list[FileDataset]) -> None:
    maps = builders.series(study, "LCM tNAA conc")
    stray = builders.rgb_map(study)[:1]
    stray[0].SeriesInstanceUID, stray[0].SeriesDescription = maps[0].SeriesInstanceUID, "LCM tNAA conc"
    found = identified([*maps, *stray])["LCM tNAA conc"]
    assert len(found.parts[0].sop_uids) == 6
    assert "1 of 7 instances left out: colour picture" in found.reason


def test_names_are_spelled_as_sr_core_spells_them() -> None:
    assert set(METABOLITES) == {str(m) for m in Metabolite}


@pytest.mark.parametrize(
    ("text", "metabolite"),
    [
        ("NAA+NAAG", "tNAA"),
        ("GPC+PCh", "tCho"),
        ("Cr+PCr", "tCr"),
        ("Glu+Gln", "Glx"),
        ("mI", "Ins"),
        ("myo-Inositol", "Ins"),
        ("Glutamate", "Glu"),
        ("glutathione", "GSH"),
        ("D-2-HG", "2HG"),
        ("2-hydroxyglutarate", "2HG"),
        ("N-acetylaspartate", "NAA"),
        ("t_Cho", "tCho"),
        ("MIP", None),
        ("CRT", None),
        ("glycogen", None),
        ("lipase", None),
        ("HGG", None),
    ],
)
def test_a_name_is_known_in_its_usual_spellings(text: str, metabolite: str | None) -> None:
    assert canonical(text) == metabolite


@pytest.mark.parametrize(
    ("text", "metabolites", "quality", "ratio"),
    [
        ("LCM GPC+PCh conc", ("tCho",), None, False),
        ("lcm_GPC_PCh_%SD", ("tCho",), "crlb", False),
        ("NAApeak ht metabolite map", ("NAA",), None, False),
        ("CREATINEarea metabolite map", ("tCr",), None, False),
        ("NAAline width metabolite map", ("NAA",), "linewidth", False),
        ("tNAA (NAA+NAAG) map", ("tNAA",), None, False),
        ("CSI Cho/NAA", ("tCho", "NAA"), None, True),
        ("CSI NAA_to_Cr", ("NAA", "Cr"), None, True),
        ("(2HG+Gln)/Glu", ("2HG", "Gln", "Glu"), None, True),
        ("HGG map", (), None, True),
        ("LCM S/N", (), "snr", False),
        ("CRLB 2HG", ("2HG",), "crlb", False),
    ],
)
def test_a_label_says_metabolite_quality_and_ratio(
    text: str, metabolites: tuple[str, ...], quality: str | None, ratio: bool
) -> None:
    label = read_label(text)
    assert (label.metabolites, label.quality, label.ratio, label.sure) == (metabolites, quality, ratio, True)


@pytest.mark.parametrize(
    "text", ["T1 MPRAGE 5 MINS POST", "SWI MIP", "T2 TSE CR", "CRT bold", "DTI LAC", "high SNR T2", "MI tra"]
)
def test_ordinary_descriptions_are_not_taken_for_metabolites(text: str) -> None:
    assert not read_label(text).sure


def test_an_ordinary_series_with_an_ambiguous_word_is_other(study: list[FileDataset]) -> None:
    plain = builders.without("RealWorldValueMappingSequence")(
        builders.renamed(builders.series(study, "LCM tCr conc"), "x", SeriesDescription="ep2d CR")
    )
    found = identified(plain)["ep2d CR"]
    assert found.role is Role.OTHER
    assert found.reason == "neither a metabolite map nor T1 or FLAIR by its attributes"


def test_an_empty_header_is_refused_and_not_an_error() -> None:
    (found,) = identify([Dataset()], RULES)
    assert found.role is Role.OTHER
    assert found.reason
