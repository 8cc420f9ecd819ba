"""A study that kills its worker: the engine itself, and as many deaths as it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node import boundary
from dicom_node.intake import Incoming, Intake
from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.study import Purpose, State
from tests import builders
from tests.doors import as_file, sqlite_in


@pytest.mark.slow
def test_a_study_that_kills_its_worker_again_and_again_is_given_up_and_the_archive_is_told(tmp_path):
    """Killed as by kill -9 when it begins: ten times it is taken up again, the eleventh death is the last."""
    store, spool = Store(sqlite_in(tmp_path)), Spool(tmp_path / "spool")
    (first, *_) = builders.series(builders.usual(), "LCM tNAA conc")
    Intake(spool, store).accept(Incoming(as_file(first)), source="test")
    (key,) = (r.key for r in store.revisions_in(State.RECEIVING))
    store.complete(key, "test")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mortal", str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), boundary.VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["11"], done.stdout + done.stderr
    revision = store.revision(key)
    assert revision.state is State.FAILED and revision.attempt == 1
    (case,) = store.status()["cases"]
    assert case["revisions"][0]["reason"].startswith("given up: its worker died 11 times at it")
    (delivery,) = case["revisions"][0]["deliveries"]
    assert (delivery["destination"], delivery["purpose"]) == ("PACS", Purpose.REASON)
    assert [f.kind for f in store.meant_for(store.delivery(delivery["delivery"]))] == ["NOTE"]
