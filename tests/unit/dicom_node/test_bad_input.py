"""The classes of bad input that have broken DICOM receivers: each is in the table, with tests that are there.

What holds of the whole source is tested here; the rest where it belongs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from dicom_node.config import IdentifyRules, SiteRule
from dicom_node.identify import identify
from tests.doors import mr_slice

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "deploy/docs/BAD_INPUT.md"

_RUNS_TEXT = {"eval", "exec", "compile", "__import__", "execfile"}
_SHELLS = {("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput")}
_UNSAFE = {"pickle", "cPickle", "marshal", "shelve", "dill", "jinja2", "yaml", "commands", "asteval"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("dicom_node", "sr_core"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in sources():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_every_class_has_tests_and_every_test_named_is_there() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 19))
    texts = {p: p.read_text() for p in (ROOT / "tests").rglob("test_*.py")}
    for row in rows:
        number = int(row.split("|")[1])
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert any(re.search(rf"^def {name}\(", text, re.M) for text in texts.values()), name
        assert any(re.match(rf"test_class(es)?(_\d+)*_{number}_", name) for name in named), row


def test_every_test_of_a_class_is_in_the_table() -> None:
    told = set(re.findall(r"`(test_\w+)`", TABLE.read_text()))
    for path in (ROOT / "tests").rglob("test_*.py"):
        there = set(re.findall(r"^def (test_class(?:es)?_\d\w*)\(", path.read_text(), re.M))
        assert there <= told, path


def test_class_3_nothing_is_ever_handed_to_a_shell() -> None:
    """Programs are started by a list of arguments; no text becomes a command line."""
    for path, call in calls():
        assert not any(k.arg == "shell" for k in call.keywords), (path, call.lineno)
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            name = (call.func.value.id, call.func.attr)
            assert name not in _SHELLS, (path, call.lineno)
            if name == ("subprocess", "run") or name == ("subprocess", "Popen"):
                assert isinstance(call.args[0], (ast.List, ast.Name)), (path, call.lineno)


def test_class_4_no_text_is_ever_run_as_a_program() -> None:
    for path, call in calls():
        if isinstance(call.func, ast.Name):
            assert call.func.id not in _RUNS_TEXT, (path, call.lineno)


def test_class_4_a_site_s_rules_match_patterns_and_know_no_templates() -> None:
    """What looks like a template or a program, in a header or in a rule, is a name like any other."""
    rule = SiteRule(
        match={"Manufacturer": "ACME"}, maps=r"^(?P<metabolite>.*) map$", alias={"{{7*7}}": "tNAA"}
    )
    described = ("{{7*7}} map", "{{config}} map", "__import__('os').system('x') map", "${jndi:ldap://x} map")
    headers: list[Dataset] = []
    for number, words in enumerate(described):
        uids = {"SeriesInstanceUID": f"1.2.{number}", "SOPInstanceUID": f"1.2.{number}.1"}
        headers.append(mr_slice(Manufacturer="ACME", SeriesDescription=words, **uids))
    found = identify(headers, IdentifyRules(sites=(rule,)))
    assert {s.description for s in found} == set(described)
    assert {str(part.metabolite) for s in found for part in s.parts if part.metabolite} <= {"tNAA"}


def test_class_14_nothing_is_unpacked_that_could_bring_a_program_along() -> None:
    """No pickle in any form: weights are safetensors, a training's checkpoint is read as numbers only.

    Templates are the page's own files, read by one module and never made of a text.
    """
    for path, tree in sources():
        known = {"jinja2"} if path.match("dicom_node/web/render.py") else set()
        for node in ast.walk(tree):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {n.split(".")[0] for n in names} & _UNSAFE - known, (path, names)
    for path, call in calls():
        assert not ast.unparse(call.func).endswith(".from_string"), path
        if ast.unparse(call.func) == "torch.load":
            assert "weights_only=True" in ast.unparse(call), path
        assert not any(
            k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
            for k in call.keywords
        ), path
