"""kill -9 anywhere: what was acknowledged is processed once, and the PACS holds each object once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from dicom_node import dispatch
from dicom_node.config import DicomDestination, NodeRules
from dicom_node.errors import NodeError
from tests import builders
from tests.harness import dcmsend, dicom_destination, needs_dcmtk, needs_orthanc

pytestmark = [pytest.mark.peers, needs_dcmtk, needs_orthanc]


def ours_in(orthanc) -> Counter:
    """How often the PACS holds each of our objects, by SOP Instance UID."""
    tags = [orthanc.get(f"/instances/{i}/simplified-tags") for i in orthanc.get("/instances")]
    return Counter(t["SOPInstanceUID"] for t in tags if t["SeriesDescription"].startswith("MRSI-SR"))


def test_a_worker_killed_while_it_resolves_finishes_after_its_restart(orthanc, make_node, tmp_path):
    builders.write(builders.study(), tmp_path / "study")
    node = make_node(destinations=dicom_destination(orthanc.dicom_port), method="bicubic+fnlm+dc")
    dcmsend(node.port, [tmp_path / "study"])

    node.wait_for(lambda s: s["cases"] and s["cases"][0]["revisions"][0]["state"] == "RESOLVING")
    first = node.pid_of("worker")
    node.kill("worker")

    status = node.wait_for_state("DONE", "FAILED")
    (case,) = status["cases"]
    (revision,) = case["revisions"]
    assert revision["state"] == "DONE", revision
    assert node.pid_of("worker") != first
    (delivery,) = revision["deliveries"]
    assert delivery["state"] == "DELIVERED"
    held = ours_in(orthanc)
    assert len(held) == delivery["taken"] > 0
    assert set(held.values()) == {1}


def test_the_whole_node_killed_goes_on_where_it_was(orthanc, make_node, tmp_path):
    builders.write(builders.study(), tmp_path / "study")
    node = make_node(destinations=dicom_destination(orthanc.dicom_port), method="bicubic+fnlm+dc")
    dcmsend(node.port, [tmp_path / "study"])
    node.wait_for(lambda s: s["cases"] and s["cases"][0]["revisions"][0]["state"] == "RESOLVING")

    node.kill_all()
    node.start()

    status = node.wait_for_state("DONE", "FAILED")
    assert [r["state"] for c in status["cases"] for r in c["revisions"]] == ["DONE"]
    assert set(ours_in(orthanc).values()) == {1}


def test_a_listener_killed_in_an_association_keeps_what_it_acknowledged(orthanc, make_node, tmp_path):
    files = builders.write(builders.study(), tmp_path / "study")
    # A listener that died is back before the study counts as quiet, on a busy machine too.
    node = make_node(destinations=dicom_destination(orthanc.dicom_port), quiet_period_s=12)
    us = DicomDestination(name="node", ae_title="MRSISR", host="127.0.0.1", port=node.port)
    acknowledged: list[str] = []
    halfway = threading.Event()

    def count(file, status) -> None:
        acknowledged.append(file.sop_uid)
        if len(acknowledged) == len(files) // 2:
            node.kill("listener")
            halfway.set()

    with pytest.raises(NodeError):
        dispatch.send_paths(us, files, NodeRules(), count)
    assert halfway.is_set()
    node.wait_for(lambda s: sum(c["instances"] for c in s["cases"]) >= len(acknowledged))
    node.wait_for_listener()

    dcmsend(node.port, [tmp_path / "study"])  # as a scanner would: everything again
    status = node.wait_for_state("DONE", "FAILED")
    (case,) = status["cases"]
    assert case["instances"] == len(files)
    assert case["revisions"][0]["state"] == "DONE", case
    assert len(case["revisions"]) == 1
    assert set(ours_in(orthanc).values()) == {1}
