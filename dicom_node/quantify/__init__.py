"""The site's own quantification (LCModel, FSL-MRS, …) of received spectra: a command run apart from the node.

It gets a folder with copies of the spectra and of the anatomy, and an empty one for its maps, in any layout
that the watch folder understands. No shell, few variables, a time limit; it ends when its worker ends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dicom_node import log
from dicom_node.config import QuantifyRules
from dicom_node.errors import BadConfiguration, UnsuitableInput
from dicom_node.spool import fsync_tree, sha256_of

_LOG = log.get("quantify")

_KEEPER = Path(__file__).with_name("keeper.py")
# What the command sees of the worker's environment: no configuration, no secrets.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "USER", "TZ")
_NOT_STARTED = 127


def quantify(
    rules: QuantifyRules, spectra: Sequence[Path], anatomy: Mapping[str, Sequence[Path]], home: Path
) -> Path:
    """Run the command on ``spectra``. Returns the folder with its maps, under ``home``.

    Idempotent: the same spectra and command are not quantified twice; what a killed worker left half-done is
    thrown away. ``anatomy``: files by "t1" and "flair".
    Raises UnsuitableInput if the command fails or takes too long, BadConfiguration if it cannot be started.
    """
    name = _digest(rules, spectra)
    maps = home / f"quantified-{name}"
    if maps.is_dir():
        return maps
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob("quantifying-*"):
        shutil.rmtree(left)
    work = home / f"quantifying-{name}"
    for kind, paths in {"spectra": spectra, **anatomy}.items():
        (work / "in" / kind).mkdir(parents=True)
        for number, path in enumerate(paths, start=1):
            shutil.copyfile(path, work / "in" / kind / f"{number:06d}.dcm")
    (work / "out").mkdir()
    (work / "tmp").mkdir()
    began = time.monotonic()
    said = home / f"quantify-{name}.log"
    _run(rules, work, said)
    if not any((work / "out").iterdir()):
        raise UnsuitableInput(f"the [quantify] command wrote nothing into its output folder; see {said.name}")
    fsync_tree(work / "out")
    (work / "out").rename(maps)
    shutil.rmtree(work, ignore_errors=True)
    _LOG.info("spectra.quantified", files=len(spectra), seconds=round(time.monotonic() - began, 1))
    return maps


def _run(rules: QuantifyRules, work: Path, said: Path) -> None:
    places = {"{input}": str(work / "in"), "{output}": str(work / "out")}
    command = [_filled(part, places) for part in rules.command]
    environment = {k: v for k in _ENVIRONMENT if (v := os.environ.get(k))} | {"TMPDIR": str(work / "tmp")}
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_KEEPER), *command],
            cwd=work,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(rules.limit_s)
        except subprocess.TimeoutExpired:
            raise UnsuitableInput(
                f"the [quantify] command did not end within {rules.limit_s:g} s ([quantify] limit_s)"
            ) from None
        finally:
            with suppress(ProcessLookupError):  # all that it started and left running
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
    if code == _NOT_STARTED:
        raise BadConfiguration(f"[quantify] command: {rules.command[0]} cannot be started; see {said}")
    if code:
        raise UnsuitableInput(
            f"the [quantify] command ended with exit code {code}; what it said is in {said}"
        )


def _filled(part: str, places: Mapping[str, str]) -> str:
    for placeholder, path in places.items():
        part = part.replace(placeholder, path)
    return part


def _digest(rules: QuantifyRules, spectra: Sequence[Path]) -> str:
    digest = hashlib.sha256("\0".join(rules.command).encode())
    for one in sorted(sha256_of(p) for p in spectra):
        digest.update(one.encode())
    return digest.hexdigest()[:16]
