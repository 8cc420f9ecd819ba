"""All kinds of trouble there are, and which comes when: drawn from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node import boundary
from dicom_node.torture.node import ROOMS
from dicom_node.torture.pacs import Mood
from dicom_node.torture.scene import Trouble

from .clock import ClockJumps
from .connections import AbortStorm, HalfPdus, SlowLoris
from .disk import DiskFull, LowWater
from .hostile import HostileDataSets, MutatedDataSets, MutatedPdus
from .instances import Conflicts, Duplicates
from .kill import KillAt, KillNode, KillRoom
from .peer import PacsDown, PacsMood

__all__ = ["Planned", "catalogue", "plan"]


@dataclass(frozen=True)
class Planned:
    """One trouble to come, after ``pause_s``; ``seed`` is that of its own dice."""

    trouble: Trouble
    pause_s: float
    seed: int


def catalogue() -> list[Trouble]:
    """One of each, in a fixed order."""
    return [
        *(KillRoom(room) for room in ROOMS),
        KillNode(),
        *(KillAt(name, "listener") for name in boundary.INTAKE),
        *(KillAt(name, "worker") for name in boundary.WORK),
        DiskFull(),
        LowWater(),
        ClockJumps(),
        SlowLoris(),
        HalfPdus(),
        AbortStorm(),
        Duplicates(),
        Conflicts(),
        HostileDataSets(),
        MutatedDataSets(),
        MutatedPdus(),
        PacsDown(),
        *(PacsMood(mood) for mood in (Mood.REFUSING, Mood.SLOW, Mood.LYING, Mood.ABORTING)),
    ]


def plan(seed: int, troubles: Sequence[Trouble]) -> Iterator[Planned]:
    """Without end: each kind once in every round, in an order of its own."""
    dice = random.Random(seed)
    while troubles:
        for trouble in dice.sample(list(troubles), len(troubles)):
            yield Planned(trouble, dice.uniform(0.0, 2.0), dice.randrange(2**32))
