"""A PACS that is down, full, slow, abrupt, or lies."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from dicom_node.torture.pacs import Mood
from dicom_node.torture.scene import Scene


@dataclass(frozen=True)
class PacsDown:
    """kill -9 of the PACS; it comes back with what it had kept."""

    name: str = "PACS down"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        seconds = dice.uniform(2, 8)
        scene.pacs.kill()
        time.sleep(seconds)
        scene.pacs.start()
        return f"for {seconds:.0f} s"


@dataclass(frozen=True)
class PacsMood:
    """The PACS answers in one of its worse moods. A lying one is found out by C-FIND alone."""

    mood: Mood

    @property
    def name(self) -> str:
        return f"PACS {self.mood}"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        seconds = dice.uniform(3, 8)
        try:
            scene.pacs.be(self.mood)
            time.sleep(seconds)
        finally:
            scene.pacs.be(Mood.HONEST)
        return f"for {seconds:.0f} s"
