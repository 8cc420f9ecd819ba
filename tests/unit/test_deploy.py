"""What is shipped to install and run the node: checked by the linters of its formats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node import config

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = DEPLOY.parent
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def checked(program: str, *arguments: object) -> None:
    path = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert path is not None, program
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_containerfile_is_well_made() -> None:
    checked("hadolint", DEPLOY / "Containerfile")


def test_compose_follows_its_specification() -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_configuration_for_compose_is_one() -> None:
    settings = config.load(DEPLOY / "compose" / "node.toml")
    assert [d.name for d in settings.destination] == ["PACS"]


def test_kubernetes_knows_every_field_of_the_manifests() -> None:
    checked("kubernetes-validate", "--strict", DEPLOY / "kubernetes" / "node.yaml")


def test_shell_scripts_are_sound() -> None:
    folders = (DEPLOY, DEPLOY / "compose", ROOT / "tests")
    scripts = [*(s for f in folders for s in f.glob("*.sh")), ROOT / ".ci" / "run"]
    checked("shellcheck", "--severity=warning", "--external-sources", "--source-path=SCRIPTDIR", *scripts)


@pytest.mark.parametrize("unit", UNITS, ids=[u.stem for u in UNITS])
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    # The program is installed elsewhere; everything else is as shipped.
    text = unit.read_text().replace("/opt/mrsi-node/bin/mrsi-node", "/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if unit.name in line]
