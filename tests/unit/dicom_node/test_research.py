"""The research desk's front door: the README's lines run as they stand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import typer

from dicom_node import cli, research
from dicom_node.errors import UnsuitableInput
from dicom_node.simulate import write_dicom, write_nifti
from tests import builders

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with the README's case/ in it, and no configuration."""
    home = tmp_path_factory.mktemp("home")
    write_nifti(builders.acquisition(), home / "case")
    return home


def test_the_python_lines_of_the_readme_run_as_they_stand(here, monkeypatch):
    monkeypatch.chdir(here)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    (block,) = [b for b in blocks if "dicom_node.research" in b]
    assert len([line for line in block.splitlines() if line and not line.startswith("#")]) == 3
    said: dict[str, object] = {}
    exec(block, said)
    assert (here / "maps" / "TCN.nii.gz").is_file()
    assert {"HGG", "TCN"} <= {str(r.ratio) for r in said["result"].ratios}


def test_the_same_study_as_dicom_and_as_a_folder_is_the_same_acquisition(here, tmp_path):
    write_dicom(builders.acquisition(), tmp_path / "dicom")
    a, b = research.read_case(here / "case"), research.read_case(os.fspath(tmp_path / "dicom"))
    np.testing.assert_allclose(a.grid.affine, b.grid.affine, atol=1e-3)
    for m in a.maps:
        np.testing.assert_allclose(m.values, b.map_of(m.metabolite).values, atol=1e-3)


def test_a_case_without_a_map_is_refused_naming_what_there_is(tmp_path):
    builders.write(builders.series(builders.usual(), "MPRAGE")[:3], tmp_path)
    with pytest.raises(UnsuitableInput, match="no metabolite map among 1 series"):
        research.super_resolve(tmp_path)


def test_every_command_of_the_readme_is_one_that_there_is():
    """Verbs and options as the command line knows them; what they do is tested where they are."""
    verbs = dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    verbs |= {f"user {name}": verb for name, verb in verbs.pop("user").commands.items()}
    lines = re.findall(r"mrsi-node +(user [a-z]+|[a-z-]+)((?: +[^\s`#)]+)*)", README.read_text())
    named = {verb for verb, _ in lines}
    assert {"process", "simulate", "cohort", "serve"} <= named
    for verb, rest in lines:
        if verb not in verbs:
            continue
        options = {o for p in verbs[verb].params for o in p.opts}
        assert {w.split("=")[0] for w in rest.split() if w.startswith("--")} <= options | {"--help"}, verb
    assert {v for v in named if v not in verbs} <= {"is"}
