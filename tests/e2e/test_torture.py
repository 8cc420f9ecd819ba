"""The torture itself, for a minute: a clean report of a sound node, and none of one that lost something."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.torture import Orders, run
from dicom_node.torture.pacs import Mood
from dicom_node.torture.reckoning import Limits
from dicom_node.torture.scene import Scene
from dicom_node.torture.troubles.hostile import HostileDataSets
from dicom_node.torture.troubles.instances import Conflicts, Duplicates
from dicom_node.torture.troubles.peer import PacsMood

# A machine that runs other tests beside this one answers late now and then.
BUSY = Limits(echo_s=5.0)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_minute_of_torture_ends_clean(tmp_path: Path) -> None:
    report = run(Orders(minutes=1.0, seed=1, limits=BUSY, settle_s=400), tmp_path / "run")
    assert report.clean, report.as_markdown()
    assert report.studies > 3
    assert report.kills >= 1
    assert len(report.deeds) >= 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_loss_behind_the_nodes_back_is_reported(tmp_path: Path) -> None:
    """One row and its file go after the last study was done: the torture must not pass blindly."""
    lost: list[str] = []

    def tamper(scene: Scene) -> None:
        uid, path, *_ = next(scene.store.kept())
        with scene.store.engine.begin() as tx:
            tx.exec_driver_sql("DELETE FROM instances WHERE sop_uid = ?", (uid,))
        (scene.node.data / "spool" / path).unlink()
        lost.append(uid)

    report = run(Orders(load=2, limits=BUSY, settle_s=200, tamper=tamper), tmp_path / "run")
    assert not report.clean
    failed = {c.name: c.problems for c in report.checks if not c.holds}
    assert failed["every acknowledged instance is kept as it was sent"] == (
        f"instance {lost[0]} was acknowledged and is lost",
    )
    assert "the custody ledger agrees with rows and files" in failed
    assert f"instance {lost[0]} was acknowledged and is lost" in report.as_markdown()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_hostile_input_and_a_lying_pacs_change_nothing(tmp_path: Path) -> None:
    kinds = (HostileDataSets(), Duplicates(), Conflicts(), PacsMood(Mood.LYING))
    report = run(Orders(minutes=0.3, troubles=kinds, limits=BUSY, settle_s=200), tmp_path / "run")
    assert report.clean, report.as_markdown()
    assert any(answer.endswith("(hostile)") for answer in report.answers)
