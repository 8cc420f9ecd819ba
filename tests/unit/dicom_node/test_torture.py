"""The torture's own books, plan and report: what it is told it keeps, what it plans it can repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node import boundary
from dicom_node.cli import app
from dicom_node.errors import PermanentError
from dicom_node.intake import Incoming, Intake
from dicom_node.spool import Spool
from dicom_node.store import Store, migrate
from dicom_node.torture import Orders
from dicom_node.torture.account import Account
from dicom_node.torture.hostile import attacks
from dicom_node.torture.node import own_environment
from dicom_node.torture.pacs import Held, read
from dicom_node.torture.reckoning import (
    Check,
    Limits,
    acknowledged_are_kept,
    custody_is_whole,
    echoes_were_answered,
    nothing_grew,
    nothing_is_there_twice,
    queue_is_empty,
    studies_are_done,
)
from dicom_node.torture.report import Deed, Report
from dicom_node.torture.studies import Instance, data_set_of, stray, study, with_other_pixels
from dicom_node.torture.troubles import catalogue, plan
from dicom_node.torture.watch import Echoes, Sample, Usage
from tests.doors import as_file, mr_slice


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Account, Store, Spool]:
    """Three instances that were acknowledged, in a node's store and spool."""
    store, spool = Store(f"sqlite:///{tmp_path / 'node.sqlite'}"), Spool(tmp_path / "spool")
    migrate(store)
    account, intake = Account(), Intake(spool, store)
    for number in (1, 2, 3):
        content = as_file(mr_slice(number))
        receipt = intake.accept(Incoming(content), source="SCANNER")
        sent = Instance("1.2.840.10008.5.1.4.1.1.4", receipt.sop_uid, receipt.study_uid, data_set_of(content))
        assert account.answered(sent, 0x0000)
    return account, store, spool


def test_what_was_acknowledged_and_is_kept_holds(kept: tuple[Account, Store, Spool]) -> None:
    account, store, spool = kept
    check = acknowledged_are_kept(account.acknowledged, store, spool)
    assert (check.looked_at, check.problems) == (3, ())
    assert custody_is_whole(store, spool).holds


def test_a_lost_row_a_lost_file_and_a_changed_byte_are_each_named(kept: tuple[Account, Store, Spool]) -> None:
    account, store, spool = kept
    first, second, third = ((uid, path) for uid, path, *_ in store.kept())
    with store.engine.begin() as tx:
        tx.exec_driver_sql("DELETE FROM instances WHERE sop_uid = ?", (first[0],))
    spool.path(second[1]).unlink()
    content = bytearray(spool.path(third[1]).read_bytes())
    content[-1] ^= 1
    spool.path(third[1]).chmod(0o600)
    spool.path(third[1]).write_bytes(content)
    problems = acknowledged_are_kept(account.acknowledged, store, spool).problems
    assert [any(uid in p for p in problems) for uid, _ in (first, second, third)] == [True] * 3
    assert "is lost" in next(p for p in problems if first[0] in p)
    assert len(custody_is_whole(store, spool).problems) >= 3


def test_only_success_acknowledges_and_hostile_success_is_remembered() -> None:
    account, one = Account(), study(0, 1).instances[0]
    assert not account.answered(one, 0xA700)
    account.cut()
    assert account.acknowledged == {}
    assert account.answered(one, 0x0000)
    account.answered(replace(one, data_set=b"other"), 0x0000)
    assert account.acknowledged[one.sop_uid].sha256 == one.sha256, "the first bytes count"
    account.refusable("noise", 0xC000)
    account.refusable("noise", 0x0000)
    assert account.wrongly_taken == ["noise"]
    assert account.answers == {"0000": 2, "0000 (hostile)": 1, "A700": 1, "C000 (hostile)": 1, "none": 1}


def test_a_study_that_is_unknown_or_under_way_does_not_hold(kept: tuple[Account, Store, Spool]) -> None:
    account, store, _ = kept
    (under_way,) = {a.study_uid for a in account.acknowledged.values()}
    check = studies_are_done([under_way, "1.2.3"], store, [])
    assert len(check.problems) == 2
    assert not queue_is_empty(store).holds


def test_an_object_that_was_never_made_is_named(kept: tuple[Account, Store, Spool]) -> None:
    _, store, _ = kept
    check = nothing_is_there_twice(store, [Held("2.25.1", "1.2", "1.2.3", "same")])
    assert check.problems == ("object 2.25.1 at the PACS was never made",)


def test_two_objects_that_show_the_same_are_named(kept: tuple[Account, Store, Spool]) -> None:
    _, store, _ = kept
    held = [Held(f"2.25.{n}", "1.2", "1.2.3", "same") for n in (1, 2)]
    assert any("are the same" in p for p in nothing_is_there_twice(store, held).problems)


def test_growth_is_seen_only_of_processes_that_lived() -> None:
    def sample(n: int, pid: int, rss_mb: int, files: int) -> Sample:
        return Sample(2.0 * n, 0, 0, 0.0, (Usage("listener", pid, rss_mb * 1024**2, files),))

    flat = [sample(n, 1, 100, 20) for n in range(30)]
    growing = [sample(n, 2, 100 + 10 * n, 20 + 4 * n) for n in range(30)]
    young = [sample(n, 3, 100 + 100 * n, 20) for n in range(10)]
    crowded = [sample(n, 4, 100, 84 if n in (25, 26) else 20) for n in range(30)]
    assert nothing_grew([*flat, *young, *crowded], Limits()) == Check(nothing_grew([], Limits()).name, 2, ())
    assert nothing_grew(growing, Limits(growth_mb=90)).problems == (
        "listener (pid 2) grew by 100 MB",
        "listener (pid 2) has 40 more files open",
    )


