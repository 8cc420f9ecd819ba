"""A study on its way through a running node: what it waits for, and what a person may do about it."""

from __future__ import annotations

import pytest

from tests import builders
from tests.harness import dcmsend, folder_destination, needs_dcmtk

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
