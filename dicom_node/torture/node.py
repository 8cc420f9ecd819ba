"""A throw-away node: own folder, own port, embedded database, quick rules; started, killed and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node import boundary, config
from dicom_node.config import Settings
from dicom_node.demo import free_port, wait_for_port
from dicom_node.errors import PermanentError

ROOMS = ("listener", "housekeeping", "worker")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What one process takes at a moment: resident memory in bytes, open file handles."""

    room: str
    pid: int
    rss: int
    files: int


class ThrowAwayNode:
    """``mrsi-node serve`` in ``folder``, with its data in ``data`` and one destination on ``pacs_port``."""

    def __init__(self, folder: Path, data: Path, pacs_port: int, pacs_title: str, low_water_mb: int) -> None:
        self.folder, self.data, self.low_water_mb = folder, data, low_water_mb
        self.port = free_port()
        self.hooks = folder / "hooks"
        self.hooks.mkdir(parents=True)
        self.toml = folder / "node.toml"
        self.toml.write_text(_configuration(self.port, data, pacs_port, pacs_title, low_water_mb))
        with only(own_environment()):
            self.settings: Settings = config.load(self.toml)
        self.kills = 0
        self._log = folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.RLock()

    def start(self, **changed: str) -> None:
        """``changed``: environment that overrides the configuration. Raises PermanentError if it ends."""
        environment = {**own_environment(), boundary.VARIABLE: str(self.hooks), **changed}
        with self._turn, self._log.open("a") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node.cli", "serve", "--config", str(self.toml)],
                stderr=said,
                env=environment,
            )
            wait_for_port(self.port, self._process, 120)

    def stop(self) -> None:
        """SIGTERM, and all rooms drain."""
        with self._turn:
            if self._process is None:
                return
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(90)
            except subprocess.TimeoutExpired:
                self._kill_all()
            self._process = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def pids(self) -> dict[str, int]:
        """Room -> process, of the rooms that run now. The supervisor's own is "node"."""
        if not self.runs:
            return {}
        assert self._process is not None
        found = {"node": self._process.pid}
        for line in self._log.read_text(errors="replace").splitlines():
            if '"room.started"' in line:
                with suppress(ValueError):
                    event = json.loads(line)
                    found[event["name"]] = int(event["pid"])
        parent = self._process.pid
        return {room: pid for room, pid in found.items() if pid == parent or parent_of(pid) == parent}

    def kill(self, room: str) -> bool:
        """kill -9, as a crash or the kernel's out-of-memory killer would. False if it does not run."""
        with self._turn:
            pid = self.pids().get(room)
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
            return True

    def kill_all(self) -> None:
        """kill -9 of every process at once, as a power cut would."""
        with self._turn:
            self._kill_all()
            self.kills += 1

    def _kill_all(self) -> None:
        pids = self.pids()
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        until = time.monotonic() + 10
        while time.monotonic() < until and any(parent_of(p) is not None for p in pids.values()):
            time.sleep(0.05)

    def wait_until_up(self, limit_s: float = 120.0) -> None:
        """Every room runs and the listener listens. Raises PermanentError if that takes longer."""
        until = time.monotonic() + limit_s
        while not set(ROOMS) <= self.pids().keys():
            if time.monotonic() > until:
                raise PermanentError(f"a room did not come back in {limit_s:g} s: see {self._log}")
            time.sleep(0.1)
        assert self._process is not None
        wait_for_port(self.port, self._process, max(1.0, until - time.monotonic()))

    def usage(self) -> list[Usage]:
        """Of every room that runs."""
        found = []
        for room, pid in self.pids().items():
            with suppress(OSError, IndexError, ValueError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
                found.append(Usage(room, pid, pages * _PAGE, handles))
        return found

    def arm(self, name: str) -> None:
        """The next process that passes boundary ``name`` dies there."""
        (self.hooks / name).touch()

    def armed(self, name: str) -> bool:
        return (self.hooks / name).exists()

    def disarm(self, name: str) -> bool:
        """False if a process has died there."""
        try:
            (self.hooks / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def set_clock(self, off_by_s: float) -> None:
        """All of the node's processes see UTC plus ``off_by_s`` from now on."""
        aside = self.hooks / "clock.new"
        aside.write_text(repr(off_by_s))
        aside.rename(self.hooks / boundary.CLOCK)


def own_environment() -> dict[str, str]:
    """The environment without what configures a node: the real one's database is none of ours."""
    return {k: v for k, v in os.environ.items() if not k.upper().startswith("MRSI_NODE")}


@contextmanager
def only(environment: dict[str, str]) -> Iterator[None]:
    """``environment`` and nothing else, for as long as it lasts."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def parent_of(pid: int) -> int | None:
    """Of a process that runs; None for one that is gone, or a zombie."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else int(parent)


def _configuration(port: int, data: Path, pacs_port: int, pacs_title: str, low_water_mb: int) -> str:
    return f"""# Written by mrsi-node torture: a throw-away node in a hurry.
[node]
port = {port}
max_associations = 40
max_associations_per_address = 30
acse_timeout_s = 5.0
network_timeout_s = 20.0
dimse_timeout_s = 20.0
[storage]
folder = {json.dumps(str(data))}
low_water_mb = {low_water_mb}
[gather]
quiet_period_s = 5.0
poll_s = 0.3
recipe_wait_s = 10.0
longest_wait_s = 3600.0
[resolve]
method = "bicubic"
[worker]
name = "tortured"
[web]
enabled = false
[[destination]]
type = "dicom"
name = "PACS"
ae_title = "{pacs_title}"
host = "127.0.0.1"
port = {pacs_port}
proof = "query"
retry = {{ first_s = 1.0, longest_s = 5.0 }}
circuit = {{ failures = 3, probe_s = 2.0 }}
proving = {{ settle_s = 2.0, resend = 1000 }}
"""
