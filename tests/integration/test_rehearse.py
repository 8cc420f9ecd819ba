"""A rehearsal with real peers: what they keep, change and refuse, and what is known of them afterwards."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage, ParametricMapStorage, SegmentationStorage
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.config import DicomDestination, DicomWebDestination, NodeRules, OutputRules, Settings
from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.encode import encode_study
from dicom_node.errors import BadConfiguration
from dicom_node.rehearse import Rehearsal, rehearse
from dicom_node.rehearse.difference import About, Difference, differences
from dicom_node.rungs import Rung
from dicom_node.store import Store, migrate
from tests import phantom
from tests.harness import folder_destination, needs_orthanc
from tests.pacs import Pacs

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

# Orthanc answers Success and keeps nothing of what this filter does not let in.
_DROPS_SEGMENTATIONS = """
function ReceivedInstanceFilter(dicom, origin, info)
  return dicom.Modality ~= 'SEG'
end
"""


def orthanc(folder: Path, port: int, **further: object) -> LoopbackOrthanc:
    if not LoopbackOrthanc.installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    node = {"AET": "MRSISR", "Host": "127.0.0.1", "Port": port, **further.pop("node", {})}
    server = LoopbackOrthanc(folder, DicomModalities={"node": node}, **further)
    server.start()
    return server


def rehearsed(
    destination: DicomDestination | DicomWebDestination, store: Store | None = None, port: int = 0
) -> Rehearsal:
    """With few objects, in process."""
    settings = Settings(
        destination=(destination,),
        node=NodeRules(port=port or free_port()),
        output=OutputRules(mr_maps=("HGG",), parametric_maps=("HGG", "tNAA")),
    )
    return rehearse(settings, destination.name, store=store)


def became(found: Rehearsal) -> dict[str, str]:
    return {w.kind: w.became for w in found.went}


@needs_orthanc
def test_orthanc_gives_back_what_it_was_given_and_the_command_says_so(tmp_path):
    """The whole command: a name in Cyrillic, everything that is configured, back by C-GET, exit code 0."""
    port = free_port()
    pacs = orthanc(tmp_path / "orthanc", port)
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'[node]\nport = {port}\n[storage]\nfolder = "{tmp_path / "data"}"\nlow_water_mb = 1\n'
        f'[[destination]]\ntype = "dicom"\nname = "PACS"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
        f"port = {pacs.dicom_port}\n{folder_destination(tmp_path / 'results')}"
    )
    command = [sys.executable, "-m", "dicom_node.cli", "rehearse", "PACS", "--json", "--config", str(toml)]
    command += ["--patient-name", "ТЕСТ^РЕПЕТИЦИЯ"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = json.loads(done.stdout)
        assert said["good"] and said["fetched_by"] == "C-GET"
        assert {w["kind"] for w in said["went"]} >= {"MR", "SC", "PM", "SEG", "SR"}
        assert {w["became"] for w in said["went"]} == {"kept"}
        assert said["changes"] == [] and said["refuses"] == {}
        (patient,) = pacs.get("/patients?expand")
        shown = patient["MainDicomTags"]
        assert (shown["PatientID"], shown["PatientName"]) == ("TEST-REHEARSAL", "ТЕСТ^РЕПЕТИЦИЯ")
    finally:
        pacs.stop()


@needs_orthanc
def test_what_an_archive_takes_and_does_not_keep_is_found_out(tmp_path):
    """Orthanc drops Segmentations without a word; and it offers no C-GET, so that C-MOVE brings the rest.

    By DICOMweb it says so of each object, and WADO-RS brings the rest.
    """
    port = free_port()
    script = tmp_path / "filter.lua"
    script.write_text(_DROPS_SEGMENTATIONS)
    web: dict[str, object] = {"Plugins": [str(PLUGIN)]} if PLUGIN.exists() else {}
    pacs = orthanc(tmp_path / "orthanc", port, node={"AllowGet": False}, LuaScripts=[str(script)], **web)
    try:
        where = DicomDestination(
            name="PACS", ae_title="ORTHANC", host="127.0.0.1", port=pacs.dicom_port,
            proving={"settle_s": 2.0}, label_maps=True, enhanced_mr=True, compress_pictures=True,
        )  # fmt: skip
        found = rehearsed(where, port=port)
        assert not found.good
        assert list(found.refuses) == ["Label Map Segmentation"]  # the other is taken, and kept
        assert [w.became for w in found.went if w.form == "Enhanced MR Image"] == ["kept"]
        said = became(found)
        assert said.pop("SEG") == "not shown"
        assert set(said) >= {"MR", "SC", "PM", "SR"} and set(said.values()) == {"kept"}
        assert found.fetched_by == "C-MOVE"
        if web:
            url = f"http://127.0.0.1:{pacs.http_port}/dicom-web"
            found = rehearsed(DicomWebDestination(name="PACS", url=url, proving={"settle_s": 2.0}))
            said = became(found)
            assert said.pop("SEG") in ("not shown", "refused")
            assert set(said) >= {"MR", "SC", "PM", "SR"} and set(said.values()) == {"kept"}
            assert found.fetched_by == "WADO-RS"
    finally:
        pacs.stop()


def test_a_refused_class_is_reported_and_replaces_what_was_known(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'node.sqlite'}")
    migrate(store)
    store.refuse_form("PACS", Rung(SegmentationStorage), "years ago")
    find = StudyRootQueryRetrieveInformationModelFind
    with Pacs(MRImageStorage, SegmentationStorage, find) as pacs:
        pacs.shows = lambda uid, study: True
        found = rehearsed(pacs.destination(send=("MR", "PM", "SEG")), store)
    assert not found.good
    assert became(found) == {"MR": "not fetched", "SEG": "not fetched"}
    assert any("C-GET" in w.words and "C-MOVE" in w.words for w in found.went)
    assert found.otherwise["PM_HGG"].startswith("there as derived MR only")
    assert found.otherwise["PM_tNAA"].startswith("sent as derived MR series")
    assert set(found.refuses) == {"Parametric Map"}
    assert set(store.refused_forms("PACS")) == {Rung(ParametricMapStorage)}


def test_a_folder_is_not_rehearsed(tmp_path):
    settings = Settings(destination=({"type": "folder", "name": "results", "folder": tmp_path},))
    with pytest.raises(BadConfiguration, match="nothing to rehearse"):
        rehearse(settings, "results")


@pytest.fixture(scope="module")
def a_map() -> Iterator[object]:
    source = phantom.source_study()
    result = phantom.super_resolved(source)
    yield next(o.dataset for o in encode_study(result, source, OutputRules()) if o.name == "PM_HGG")


def test_what_changed_is_named_with_what_it_is_about(a_map):
    back = copy.deepcopy(a_map)
    shared = back.SharedFunctionalGroupsSequence[0]
    shared.RealWorldValueMappingSequence[0].RealWorldValueSlope = 2.0
    shared.PixelMeasuresSequence[0].PixelSpacing = ["1", "1"]
    del back.ReferencedSeriesSequence
    back.PatientID = "OTHER"
    back.InstitutionName = "archive"
    back.SeriesNumber = f" {back.SeriesNumber} "  # written otherwise, the same number
    found = {d.attribute.split(".")[-1]: (d.about, d.what, d.grave) for d in differences(a_map, back)}
    assert found == {
        "RealWorldValueSlope": (About.UNITS, "changed", True),
        "PixelSpacing": (About.GEOMETRY, "changed", True),
        "ReferencedSeriesSequence": (About.REFERENCES, "dropped", True),
        "PatientID": (About.IDENTITY, "changed", True),
        "InstitutionName": (About.OTHER, "added", False),
    }
    assert list(differences(a_map, copy.deepcopy(a_map))) == []
    assert not Difference("SpecificCharacterSet", "changed").grave
