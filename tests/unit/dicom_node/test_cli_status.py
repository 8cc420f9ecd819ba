"""What `mrsi-node status` prints: one line for each thing, whatever headers say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.store import Finding, Store
from dicom_node.study import State
from tests.doors import incoming, open_intake

HOSTILE = "\x1b]0;owned\x07\x9b2J[bold][/link]\nquarantined: nothing\r"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With a study whose series is described to do harm, one worker that is up and one taken over."""
    intake = open_intake(tmp_path)
    intake.accept(incoming(), source="SCANNER")
    (revision,) = intake.store.revisions_in(State.RECEIVING)
    intake.store.complete(revision.key, "quiet")
    intake.store.start(revision.key)
    intake.store.identified(revision.key, [Finding("1.2.3", HOSTILE, "other", "no map")])
    for name in "ab":
        intake.store.sign_on(name, f"incarnation of {name}")
    assert intake.store.strike_off("b", intake.store.beats()["b"], by="a")
    return intake.store


def status(folder: Path, *options: str) -> str:
    toml = folder / "node.toml"
    toml.write_text(f'[storage]\nfolder = "{folder}"\n')
    done = CliRunner().invoke(app, ["status", "--config", str(toml), *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_class_18_a_header_neither_steers_the_terminal_nor_forges_a_line(
    store: Store, tmp_path: Path
) -> None:
    told = status(tmp_path)
    assert "\ufffd]0;owned\ufffd\ufffd2J[bold][/link] quarantined: nothing: no map" in told
    assert not any(line.startswith("quarantined") for line in told.splitlines())
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in told.replace("\n", ""))


def test_workers_are_named_with_when_they_were_last_seen_and_who_took_over(
    store: Store, tmp_path: Path
) -> None:
    told = status(tmp_path)
    assert "worker a: last seen 20" in told
    line = next(line for line in told.splitlines() if line.startswith("worker b"))
    assert ", taken over by a at 20" in line
    workers = json.loads(status(tmp_path, "--json"))["workers"]
    assert [(w["name"], w["taken_over_by"]) for w in workers] == [("a", None), ("b", "a")]


def test_a_node_without_a_worker_says_so(tmp_path: Path) -> None:
    open_intake(tmp_path)
    assert "no worker is running" in status(tmp_path)
