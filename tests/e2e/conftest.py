"""Fixtures: a PACS and nodes, all real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.demo import LoopbackOrthanc
from tests.harness import Node


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[LoopbackOrthanc]:
    if not LoopbackOrthanc.installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    pacs = LoopbackOrthanc(tmp_path / "orthanc")
    pacs.start()
    yield pacs
    pacs.stop()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start nodes that stop with the test."""
    nodes: list[Node] = []

    def make(**settings: Any) -> Node:
        node = Node(tmp_path / f"node{len(nodes)}", **settings)
        nodes.append(node)
        return node.start()

    yield make
    for node in nodes:
        node.stop()
