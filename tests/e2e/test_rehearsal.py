"""A rehearsal beside the node that runs: C-MOVE brings its test patient here, and it goes again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dicom_node.demo import LoopbackOrthanc
from tests.harness import dicom_destination, needs_orthanc

pytestmark = [pytest.mark.peers, needs_orthanc]


@pytest.mark.long
def test_what_a_c_move_brings_to_the_running_node_is_compared_and_neither_worked_on_nor_kept(
    make_node, tmp_path
):
    known: dict[str, object] = {}
    pacs = LoopbackOrthanc(tmp_path / "orthanc", DicomModalities=known)
    node = make_node(destinations=dicom_destination(pacs.dicom_port), quiet_period_s=8)
    known["node"] = {"AET": "MRSISR", "Host": "127.0.0.1", "Port": node.port, "AllowGet": False}
    pacs.start()
    command = [sys.executable, "-m", "dicom_node.cli", "rehearse", "PACS", "--json", "--config", node.toml]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = json.loads(done.stdout)
        assert said["good"] and said["fetched_by"] == "C-MOVE"
        status = node.status()
        (case,) = status["cases"]
        assert case["studies"] == [said["study_uid"]] and case["instances"] == 0
        assert {r["state"] for r in case["revisions"]} == {"IGNORED"}
        assert "rehearsal" in case["revisions"][0]["reason"]
        assert [r["deliveries"] for r in case["revisions"]] == [[]]
        spool = node.folder / "data" / "spool"
        assert [p for sub in ("in", "out", "tmp") for p in (spool / sub).rglob("*") if p.is_file()] == []
        assert [e["event"] for e in node.log_events() if e["event"].startswith("revision.")] == []
    finally:
        pacs.stop()
