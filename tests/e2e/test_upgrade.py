"""A new version of the node takes up what the old one left: deliveries that wait, a study in mid-resolve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.demo import LoopbackOrthanc
from dicom_node.simulate.export import Identity
from tests import builders
from tests.harness import Node, dcmsend, dicom_destination, needs_dcmtk, needs_orthanc

pytestmark = [pytest.mark.peers, needs_dcmtk, needs_orthanc]

# A release whose workflows have another order of steps; rooms are spawned, and read it again.
_NEW_VERSION = """
from dicom_node import workflows
workflows._WORKFLOW_VERSION = "{version}"
if __name__ == "__main__":
    from dicom_node.cli import main
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "version"),
    [
        pytest.param(Node.kill_all, "1", id="killed-same-workflows"),
        pytest.param(Node.stop, "2", id="stopped-other-workflows", marks=pytest.mark.long),
    ],
)
def test_an_upgrade_finishes_what_the_old_version_began(
    make_node, tmp_path: Path, end: Callable[[Node], None], version: str
) -> None:
    pacs = LoopbackOrthanc(tmp_path / "orthanc")
    to_pacs = dicom_destination(pacs.dicom_port, retry="{ first_s = 1.0, longest_s = 2.0 }")
    node = make_node(destinations=to_pacs, method="bicubic+fnlm+dc")
    builders.write(builders.study(identity=Identity(patient_id="P1", study="1")), tmp_path / "one")
    dcmsend(node.port, [tmp_path / "one"])
    node.wait_for(lambda s: deliveries(s) == ["WAITING"])
    builders.write(builders.study(identity=Identity(patient_id="P2", study="2")), tmp_path / "two")
    dcmsend(node.port, [tmp_path / "two"])
    node.wait_for(lambda s: states(s) == ["DELIVERING", "RESOLVING"])

    end(node)
    program = tmp_path / "new_version.py"
    program.write_text(_NEW_VERSION.format(version=version))
    node.start([str(program)])
    pacs.start()
    try:
        status = node.wait_for_state("DONE", "FAILED", cases=2, limit_s=240)
        assert states(status) == ["DONE", "DONE"]
        taken = sum(d["taken"] for c in status["cases"] for d in c["revisions"][0]["deliveries"])
        assert len(pacs.get("/instances")) == taken > 0
    finally:
        pacs.stop()
    assert all(len(c["revisions"]) == 1 and c["revisions"][0]["attempt"] == 1 for c in status["cases"])


def states(status) -> list[str]:
    return sorted(r["state"] for c in status["cases"] for r in c["revisions"])


def deliveries(status) -> list[str]:
    return [d["state"] for c in status["cases"] for r in c["revisions"] for d in r["deliveries"]]
