"""Events with keys; the patient stays out."""

from __future__ import annotations

import json

import pytest

from dicom_node import log


def test_an_event_is_one_json_line_with_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO")
    log.get("listener").info("association.accepted", caller="PACS", address="10.0.0.1")
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event["event"] == "association.accepted"
    assert (event["room"], event["caller"], event["level"]) == ("listener", "PACS", "info")
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize("key", ["patient_name", "patient_id", "patient", "birth_date", "accession_number"])
@pytest.mark.parametrize("json_lines", [True, False])
def test_a_patient_passed_by_mistake_is_withheld(
    capsys: pytest.CaptureFixture[str], key: str, json_lines: bool
) -> None:
    log.configure("INFO", json_lines)
    log.get("intake").info("instance.accepted", **{key: "Doe^Jane"})
    shown = capsys.readouterr().err
    assert "Doe" not in shown
    assert "[withheld]" in shown


def test_a_level_hides_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("WARNING")
    log.get("x").info("small.thing")
    log.get("x").warning("big.thing")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["big.thing"]


@pytest.mark.parametrize("json_lines", [True, False])
def test_class_18_a_line_break_from_outside_cannot_forge_a_line(
    capsys: pytest.CaptureFixture[str], json_lines: bool
) -> None:
    log.configure("INFO", json_lines)
    log.get("listener").info("association.rejected", caller='X"\n{"event": "forged"}')
    assert len(capsys.readouterr().err.splitlines()) == 1
