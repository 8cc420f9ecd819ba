"""The command line: what it says of itself, and the page of documentation that is made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dicom_node import log
from dicom_node.cli import app
from tests.doors import STUDY, incoming, open_intake

DOCUMENT = Path(__file__).parents[3] / "deploy" / "docs" / "CLI.md"
COMMAND = [sys.executable, "-m", "typer", "dicom_node.cli", "utils", "docs", "--name", "mrsi-node"]


def verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


VERBS = dict(verbs(get_command(app)))


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_shows_an_example_of_itself(name: str) -> None:
    words = VERBS[name].help or ""
    assert f"Example: mrsi-node {name}" in words


def test_every_verb_that_answers_and_ends_answers_programs_too() -> None:
    for_people = {"serve", "work", "demo", "conformance"}  # the last one prints a document
    without = {
        name for name, verb in VERBS.items() if not any("--json" in option.opts for option in verb.params)
    }
    assert without == for_people


def test_the_document_is_made_from_the_commands() -> None:
    """Made by: python -m typer dicom_node.cli utils docs --name mrsi-node > deploy/docs/CLI.md."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=True)
    assert DOCUMENT.read_text() == done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node.cli", "--show-completion", shell],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "complete" in done.stdout.lower() or "compdef" in done.stdout


def test_what_a_person_does_is_told_as_json_to_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_intake(tmp_path).accept(incoming(), source="SCANNER")
    monkeypatch.setattr(log, "configure", lambda *_: None)  # it would outlive this test
    capsys.readouterr()  # what the intake logged
    monkeypatch.setenv("MRSI_NODE__STORAGE__FOLDER", str(tmp_path))
    for verb in ("hold", "release", "ignore"):
        app([verb, STUDY, "--reason", "checked", "--json"], standalone_mode=False)
        said = json.loads(capsys.readouterr().out)
        assert said["revision"] == 1
        assert said["done"].startswith(f"case {said['case']}/1 is ")