def test_a_late_or_missing_echo_does_not_hold() -> None:
    check = echoes_were_answered(Echoes(9, [1.4], ["at 3 s: ConnectionError"]), Limits())
    assert check.problems == ("no answer at 3 s: ConnectionError", "answered after 1.4 s")


def test_the_plan_follows_from_the_seed_and_every_kind_comes_in_every_round() -> None:
    kinds = catalogue()
    first, again, other = (list(islice(plan(seed, kinds), 2 * len(kinds))) for seed in (5, 5, 6))
    assert first == again != other
    for half in (first[: len(kinds)], first[len(kinds) :]):
        assert {p.trouble.name for p in half} == {t.name for t in kinds}


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[Orders]:
    """What the command line would have had run."""
    orders: list[Orders] = []

    def run(order: Orders, *_: object) -> Report:
        orders.append(order)
        raise PermanentError("that will do")

    monkeypatch.setattr("dicom_node.torture.run", run)
    return orders


def test_only_troubles_with_the_words_in_their_name_are_made(ordered: list[Orders]) -> None:
    done = CliRunner().invoke(app, ["torture", "--only", "kill -9 of"])
    assert isinstance(done.exception, PermanentError)
    assert ordered[0].limits == Limits()
    assert [t.name for t in ordered[0].troubles or ()] == [
        "kill -9 of the listener",
        "kill -9 of the housekeeping",
        "kill -9 of the worker",
        "kill -9 of the whole node",
    ]


def test_a_load_waits_in_its_own_queue_for_two_hours_at_most(ordered: list[Orders]) -> None:
    CliRunner().invoke(app, ["torture", "--load", "3", "--echo-s", "2"])
    assert (ordered[0].load, ordered[0].limits) == (3, Limits(echo_s=2.0, done_s=7200.0))


def test_words_that_no_trouble_has_in_its_name_are_refused_with_the_names() -> None:
    done = CliRunner().invoke(app, ["torture", "--only", "flood"])
    assert done.exit_code == 2
    assert "'flood'" in done.output and "clock jump" in done.output


def test_studies_follow_from_seed_and_number_and_say_how_many_they_are() -> None:
    assert study(1, 2) == study(1, 2)
    uids = [i.sop_uid for n in (1, 2) for i in study(1, n).instances]
    assert len(set(uids)) == len(uids)
    one = study(1, 1).instances[0]
    other = with_other_pixels(one)
    assert other.sop_uid == one.sop_uid
    assert len(other.data_set) == len(one.data_set)
    assert other.data_set != one.data_set


def test_each_attack_has_something_wrong() -> None:
    good = stray(0, 1)
    for attack in attacks(good):
        assert (attack.data_set, attack.sop_class, attack.sop_uid) != (
            good.data_set,
            good.sop_class,
            good.sop_uid,
        )


def test_a_journal_that_was_cut_short_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    line = json.dumps({"sop_uid": "1.2", "study_uid": "1", "series_uid": "1.1", "content": "c"})
    (tmp_path / "kept.jsonl").write_text(f'{line}\n{{"sop_u\n{line.replace("1.2", "1.3")}\n{line[:9]}')
    assert set(read(tmp_path)) == {"1.2", "1.3"}


def test_the_real_nodes_configuration_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRSI_NODE__STORAGE__DATABASE", "postgresql://hospital/node")
    monkeypatch.setenv("MRSI_NODE_CONFIG", "/etc/mrsi-node/node.toml")
    assert not [k for k in own_environment() if k.startswith("MRSI_NODE")]


def test_boundaries_do_nothing_unless_a_torture_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resolve.made").touch()
    boundary.passed("resolve.made")
    assert (tmp_path / "resolve.made").exists()


def report(*checks: Check) -> Report:
    return Report(
        seed=7,
        minutes=1.0,
        started_at=1_800_000_000.0,
        seconds=90.0,
        load=0,
        deeds=(Deed(1.0, "PACS down", "for 3 s"),),
        skipped={"disk full": "no small tmpfs can be mounted here (needs root)"},
        answers={"0000": 12},
        acknowledged=12,
        studies=2,
        kills=3,
        revisions_more=0,
        echo={"asked": 9, "longest_s": 0.1, "away_s": 4.0},
        took_s=(2.0, 5.0),
        busy=0.4,
        checks=checks,
        samples=(Sample(2.0, 1, 1, 3.0, (Usage("worker", 9, 200 * 1024**2, 17),)),),
    )


def test_the_report_says_what_was_done_what_was_skipped_and_the_verdict() -> None:
    text = report(Check("nothing is lost", 12, ())).as_markdown()
    assert "**Clean: all 1 checks hold**" in text
    for words in (
        "seed 7",
        "before it began: 0.4",
        "PACS down | 1 | for 3 s",
        "skipped: no small tmpfs",
        "median 3.5 s",
        "200, 17",
    ):
        assert words in text


def test_a_report_with_a_problem_is_not_clean_and_names_it() -> None:
    bad = report(Check("nothing is lost", 12, tuple(f"instance {n} is lost" for n in range(9))))
    assert not bad.clean
    text, table = bad.as_markdown(), json.loads(json.dumps(bad.as_json()))
    assert "NOT CLEAN: 1 of 1 checks do not hold" in text
    assert "instance 0 is lost" in text
    assert "and 4 more" in text
    assert len(table["checks"][0]["problems"]) == 9, "in full for machines"
    assert table["verdict"].startswith("NOT CLEAN")
    assert table["machine"]["version"]
