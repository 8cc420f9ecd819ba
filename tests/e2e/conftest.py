"""Fixtures: a PACS and nodes, all real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from dicom_node.demo import LoopbackOrthanc
from tests.harness import Node


@pytest.fixture(scope="session")
def shared_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackOrthanc]:
    if not LoopbackOrthanc.installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    pacs = LoopbackOrthanc(tmp_path_factory.mktemp("orthanc"))
    pacs.start()
    yield pacs
    pacs.stop()


@pytest.fixture
def orthanc(shared_orthanc: LoopbackOrthanc) -> LoopbackOrthanc:
    """A PACS that holds nothing yet: one process, emptied for each test."""
    for patient in shared_orthanc.get("/patients"):
        url = f"http://127.0.0.1:{shared_orthanc.http_port}/patients/{patient}"
        urlopen(Request(url, method="DELETE"), timeout=60).close()
    assert shared_orthanc.get("/instances") == []
    return shared_orthanc


@pytest.fixture(scope="module")
def module_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Node]]:
    """Start a node that the tests of a module share; each brings a case of its own."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        nodes.append(Node(tmp_path_factory.mktemp("node"), **settings))
        return nodes[-1].start()

    yield make
    for node in nodes:
        node.end()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start nodes that end with the test."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        node = Node(tmp_path / f"node{len(nodes)}", **settings)
        nodes.append(node)
        return node.start()

    yield make
    for node in nodes:
        node.end()
