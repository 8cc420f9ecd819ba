"""Our reactor under pynetdicom's own test-suite, which comes with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pynetdicom
import pytest

_SUITE = Path(pynetdicom.__path__[0]) / "tests"


@pytest.mark.slow
@pytest.mark.skipif(not _SUITE.is_dir(), reason="this pynetdicom comes without its tests")
@pytest.mark.parametrize(
    "module", ["test_service_verification.py", "test_service_storage.py", "test_dimse_provider.py"]
)
def test_what_pynetdicom_expects_of_an_association_holds(module: str) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "tests.wakeful", str(_SUITE / module)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
