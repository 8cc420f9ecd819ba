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
def _orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackOrthanc]:
    if not LoopbackOrthanc.installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    pacs = LoopbackOrthanc(tmp_path_factory.mktemp("orthanc"))
    pacs.start()
    yield pacs
    pacs.stop()


@pytest.fixture
def orthanc(_orthanc: LoopbackOrthanc) -> LoopbackOrthanc:
    """A PACS that holds nothing yet: one process, emptied for each test."""
    for patient in _orthanc.get("/patients"):
        url = f"http://127.0.0.1:{_orthanc.http_port}/patients/{patient}"
        urlopen(Request(url, method="DELETE"), timeout=60).close()
    assert _orthanc.get("/instances") == []
    return _orthanc


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
