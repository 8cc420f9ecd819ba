"""kill -9: of a room or of the whole node at any moment, and of whoever passes a step boundary."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from dataclasses import dataclass

from dicom_node.torture.scene import Scene

_PASSES_BY_S = 45.0


@dataclass(frozen=True)
class KillRoom:
    """One process dies at a random moment; the supervisor starts it again."""

    room: str

    @property
    def name(self) -> str:
        return f"kill -9 of the {self.room}"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        time.sleep(dice.uniform(0, 2))
        with scene.watch.excused() if self.room == "listener" else nullcontext():
            scene.node.kill(self.room)
            scene.node.wait_until_up()
        return "killed"


@dataclass(frozen=True)
class KillNode:
    """Every process dies at once, as in a power cut, and the node is started again."""

    name: str = "kill -9 of the whole node"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        time.sleep(dice.uniform(0, 2))
        with scene.watch.excused():
            scene.node.kill_all()
            scene.node.start()
            scene.node.wait_until_up()
        return "killed and started"


@dataclass(frozen=True)
class KillAt:
    """The process that passes a step boundary next dies there, between two durable steps."""

    boundary: str
    room: str

    @property
    def name(self) -> str:
        return f"kill -9 at {self.boundary}"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        with scene.watch.excused() if self.room == "listener" else nullcontext():
            scene.node.arm(self.boundary)
            until = time.monotonic() + _PASSES_BY_S
            while scene.node.armed(self.boundary) and time.monotonic() < until:
                time.sleep(0.1)
            if scene.node.disarm(self.boundary):
                return f"nobody passed within {_PASSES_BY_S:g} s"
            scene.node.kills += 1
            time.sleep(0.2)
            scene.node.wait_until_up()
        return "killed"
