"""One run: start everything, make trouble or load, leave the node alone, and reckon."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.service import open_spool, open_store
from dicom_node.store import Store

from . import reckoning
from .account import Account
from .node import ThrowAwayNode
from .pacs import AE_TITLE, Mood, Pacs
from .reckoning import Check, Limits
from .report import Deed, Report
from .scene import Scene, Trouble
from .sender import Modality
from .troubles import catalogue, plan
from .watch import Watch

_LOW_WATER_MB = 16
_PAUSE_S = 1.0
_CALM_S = 3.0  # the queue is empty this long before it is believed

_NOT_OVERCOME = "not overcome"

Tell = Callable[[str, float], None]  # in words, and the share that is done


@dataclass(frozen=True)
class Orders:
    """``load`` studies as fast as the node takes them, instead of ``minutes`` of trouble.

    ``settle_s``: how long the node is left alone at most. ``tamper``, called on the scene before the
    reckoning, is for tests: a torture that does not notice is worth nothing.
    """

    minutes: float = 10.0
    seed: int = 0
    load: int = 0
    limits: Limits = field(default_factory=Limits)
    settle_s: float = 900.0
    troubles: Sequence[Trouble] | None = None
    tamper: Callable[[Scene], None] | None = None


def run(orders: Orders, folder: Path, tell: Tell = lambda words, share: None) -> Report:
    """Torture a node in ``folder``, which must not exist. Raises PermanentError if it cannot be started."""
    folder.mkdir(parents=True)
    busy = os.getloadavg()[0]
    tell("starting a node and a PACS", 0.0)
    with _disk(folder, orders) as disk:
        data = (disk or folder) / "data"
        pacs = Pacs(folder / "pacs")
        node = ThrowAwayNode(folder / "node", data, pacs.port, AE_TITLE, _LOW_WATER_MB if disk else 0)
        store = open_store(node.settings)
        watch = Watch(node, store, orders.limits.echo_s)
        account = Account()
        modality = Modality(node.port, orders.seed, account, _PAUSE_S, lambda: watch.open_studies)
        scene = Scene(node, pacs, modality, account, watch, store, orders.seed, disk)
        try:
            pacs.start()
            node.start()
            node.wait_until_up()
            return _tortured(scene, orders, tell, busy)
        finally:
            watch.stop()
            node.stop()
            pacs.kill()
            store.close()


@contextmanager
def _disk(folder: Path, orders: Orders) -> Iterator[Path | None]:
    """A file system of its own for the node's data, where one may be mounted; a load needs none."""
    disk = folder / "disk"
    size_mb = 256 + int(192 * orders.minutes)  # it takes what is used: 80 MB a minute on two fast processors
    mounted = False
    if not orders.load and shutil.which("mount") is not None:
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(disk)]
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield disk if mounted else None
    finally:
        if mounted:
            with suppress(OSError):  # what a person needs to see what went wrong outlives the mount
                shutil.copytree(disk / "data", folder / "data", dirs_exist_ok=True)
            subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)


def _tortured(scene: Scene, orders: Orders, tell: Tell, busy: float) -> Report:
    started_at, began = time.time(), time.monotonic()
    scene.watch.start()
    deeds: list[Deed] = []
    skipped: dict[str, str] = {}
    if orders.load:
        _load(scene, orders, tell)
    else:
        scene.modality.start(at_once=2)
        deeds, skipped = _trouble(scene, orders, tell)
    complete = scene.modality.stop(orders.settle_s)
    _leave_alone(scene, orders, tell)
    scene.watch.stop()
    tell("reckoning", 1.0)
    scene.node.stop()
    if orders.tamper is not None:
        orders.tamper(scene)
    stuck = tuple(f"{d.name}, at {d.at:.0f} s: {d.done}" for d in deeds if d.done.startswith(_NOT_OVERCOME))
    overcome = Check("node and PACS came back after every trouble", len(deeds), stuck)
    checks = [overcome, *_reckon(scene, orders.limits, complete)]
    whole, done = scene.account.whole_since, scene.watch.done_at
    echoes = scene.watch.echoes
    return Report(
        seed=orders.seed,
        minutes=orders.minutes,
        started_at=started_at,
        seconds=round(time.monotonic() - began, 1),
        load=orders.load,
        deeds=tuple(deeds),
        skipped=skipped,
        answers=scene.account.answers,
        acknowledged=len(scene.account.acknowledged),
        studies=len(whole),
        kills=scene.node.kills,
        revisions_more=sum(len(c["revisions"]) > 1 for c in scene.store.status()["cases"]),
        echo={
            "asked": echoes.asked,
            "longest_s": round(echoes.longest_s, 3),
            "away_s": round(echoes.away_s, 1),
        },
        took_s=tuple(round(max(0.0, done[uid] - at), 1) for uid, at in whole.items() if uid in done),
        busy=round(busy, 1),
        checks=tuple(checks),
        samples=tuple(scene.watch.samples) if orders.load else (),
    )


