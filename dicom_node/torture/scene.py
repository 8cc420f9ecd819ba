"""What every kind of trouble has at hand, and the interface that each of them has."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dicom_node.store import Store

from .account import Account
from .node import ThrowAwayNode
from .pacs import Pacs
from .sender import Modality
from .watch import Watch


@dataclass
class Scene:
    """The node, its peers and the books of one run. ``disk``: the data's own file system, or None."""

    node: ThrowAwayNode
    pacs: Pacs
    modality: Modality
    account: Account
    watch: Watch
    store: Store
    seed: int
    disk: Path | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Trouble(Protocol):
    """One kind of trouble. ``dice`` decides all that is left to chance."""

    @property
    def name(self) -> str: ...

    def impossible(self, scene: Scene) -> str:
        """Why it cannot be made on this machine, or ""."""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        """Make it, see it through and put things right again. Returns what was done, in words."""
