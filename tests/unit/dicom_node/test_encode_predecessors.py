"""A corrected result names the one it takes the place of, and stays valid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, checked, encode_study
from dicom_node.encode.predecessors import superseding
from tests import phantom
from tests.harness import dciodvfy_errors


def objects(retakes: int = 0, **provenance: object) -> list[EncodedObject]:
    source = replace(phantom.source_study(), retakes=retakes)
    result = phantom.super_resolved(source, **provenance)
    rules = OutputRules(mr_maps=("HGG",), parametric_maps=("HGG",), segmentation_on_anatomy=False)
    return list(encode_study(result, source, rules))


@pytest.fixture(scope="module")
def earlier() -> dict[str, Dataset]:
    return {o.name: o.dataset for o in objects()}


@pytest.fixture(scope="module")
def later(earlier: dict[str, Dataset]) -> list[EncodedObject]:
    """By another model: other UIDs."""
    return list(checked(superseding(objects(model_hash="ab" * 32), earlier.get)))


def test_every_image_names_the_earlier_one_of_its_place(later, earlier) -> None:
    assert {o.name for o in later} == set(earlier)
    for o in later:
        assert ("PredecessorDocumentsSequence" in o.dataset) == (o.kind == "SR")
        if o.kind in ("SR", "KO"):
            continue
        (item,) = o.dataset.ReferencedImageSequence
        assert item.ReferencedSOPInstanceUID == earlier[o.name].SOPInstanceUID != o.dataset.SOPInstanceUID
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "SUPERSEDED"
        assert o.dataset.DerivationDescription.startswith("Supersedes an earlier result")


def test_viewers_still_find_the_parent_series_first(later, earlier) -> None:
    for o in later:
        if o.kind in ("PM", "SEG"):
            listed = [s.SeriesInstanceUID for s in o.dataset.ReferencedSeriesSequence]
            assert listed[0] == later[0].dataset.SeriesInstanceUID
            assert listed[-1] == earlier[o.name].SeriesInstanceUID


def test_what_supersedes_is_valid(later, tmp_path: Path) -> None:
    chosen = {o.kind: o for o in later}.values()
    paths = []
    for o in chosen:
        paths.append(tmp_path / f"{o.name}.dcm")
        o.dataset.save_as(paths[-1], enforce_file_format=True)
    assert dciodvfy_errors(paths) == []


def test_the_very_same_object_again_is_left_as_it_is(earlier) -> None:
    again = list(superseding(objects(), earlier.get))
    assert not any("ReferencedImageSequence" in o.dataset for o in again)


def test_a_document_names_its_predecessor_as_documents_do(later, earlier) -> None:
    (report,) = (o for o in later if o.kind == "SR")
    (study,) = report.dataset.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == report.dataset.StudyInstanceUID
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == earlier[report.name].SeriesInstanceUID
    (item,) = series.ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == earlier[report.name].SOPInstanceUID


def test_what_is_made_after_a_withdrawal_bears_other_uids(earlier) -> None:
    """An archive may keep a rejected UID out for good."""
    again = {str(o.dataset.SOPInstanceUID) for o in objects(retakes=1)}
    assert again.isdisjoint(str(d.SOPInstanceUID) for d in earlier.values())
