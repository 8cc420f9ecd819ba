"""No space: a small file system that is full to the last byte or nearly, or a mark that says so."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from dicom_node.torture.scene import Scene

_MB = 1024**2


@dataclass(frozen=True)
class DiskFull:
    """The file system of the node's data has no room left for some seconds, databases included."""

    name: str = "disk full"

    def impossible(self, scene: Scene) -> str:
        return "" if scene.disk else "no small tmpfs can be mounted here (needs root)"

    def cause(self, scene: Scene, dice: random.Random) -> str:
        assert scene.disk is not None
        left_mb = dice.choice((0, 2, max(1, scene.node.low_water_mb - 2)))
        seconds = dice.uniform(3, 8)
        size = shutil.disk_usage(scene.disk).total
        try:
            _resize(scene.disk, shutil.disk_usage(scene.disk).used + left_mb * _MB + 4096)
            time.sleep(seconds)
        finally:
            _resize(scene.disk, size)
        return f"{left_mb} MB left for {seconds:.0f} s"


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True, capture_output=True)


@dataclass(frozen=True)
class LowWater:
    """The node is started with a low-water mark above what any disk has free, then as it was."""

    name: str = "below the low-water mark"

    def impossible(self, scene: Scene) -> str:
        return ""

    def cause(self, scene: Scene, dice: random.Random) -> str:
        seconds = dice.uniform(2, 5)
        with scene.watch.excused():
            scene.node.stop()
            scene.node.start(MRSI_NODE__STORAGE__LOW_WATER_MB=str(10**9))
            time.sleep(seconds)
            scene.node.stop()
            scene.node.start()
            scene.node.wait_until_up()
        return f"for {seconds:.0f} s"
