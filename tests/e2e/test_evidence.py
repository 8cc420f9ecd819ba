"""A study on its way through a running node: what it waits for, and what a person may do about it."""

from __future__ import annotations

import pytest

from dicom_node.demo import LoopbackOrthanc
from tests import builders
from tests.harness import dcmsend, folder_destination, needs_dcmtk, needs_orthanc

pytestmark = [pytest.mark.peers, needs_dcmtk]


def test_status_says_what_is_awaited_and_a_person_holds_releases_and_forces(make_node, tmp_path):
    node = make_node(destinations=folder_destination(tmp_path / "out"), quiet_period_s=3600)
    study = builders.study()
    uid = str(study[0].StudyInstanceUID)
    builders.write(study, tmp_path / "study")
    dcmsend(node.port, [tmp_path / "study"])
    node.wait_for(lambda s: s["cases"][0]["revisions"][0]["awaited"] == "more instances")
    assert "RECEIVING" in (told := node.cli("status").stdout)
    assert "more instances, until 20" in told
    assert "worker worker-under-test: last seen 20" in told

    assert node.cli("hold", uid, "--reason", "which patient?").returncode == 0
    assert "held by a person: which patient?" in node.cli("status").stdout
    refused = node.cli("force", uid, "--reason", "now")
    assert refused.returncode == 2
    assert "the study is HELD; force is possible only while it is still receiving" in refused.stderr
    assert node.cli("release", uid, "--reason", "it is the right one").returncode == 0
    node.wait_for_state("DONE")

    refused = node.cli("ignore", uid, "--reason", "no use")
    assert refused.returncode == 2
    assert "the study is DONE" in refused.stderr


@needs_orthanc
def test_anatomy_that_did_not_come_is_fetched_from_the_pacs_and_used(make_node, tmp_path):
    study = builders.study()
    maps = [d for d in study if str(d.SeriesDescription).startswith("LCM")]
    anatomy = [d for d in study if not str(d.SeriesDescription).startswith("LCM")]
    pacs = LoopbackOrthanc(tmp_path / "orthanc", DicomAlwaysAllowFind=True, DicomAlwaysAllowGet=True)
    pacs.start()
    try:
        archive = f"""[gather.pacs]
ae_title = "{pacs.ae_title}"
host = "127.0.0.1"
port = {pacs.dicom_port}
retrieve = "get"
settle_s = 0.5
"""
        node = make_node(destinations=archive, quiet_period_s=600)
        builders.write(anatomy, tmp_path / "anatomy")
        builders.write(maps, tmp_path / "maps")
        dcmsend(pacs.dicom_port, [tmp_path / "anatomy"], ae_title=pacs.ae_title)
        dcmsend(node.port, [tmp_path / "maps"])
        node.wait_for(lambda s: s["cases"][0]["instances"] == len(study))
        node.wait_for(lambda s: s["cases"][0]["revisions"][0]["awaited"] == "more instances")
        assert node.cli("force", str(study[0].StudyInstanceUID), "--reason", "all here").returncode == 0
        status = node.wait_for_state("DONE")
    finally:
        pacs.stop()
    (revision,) = status["cases"][0]["revisions"]
    assert {s["role"] for s in revision["series"]} >= {"metabolite_map", "t1", "flair"}
