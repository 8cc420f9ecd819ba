"""Many cases: done side by side, whole or not at all, gone on with after any interruption.

``<out>/cases/<case>/`` appears by one rename when a case is done, with its ``case.json``; what a killed run
left half-done lies in ``<out>/work/`` and is thrown away. A case is done again if its files, the settings or
the version have changed since.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.config import Settings
from dicom_node.errors import BadConfiguration, UnsuitableInput

from . import report, table
from .cases import CaseRef, find, fingerprint
from .solve import CASE, Task, begin, run

__all__ = ["CaseRef", "Cohort", "Told", "find", "run_cohort"]

_DIED = "its process died: out of memory, perhaps; try it alone with mrsi-node process"

Told = Callable[[CaseRef, str], None]


@dataclass(frozen=True)
class Cohort:
    """How it ended: how many cases were done now, how many before; why others failed, by their path."""

    done: int
    before: int
    failed: dict[str, str]
    files: tuple[Path, ...]


def run_cohort(
    root: Path,
    out: Path,
    settings: Settings,
    *,
    jobs: int = 1,
    layout: str = "results",
    begun: Callable[[int, int], None] = lambda _, __: None,
    told: Told = lambda _, __: None,
) -> Cohort:
    """Super-resolve every case under ``root``; table, report and results under ``out``.

    ``begun`` is told how many cases there are and how many were done before; ``told`` of each that ends,
    with the reason if it failed. Raises UnsuitableInput if there is no case, BadConfiguration if another
    cohort is at work in ``out``.
    """
    if not root.is_dir():
        raise UnsuitableInput(f"{root} is not a folder")
    cases = find(root, out)
    if not cases:
        raise UnsuitableInput(f"{root} holds no case that mrsi-node process would take (see the README)")
    (out / "cases").mkdir(parents=True, exist_ok=True)
    with _alone(out):
        shutil.rmtree(out / "work", ignore_errors=True)
        version = importlib.metadata.version("mrsi-sr-node")
        tasks = [Task(c, out, settings, layout, fingerprint(c, settings, layout, version)) for c in cases]
        todo = [t for t in tasks if not _is_done(t)]
        begun(len(tasks), len(tasks) - len(todo))
        failed: dict[str, str] = {}
        for task, why in _each(todo, jobs):
            if why:
                failed[_relative(task.case, root)] = why
            told(task.case, why)
        shutil.rmtree(out / "work", ignore_errors=True)
        files = _conclude(tasks, failed, out)
    return Cohort(len(todo) - len(failed), len(tasks) - len(todo), failed, files)


def _relative(case: CaseRef, root: Path) -> str:
    return case.path.relative_to(root).as_posix() if case.path != root else root.name


def _is_done(task: Task) -> bool:
    return (_said(task) or {}).get("fingerprint") == task.fingerprint


def _said(task: Task) -> dict[str, Any] | None:
    try:
        return dict(json.loads((task.out / "cases" / task.case.key / CASE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _each(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, str]]:
    """Each task with the reason if it failed, as they end.

    Those under way when a process died are tried once more, at the end and alone.
    """
    waiting = {t.case.key: t for t in tasks}
    suspects: dict[str, Task] = {}
    while waiting or suspects:
        alone = jobs == 1 or not waiting
        batch = [*waiting.values(), *(suspects.values() if alone else ())]
        for task, why in _side_by_side(batch, 1 if alone else jobs):
            key = task.case.key
            if why is None and key in waiting:
                suspects[key] = waiting.pop(key)
                continue
            waiting.pop(key, None)
            suspects.pop(key, None)
            yield task, _DIED if why is None else why


def _side_by_side(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, str | None]]:
    """One pool of processes until it is done or broken; None for those under way when it broke."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    queue = iter(tasks)
    with ProcessPoolExecutor(jobs, context, begin, (threads, os.getpid())) as pool:
        under_way: dict[Future[str], Task] = {}
        try:
            while True:
                for task in queue:
                    under_way[pool.submit(run, task)] = task
                    if len(under_way) >= jobs:
                        break
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way[future], future.result()
                    del under_way[future]
        except BrokenProcessPool:
            yield from ((task, None) for task in list(under_way.values()))


def _conclude(tasks: Sequence[Task], failed: dict[str, str], out: Path) -> tuple[Path, ...]:
    done = [said for t in tasks if _is_done(t) and (said := _said(t))]
    files = table.write([row for said in done for row in said["rows"]], out)
    listed = [{"case": name, "reason": why} for name, why in failed.items()]
    table.write_csv(out / "failed.csv", ("case", "reason"), listed)
    report.write(out / "cohort.html", done, failed, out / "cases")
    return (*files, out / "cohort.html")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadConfiguration(
                f"another cohort is at work in {out}: wait for it, or name another --out"
            ) from None
        yield
