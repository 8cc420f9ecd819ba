"""The header facts that are kept tell a series as well as its whole headers do."""

from __future__ import annotations

import json
from io import BytesIO

import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.sequence import Sequence

from dicom_node.config import IdentifyRules
from dicom_node.facts import SEQUENCES, facts_of, header_of, number_in, read_facts
from dicom_node.header import read_header
from dicom_node.identify import identify
from tests import builders
from tests.doors import as_file, mr_slice


def kept(header: Dataset) -> Dataset:
    """As it comes back from the store."""
    return header_of(read_facts(facts_of(header)))


@pytest.mark.parametrize("name", ["a study", *builders.DECOYS])
def test_series_are_identified_by_facts_as_by_their_headers(name: str) -> None:
    study = builders.study()
    if name != "a study":
        decoy, _ = builders.DECOYS[name]
        study = decoy(builders.series(study, "LCM tNAA conc"))
    files = [as_file(d) for d in study]
    whole = [pydicom.dcmread(BytesIO(f), stop_before_pixels=True) for f in files]
    received = [read_header(f, sequences=SEQUENCES) for f in files]  # as intake does it
    rules = IdentifyRules()
    assert identify([kept(h) for h in received], rules) == identify(whole, rules)


def test_what_names_the_patient_is_not_among_the_facts() -> None:
    ds = mr_slice(1)
    ds.PatientBirthDate = "19700101"
    facts = facts_of(ds)
    for value in ("Nobody", "P1", "19700101"):
        assert value not in facts


def test_text_beyond_ascii_survives() -> None:
    ds = mr_slice(1, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Spektren für Köln")
    read = pydicom.dcmread(BytesIO(as_file(ds)), stop_before_pixels=True)
    assert kept(read).SeriesDescription == "Spektren für Köln"


def test_a_broken_or_overlong_value_is_left_out_or_cut_and_never_raises() -> None:
    ds = mr_slice(1)
    ds.add_new("SeriesDescription", "LO", "x" * 100_000)
    ds["InstanceNumber"]._value = "1.5"
    ds["PixelSpacing"]._value = "wide"
    facts = facts_of(ds)
    assert len(facts) < 2000
    assert number_in(read_facts(facts), "InstanceNumber") is None


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [("SliceThickness", "DS", "5,0"), ("EchoTime", "DS", "abc"), ("SeriesNumber", "LO", "first")],
)
def test_a_number_that_is_none_is_left_out_and_the_rest_is_there(keyword: str, vr: str, value: str) -> None:
    ds = mr_slice(1, SeriesDescription="LCM tNAA conc")
    ds[keyword] = DataElement(keyword, "LO", value)
    ds[keyword].VR = vr
    received = kept(read_header(as_file(ds), sequences=SEQUENCES))
    assert keyword not in received
    assert received.SeriesDescription == "LCM tNAA conc"


def test_a_thousand_frames_that_say_the_same_are_told_once_but_each_place_in_a_stack_is_kept() -> None:
    ds = Dataset()
    frames = []
    for n in range(1, 1001):
        content = Dataset()
        content.StackID, content.InStackPositionNumber, content.FrameLabel = "1", n, "tNAA"
        frame = Dataset()
        frame.FrameContentSequence = Sequence([content])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    facts = json.loads(facts_of(ds))
    assert len(facts["PerFrameFunctionalGroupsSequence"]) == 1
    assert facts["stacks"] == {"1": list(range(1, 1001))}


def test_an_instance_kept_before_there_were_facts_has_none() -> None:
    assert read_facts(None) == {}
