"""From a case's files to what it is: identification, digests, reasons."""

from __future__ import annotations

import pytest

from dicom_node.config import IdentifyRules
from dicom_node.errors import NotDicom, UnsuitableInput
from dicom_node.process import identify_case, open_folder
from tests import builders

RULES = IdentifyRules()


@pytest.fixture
def case(tmp_path):
    builders.write(builders.usual(), tmp_path / "case")
    return open_folder(tmp_path / "case")


def test_every_series_of_a_case_has_a_role_and_a_reason(case):
    identified = identify_case(case, RULES)
    assert identified.nothing is None
    assert all(f.role and f.reason for f in identified.findings)
    assert {f.role for f in identified.findings} == {"metabolite_map", "quality_map", "t1", "flair"}


def test_the_input_digest_ignores_series_that_are_not_used(case, tmp_path):
    before = identify_case(case, RULES).input_digest
    scout = builders.localizer(builders.series(builders.usual(), "LCM tNAA conc"))
    builders.write(scout, tmp_path / "case")
    assert identify_case(open_folder(tmp_path / "case"), RULES).input_digest == before


def test_the_input_digest_changes_with_a_corrected_instance(case, tmp_path):
    before = identify_case(case, RULES).input_digest
    (changed,) = builders.with_series(
        builders.series(builders.usual(), "LCM tNAA conc")[:1],
        "LCM tNAA conc",
        builders.setting(ImageComments="corrected"),
    )
    changed.save_as(case.instances[str(changed.SOPInstanceUID)], enforce_file_format=True)
    assert identify_case(open_folder(tmp_path / "case"), RULES).input_digest != before


def test_a_study_of_spectra_only_says_where_maps_are_expected_from(tmp_path):
    builders.write(builders.mrs_object(builders.usual()), tmp_path / "case")
    nothing = identify_case(open_folder(tmp_path / "case"), RULES).nothing
    assert nothing is not None and "spectra: maps expected from the quantification host" in nothing


def test_an_instance_gone_from_disk_is_named_and_explained(case):
    next(iter(case.instances.values())).unlink()
    with pytest.raises(NotDicom, match="retention"):
        identify_case(case, RULES)


def test_an_empty_folder_is_refused_in_words(tmp_path):
    with pytest.raises(
        UnsuitableInput, match="neither DICOM files nor a case in a known layout: a NIfTI case"
    ):
        open_folder(tmp_path)
