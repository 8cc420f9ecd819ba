"""What deploy/docs/SECURITY.md claims is shown by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def test_every_claim_of_the_security_page_names_a_test_that_is_there() -> None:
    text = (_ROOT / "deploy/docs/SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| -")]
    claims = [row for row in rows if not row.startswith("| threat |")]
    assert len(claims) > 25
    assert [row for row in claims if "`test_" not in row] == []
    there = "\n".join(p.read_text() for p in (_ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert {name for name in named if f"def {name}(" not in there} == set()
