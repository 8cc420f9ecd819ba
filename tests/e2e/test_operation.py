"""What OPERATION.md tells operators to do, done to real nodes."""

from __future__ import annotations

import json

import pytest

from dicom_node.demo import LoopbackOrthanc
from tests import builders
from tests.harness import dcmsend, dicom_destination, needs_dcmtk, needs_orthanc

pytestmark = [pytest.mark.peers, needs_dcmtk]

QUICK = "{ max_attempts = 400, first_s = 0.5, longest_s = 1.0 }"


@needs_orthanc
def test_a_node_restored_from_its_backup_delivers_what_had_not_arrived(make_node, tmp_path):
    pacs = LoopbackOrthanc(tmp_path / "orthanc")
    there = dicom_destination(pacs.dicom_port, retry=QUICK)
    node = make_node(destinations=there)
    builders.write(builders.study(), tmp_path / "study")
    dcmsend(node.port, [tmp_path / "study"])
    node.wait_for(
        lambda s: s["cases"] and any(d["tries"] for d in s["cases"][0]["revisions"][0]["deliveries"])
    )
    saved = node.cli("backup", str(tmp_path / "copy"), "--json")
    assert saved.returncode == 0, saved.stderr
    assert json.loads(saved.stdout)["verified"]["problems"] == []
    node.kill_all()  # and its disk is gone

    restored = make_node(destinations=there, storage=f'folder = "{tmp_path / "copy"}"')
    pacs.start()
    try:
        restored.wait_for_state("DONE")
        (delivery,) = restored.status()["cases"][0]["revisions"][0]["deliveries"]
        assert len(pacs.get("/instances")) == delivery["taken"] > 0
    finally:
        pacs.stop()
    assert restored.cli("custody", "--verify").returncode == 0


def test_a_backup_goes_into_no_folder_that_holds_something(make_node, tmp_path):
    node = make_node()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused = node.cli("backup", str(tmp_path / "full"))
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
