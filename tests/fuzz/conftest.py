"""How long to fuzz, and from which seed: pytest tests/fuzz --fuzz 100000 --fuzz-seed 7."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=300, help="inputs per target (default 300)")
    parser.addoption("--fuzz-seed", type=int, default=0, help="the first input's seed; the next is one more")


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """One seed per input. Options are known only if this folder was named on the command line."""
    first = request.config.getoption("--fuzz-seed", 0)
    return range(first, first + request.config.getoption("--fuzz", 300))
