"""A node that nothing is sent to: which doors it has, and who may work under its name."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.harness import Node, folder_destination


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("doors")
    node = Node(
        folder / "node", destinations=folder_destination(folder / "out"), predecessor_s=1.0, watch=True
    )
    node.start()
    yield node
    node.end()


def test_class_14_the_node_has_no_door_but_its_dicom_port(node: Node) -> None:
    """No web page, queue, database or console beside it, of ours or of the workflow engine."""
    node.wait_for(lambda s: s["workers"])
    rooms = ("listener", "housekeeping", "worker", "watcher")
    processes = [psutil.Process(node.pid_of(room)) for room in rooms]
    processes += [processes[0].parent(), *(c for p in processes for c in p.children(recursive=True))]
    listening = {c.laddr for p in processes if p for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {("127.0.0.1", node.port)}


def test_a_second_worker_of_one_name_is_refused(node: Node) -> None:
    node.wait_for(lambda s: s["workers"])
    done = node.cli("work", "--name", "worker-under-test")
    assert done.returncode == 2
    assert "give this one its own --name" in done.stderr
