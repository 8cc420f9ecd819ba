"""`mrsi-node user`: who may sign in to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.errors import UnsuitableInput
from dicom_node.store import Store
from dicom_node.web import passwords, visits
from tests.doors import sqlite_in

PASSWORD = "correct horse battery"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(sqlite_in(tmp_path))


def user(folder: Path, *arguments: str, told: str = "") -> str:
    toml = folder / "node.toml"
    toml.write_text(f'[storage]\nfolder = "{folder}"\n')
    done = CliRunner().invoke(app, ["user", *arguments, "--config", str(toml)], input=told)
    if isinstance(done.exception, UnsuitableInput):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_person_is_added_changed_and_removed_and_no_password_is_shown(store: Store, tmp_path: Path) -> None:
    told = user(tmp_path, "add", "Dr Roe", "--role", "operator", "--stdin", told=PASSWORD + "\n")
    assert "Dr Roe may sign in as operator" in told and PASSWORD not in told
    assert passwords.is_right(PASSWORD, store.password_of("Dr Roe"))
    user(tmp_path, "role", "Dr Roe", "admin")
    (person,) = json.loads(user(tmp_path, "list", "--json"))
    assert (person["name"], person["role"]) == ("Dr Roe", "admin")
    user(tmp_path, "password", "Dr Roe", "--stdin", told="another good password\n")
    assert not passwords.is_right(PASSWORD, store.password_of("Dr Roe"))
    key = user(tmp_path, "key", "Dr Roe").strip()
    assert store.person_of_key(visits.digest("key", key)) is not None
    user(tmp_path, "key", "Dr Roe", "--forget")
    assert store.person_of_key(visits.digest("key", key)) is None
    user(tmp_path, "remove", "Dr Roe")
    assert "nobody yet" in user(tmp_path, "list")


def test_a_program_is_told_what_was_done_as_json(store: Store, tmp_path: Path) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(user(tmp_path, *arguments, "--json", told=PASSWORD + "\n"))
        return found

    assert told("add", "Roe", "--stdin")["role"] == "viewer"
    assert told("role", "Roe", "admin")["role"] == "admin"
    assert told("password", "Roe", "--stdin")["name"] == "Roe"
    assert store.person_of_key(visits.digest("key", told("key", "Roe")["key"])) is not None
    assert told("key", "Roe", "--forget")["ended"] == 1
    assert told("remove", "Roe")["done"] == "Roe may sign in no more"


@pytest.mark.parametrize(
    ("arguments", "told", "said"),
    [
        (["add", "Roe", "--stdin"], "short\n", "12 to 200"),
        (["add", "Roe", "--role", "king", "--stdin"], PASSWORD, "no role king"),
        (["add", "two\nlines", "--stdin"], PASSWORD, "printable"),
        (["add", "Known", "--stdin"], PASSWORD, "known already"),
        (["password", "Nobody", "--stdin"], PASSWORD, "nobody here is called Nobody"),
        (["remove", "Nobody"], "", "nobody here"),
        (["key", "Nobody"], "", "nobody here"),
        (["role", "Known", "king"], "", "no role king"),
    ],
)
def test_what_cannot_be_done_is_said(
    store: Store, tmp_path: Path, arguments: list[str], told: str, said: str
) -> None:
    store.add_person("Known", "viewer", "hash")
    with pytest.raises(UnsuitableInput, match=said):
        user(tmp_path, *arguments, told=told)
