"""What runs beside the studies runs for as long as the node does, whatever one of its turns meets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from dicom_node import clean, feeds, gather, log, service
from dicom_node.clean import clean_once
from dicom_node.config import GatherRules, IdentifyRules, RetentionRules, Settings, StorageRules
from dicom_node.errors import OutOfSpace
from dicom_node.intake import Intake

OFTEN_S = 0.001


class Turns:
    """Turns of which the first ones fail; the one after them ends the loop."""

    def __init__(self, *problems: Exception) -> None:
        self.stop = threading.Event()
        self._problems = list(problems)

    def take(self, *_: object) -> int:
        if self._problems:
            raise self._problems.pop(0)
        self.stop.set()
        return 0


def gathering(intake: Intake, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather.Gatherer, "once", turns.take)
    gather.run(intake.store, GatherRules(poll_s=OFTEN_S), IdentifyRules(), turns.stop)


def cleaning(intake: Intake, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "clean_once", turns.take)
    clean.run(intake.store, intake.spool, RetentionRules(sweep_s=OFTEN_S), turns.stop)


def telling(_: Intake, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.every(OFTEN_S, turns.take, log.get("test"), turns.stop)


@pytest.mark.parametrize("loop", [gathering, cleaning, telling])
def test_neither_a_full_disk_nor_the_database_nor_a_bug_ends_what_keeps_house(
    loop: Callable[[Intake, Turns, pytest.MonkeyPatch], None],
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = OperationalError("SELECT", {}, Exception("disk I/O error"))
    turns = Turns(OutOfSpace("the disk under the database is full"), broken, RuntimeError("a bug"))
    loop(intake, turns, monkeypatch)
    assert turns.stop.is_set()


def test_a_file_that_is_kept_while_what_is_left_over_is_swept_stops_no_sweep(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener gives it its name between the sweep's two looks at it."""
    kept = intake.spool.root / "tmp" / "kept-meanwhile"
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([kept]))
    assert clean_once(intake.store, intake.spool, RetentionRules()) == 0


def test_a_house_that_nobody_gathers_in_is_left_so_that_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor starts again what has ended: threads that go on would hold the process up."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(gather, "run", broken)
    stop = threading.Event()
    before = set(threading.enumerate())
    try:
        with pytest.raises(RuntimeError):
            service.keep_house(Settings(storage=StorageRules(folder=tmp_path)), stop)
        assert [t.name for t in threading.enumerate() if t not in before] == []
    finally:
        stop.set()
