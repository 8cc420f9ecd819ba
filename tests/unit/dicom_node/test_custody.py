"""Custody: every instance, result, delivery and removal is on record, and no change goes unnoticed."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from dicom_node.clean import clean_once
from dicom_node.config import RetentionRules
from dicom_node.custody import receipt, verify
from dicom_node.errors import UnsuitableInput
from dicom_node.intake import Incoming
from dicom_node.store import GENESIS, Made
from dicom_node.study import State
from tests.doors import ROOT, STUDY, as_file, mr_slice


def arrive(intake, *numbers, **attributes):
    for n in numbers:
        intake.accept(Incoming(as_file(mr_slice(n, **attributes))), source="SCANNER")


def tamper(intake, statement):
    with intake.store.engine.begin() as tx:
        tx.execute(text(statement))


def delivered(intake):
    """The whole path of a study with one result, delivered to one destination."""
    store = intake.store
    (revision,) = store.revisions_in(State.RECEIVING)
    store.complete(revision.key, "test")
    store.start(revision.key)
    made = [Made("out/pm.dcm", "PM", "tNAA", f"{ROOT}.5", "1.2.840.10008.5.1.4.1.1.30", "ab" * 32)]
    store.encoded(revision.key, made, "out/report.json", "digest", ["PACS"])
    (due,) = store.deliveries_due()
    started = store.sending(due, 60.0)
    store.take(started, "out/pm.dcm", "0000")
    store.prove(due.delivery_id, [f"{ROOT}.5"], "commitment")
    assert store.delivered(started)


def test_a_receipt_says_what_came_what_was_made_and_where_it_is_proven_to_be(intake):
    arrive(intake, 1, 2)
    arrive(intake, 2)  # a duplicate adds nothing
    delivered(intake)
    found = receipt(intake.store, STUDY)
    assert [r["subject"] for r in found["received"]] == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    content = intake.spool.path(next(p for uid, p, _, _ in intake.store.kept() if uid == f"{STUDY}.1.1"))
    assert found["received"][0]["sha256"] == hashlib.sha256(content.read_bytes()).hexdigest()
    assert found["received"][0]["size"] == content.stat().st_size
    assert [m["subject"] for m in found["made"]] == [f"{ROOT}.5"]
    (sent,) = found["delivered"]
    assert (sent["subject"], sent["destination"], sent["status"], sent["proof"]) == (
        f"{ROOT}.5", "PACS", "0000", "commitment",
    )  # fmt: skip
    assert "Nobody" not in str(found) and "P1" not in str(found)


def test_an_unknown_study_has_no_receipt(intake):
    with pytest.raises(UnsuitableInput, match="no study"):
        receipt(intake.store, "1.2.3")


def test_an_untouched_node_verifies(intake):
    assert verify(intake.store, intake.spool).head == GENESIS
    arrive(intake, 1, 2)
    arrive(intake, 2, StudyDescription="Brain, corrected")
    delivered(intake)
    found = verify(intake.store, intake.spool)
    assert (found.problems, found.files, found.entries) == ((), 2, 5)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE ledger SET detail = '{}' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE ledger SET at = at + 1 WHERE number = 1", "entry 1 was changed"),
        ("DELETE FROM ledger WHERE number = 2", "entry 2 is missing"),
        ("UPDATE ledger SET previous = digest WHERE number = 3", "entry 3 does not follow"),
        ("DELETE FROM instances WHERE sop_uid LIKE '%.2'", "1.2 is in the ledger and no longer kept"),
        ("UPDATE instances SET sha256 = 'ff' WHERE sop_uid LIKE '%.2'", "1.2 is not the one in the ledger"),
        ("DELETE FROM ledger WHERE number = 3", "1.3 is not the one in the ledger"),
    ],
)
def test_a_change_behind_the_node_s_back_is_found(intake, statement, words):
    arrive(intake, 1, 2, 3)
    tamper(intake, statement)
    assert any(words in p for p in verify(intake.store, intake.spool).problems)


def test_a_file_with_other_bytes_or_none_is_found(intake):
    arrive(intake, 1, 2)
    first, second = (intake.spool.path(p) for _, p, _, _ in intake.store.kept())
    first.chmod(0o600)
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.unlink()
    problems = verify(intake.store, intake.spool).problems
    assert len(problems) == 2
    assert "has other bytes" in problems[0] and "cannot be read" in problems[1]


def test_a_ledger_cut_at_its_end_is_found_by_a_head_that_was_filed(intake):
    arrive(intake, 1, 2)
    head = verify(intake.store, intake.spool).head
    assert verify(intake.store, intake.spool, head).problems == ()
    tamper(intake, "DELETE FROM ledger WHERE number = 2")
    tamper(intake, "DELETE FROM instances WHERE sop_uid LIKE '%.2'")
    assert verify(intake.store, intake.spool).problems == ()
    assert "does not contain" in verify(intake.store, intake.spool, head).problems[0]


def test_what_retention_removes_is_on_record_and_no_loss(intake, clock):
    arrive(intake, 1, 2)
    delivered(intake)
    clock.now += 31 * 86400
    clean_once(intake.store, intake.spool, RetentionRules(keep_days=30))
    assert len(receipt(intake.store, STUDY)["removed"]) == 2
    found = verify(intake.store, intake.spool)
    assert (found.problems, found.files) == ((), 0)


def test_what_came_before_the_ledger_began_is_counted_and_no_problem(intake, clock):
    arrive(intake, 1)
    tamper(intake, "DELETE FROM ledger")  # as after an upgrade
    clock.now += 10
    arrive(intake, 2)
    found = verify(intake.store, intake.spool)
    assert (found.problems, found.before, found.files) == ((), 1, 2)


def test_writers_side_by_side_make_one_chain(intake):
    files = [as_file(mr_slice(n)) for n in range(1, 25)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda f: intake.accept(Incoming(f), source="SCANNER"), files))
    found = verify(intake.store, intake.spool)
    assert (found.problems, found.entries) == ((), 24)