def _trouble(scene: Scene, orders: Orders, tell: Tell) -> tuple[list[Deed], dict[str, str]]:
    deeds: list[Deed] = []
    kinds = list(catalogue() if orders.troubles is None else orders.troubles)
    skipped = {t.name: why for t in kinds if (why := t.impossible(scene))}
    began, length_s = time.monotonic(), orders.minutes * 60
    for planned in plan(orders.seed, kinds):
        if planned.trouble.name in skipped:
            if len(skipped) == len(kinds):
                break
            continue
        share = (time.monotonic() - began) / length_s
        if share >= 1:
            break
        tell(planned.trouble.name, share)
        time.sleep(planned.pause_s)
        at = round(time.monotonic() - began, 1)
        try:
            done = planned.trouble.cause(scene, random.Random(planned.seed))
        except (NodeError, OSError, subprocess.SubprocessError) as problem:
            done = f"{_NOT_OVERCOME}: {problem}"
        deeds.append(Deed(at, planned.trouble.name, done))
    return deeds, skipped


def _load(scene: Scene, orders: Orders, tell: Tell) -> None:
    scene.modality.start(at_once=2, at_most=orders.load)
    while (sent := len(scene.modality.sent)) < orders.load:
        tell(f"{sent} studies sent, {len(scene.watch.done_at)} done", 0.5 * sent / orders.load)
        time.sleep(1)
    scene.modality.finish()
    while scene.watch.open_studies:
        done = len(scene.watch.done_at)
        tell(f"{sent} studies sent, {done} done", 0.5 + 0.5 * done / orders.load)
        time.sleep(1)


def _leave_alone(scene: Scene, orders: Orders, tell: Tell) -> None:
    """All is well again; wait until nothing is under way, or the time is over."""
    scene.pacs.be(Mood.HONEST)
    began = time.monotonic()
    calm_since: float | None = None
    while time.monotonic() - began < orders.settle_s:
        busy = _under_way(scene.store)
        tell(f"leaving the node alone: {busy} under way", min(0.99, (time.monotonic() - began) / 60))
        if busy:
            calm_since = None
        elif calm_since is None:
            calm_since = time.monotonic()
        elif time.monotonic() - calm_since > _CALM_S:
            break
        time.sleep(0.5)
    with suppress(Exception):
        scene.watch.look()


def _under_way(store: Store) -> int:
    newest = [case["revisions"][0]["state"] for case in store.status()["cases"]]
    return sum(state not in ("DONE", "IGNORED", "FAILED") for state in newest)


def _reckon(scene: Scene, limits: Limits, complete: bool) -> list[Check]:
    spool, store, account = open_spool(scene.node.settings), scene.store, scene.account
    held, whole = scene.pacs.held(), account.whole_since
    unsent = () if complete else ("a study could not be sent to its end: the node did not take it",)
    hostile = sum(n for answer, n in account.answers.items() if answer.endswith("(hostile)"))
    return [
        Check("every study that was begun could be sent", scene.modality.begun, unsent),
        reckoning.acknowledged_are_kept(account.acknowledged, store, spool),
        reckoning.custody_is_whole(store, spool),
        reckoning.studies_are_done(whole, store, held),
        reckoning.nothing_is_there_twice(store, held),
        reckoning.queue_is_empty(store),
        reckoning.nothing_hostile_was_taken(account.wrongly_taken, hostile),
        reckoning.echoes_were_answered(scene.watch.echoes, limits),
        reckoning.studies_were_in_time(whole, scene.watch.done_at, limits),
        reckoning.nothing_grew(scene.watch.samples, limits),
    ]


def throw_away() -> Path:
    """A folder for one run that does not exist yet, in a private one for temporary files."""
    return Path(tempfile.mkdtemp(prefix="mrsi-torture-")) / "run"
