"""Clocks that jump, as when NTP finds out late."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from dicom_node.torture.pacs import Mood
from dicom_node.torture.scene import Scene


@dataclass(frozen=True)
class ClockJumps:
    """The node's clock is minutes or hours off, either way, and right again some seconds later.

    Now and then the PACS is full meanwhile: what is put off by a wrong clock must come all the same.
    """

    name: str = "clock jump"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        off_by_s = dice.choice((-1, 1)) * dice.choice((90.0, 1800.0, 7200.0))
        seconds = dice.uniform(4, 10)
        full = dice.random() < 0.5
        try:
            scene.pacs.be(Mood.REFUSING if full else Mood.HONEST)
            scene.node.set_clock(off_by_s)
            time.sleep(seconds)
        finally:
            scene.node.set_clock(0.0)
            scene.pacs.be(Mood.HONEST)
        return f"{off_by_s:+.0f} s for {seconds:.0f} s" + (", the PACS full" if full else "")
