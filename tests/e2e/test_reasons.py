"""Decoys and broken studies: the reason is in ``status --json``, nothing is sent, nothing crashes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection

import pytest

from tests import builders
from tests.harness import Node, dcmsend, folder_destination, needs_dcmtk

pytestmark = [pytest.mark.peers, needs_dcmtk]


def crashes(node) -> list[dict]:
    return [e for e in node.log_events() if e["event"] in ("room.died", "revision.bug")]


@pytest.fixture(scope="module")
def node(module_node: Callable[..., Node], tmp_path_factory: pytest.TempPathFactory) -> Node:
    return module_node(destinations=folder_destination(tmp_path_factory.getbasetemp() / "sent"))


def ended(wanted: Collection[str]) -> Callable[[dict], bool]:
    """Whether every one of these studies has come to an end."""
    final = {"IGNORED", "FAILED", "DONE"}

    def all_there(status: dict) -> bool:
        return len([c for c in mine(status, wanted) if c["revisions"][0]["state"] in final]) == len(wanted)

    return all_there


def mine(status: dict, wanted: Collection[str]) -> list[dict]:
    return [c for c in status["cases"] if c["studies"][0] in wanted]


def test_each_decoy_is_refused_with_its_reason(node, tmp_path, tmp_path_factory):
    maps = builders.series(builders.study(), "LCM tNAA conc")
    wanted = {}
    for name, (decoy, words) in builders.DECOYS.items():
        instances = _as_own_study(decoy(maps), name)
        builders.write(instances, tmp_path / name)
        dcmsend(node.port, [tmp_path / name])
        wanted[str(instances[0].StudyInstanceUID)] = (name, words)

    status = node.wait_for(ended(wanted))

    for case in mine(status, wanted):
        name, words = wanted[case["studies"][0]]
        (revision,) = case["revisions"]
        assert revision["state"] == "IGNORED", (name, revision)
        assert "no metabolite map" in revision["reason"]
        (found,) = revision["series"]
        assert found["role"] in ("other", "spectra", "ours")
        assert words in found["reason"], (name, found)
        assert revision["deliveries"] == []
    assert not (tmp_path_factory.getbasetemp() / "sent").exists()
    assert not crashes(node)


def test_each_broken_study_fails_in_words_and_sends_nothing(node, tmp_path, tmp_path_factory):
    wanted = {}
    for name, (defect, words) in builders.BROKEN.items():
        instances = _as_own_study(builders.with_series(builders.study(), "LCM tNAA conc", defect), name)
        builders.write(instances, tmp_path / name)
        dcmsend(node.port, [tmp_path / name])
        wanted[str(instances[0].StudyInstanceUID)] = (name, words)

    status = node.wait_for(ended(wanted))

    for case in mine(status, wanted):
        name, words = wanted[case["studies"][0]]
        (revision,) = case["revisions"]
        assert revision["state"] == "FAILED", (name, revision)
        assert words in revision["reason"], (name, revision["reason"])
        assert "tNAA" in revision["reason"]
        assert revision["deliveries"] == []
    assert not (tmp_path_factory.getbasetemp() / "sent").exists()
    assert not crashes(node)


def test_an_unreadable_or_contradicting_instance_is_quarantined_and_shown(make_node, tmp_path):
    node = make_node()
    study = builders.study()
    builders.write(study, tmp_path / "good")
    dcmsend(node.port, [tmp_path / "good"])

    other_pixels = copy.deepcopy(study[0])
    other_pixels.PixelData = bytes(len(other_pixels.PixelData))
    builders.write([other_pixels], tmp_path / "pixels")
    assert "0000" not in dcmsend(node.port, [tmp_path / "pixels"]).rsplit("Status Summary", 1)[-1]
    other_patient = copy.deepcopy(study[1])
    other_patient.PatientID = "SOMEBODY-ELSE"
    other_patient.SOPInstanceUID = other_patient.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    builders.write([other_patient], tmp_path / "patient")
    dcmsend(node.port, [tmp_path / "patient"])

    reasons = [q["reason"] for q in node.status()["quarantine"]]
    assert len(reasons) == 2
    assert "other pixels" in reasons[0]
    assert "two patients" in reasons[1]
    assert not any("SOMEBODY" in line for line in (node.folder / "node.log").read_text().splitlines())


def _as_own_study(instances, name):
    """The instances as a study of their own patient, so that cases are not joined."""
    number = sum(map(ord, name))
    return builders.renamed(
        instances,
        name,
        StudyInstanceUID=f"2.25.{number}",
        PatientID=f"TEST-{name}",
        FrameOfReferenceUID=f"2.25.1{number}",
    )
