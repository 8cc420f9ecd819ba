"""Two workers at one study: one was taken for dead while it was only cut off."""

from __future__ import annotations

import pytest

from dicom_node import boundary
from dicom_node.config import OutputRules, ResolveRules, WorkerRules
from dicom_node.errors import UnsuitableInput
from dicom_node.spool import sha256_of
from dicom_node.study import DeliveryState, State
from dicom_node.workflows import Worker
from tests import builders
from tests.pacs import Pacs
from tests.results import queued

QUICK = ResolveRules(method="bicubic", factor=(2, 2, 2))
FEW = OutputRules(mr_maps=(), fused_maps=(), summary=False)


@pytest.mark.parametrize("meets", [None, UnsuitableInput("a slice is gone"), RuntimeError("a bug")])
def test_a_worker_that_ends_second_leaves_the_study_as_the_first_made_it(tmp_path, monkeypatch, meets):
    """Whatever the second meets: it fails nothing, tells the archive nothing, touches no byte."""
    with Pacs() as pacs:
        wanting = pacs.destination(explain_no_result=True)
        office, key = queued(tmp_path, builders.usual(), wanting, output=FEW, resolve=QUICK)
        first, second = (
            Worker(
                office.settings.model_copy(update={"worker": WorkerRules(name=name)}),
                office.store,
                office.spool,
            )
            for name in ("a", "b")
        )

        def then_the_first_ends(name: str) -> None:
            if name == "resolve.identified":
                monkeypatch.undo()
                first.resolve(key)
                if meets is not None:
                    raise meets

        monkeypatch.setattr(boundary, "passed", then_the_first_ends)
        second.resolve(key)
        assert office.store.revision(key).state is State.DELIVERING
        files = office.store.meant_for(office.delivery())
        hashed = [f for f in files if f.kind != "REPORT"]
        assert [sha256_of(office.spool.path(f.path)) for f in hashed] == [f.sha256 for f in hashed]
        assert office.work_on().state is DeliveryState.DELIVERED
        assert office.store.revision(key).state is State.DONE
        assert pacs.kept == {f.sop_uid for f in files if f.sop_uid}
