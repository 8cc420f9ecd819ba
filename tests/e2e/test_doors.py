"""A node that nothing is sent to: which doors it has, and who may work under its name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from dicom_node import config
from dicom_node.demo import free_port
from tests.harness import Node, folder_destination


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("doors")
    out = folder_destination(folder / "out")
    page = f"port = {free_port()}"
    node = Node(folder / "node", destinations=out, predecessor_s=1.0, watch=True, page=page)
    node.start()
    yield node
    node.end()


def page_of(node: Node) -> httpx.Response:
    """The queue, as soon as it is served."""
    url = config.load(node.toml).web.url
    until = time.monotonic() + 120
    while True:
        try:
            return httpx.get(url, timeout=30, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < until, "the page is not served"
            time.sleep(0.2)


def test_class_14_the_node_has_no_door_but_its_dicom_port_and_its_page(node: Node) -> None:
    """No queue, database or console beside them, of ours or of the workflow engine."""
    node.wait_for(lambda s: s["workers"])
    assert "No study has come yet." in page_of(node).text
    rooms = ("listener", "housekeeping", "worker", "watcher", "web")
    processes = [psutil.Process(node.pid_of(room)) for room in rooms]
    processes += [processes[0].parent(), *(c for p in processes for c in p.children(recursive=True))]
    listening = {c.laddr for p in processes if p for c in p.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {("127.0.0.1", node.port), ("127.0.0.1", config.load(node.toml).web.port)}


def test_a_page_that_died_is_served_again_and_nobody_else_noticed(node: Node) -> None:
    page_of(node)
    others = [node.pid_of(room) for room in ("listener", "worker")]
    before = node.pid_of("web")
    node.kill("web")
    while node.pid_of("web") == before:
        time.sleep(0.1)
    assert page_of(node).status_code == 200
    assert [node.pid_of(room) for room in ("listener", "worker")] == others


def test_a_second_worker_of_one_name_is_refused(node: Node) -> None:
    node.wait_for(lambda s: s["workers"])
    done = node.cli("work", "--name", "worker-under-test")
    assert done.returncode == 2
    assert "give this one its own --name" in done.stderr
