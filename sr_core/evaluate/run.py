"""Cases resolved by methods, then scored: predictions are kept, and what was done is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import sr_core
from sr_core.model import load_model
from sr_core.ready import Ready, make_ready
from sr_core.settings import LEARNED, Settings

from . import agreement, detail, metrics, predictions, score, tumour
from . import fsim as fsim_module
from .cases import Case, Simulated, cases, matching, simulated
from .peers import PEERS, Resolve, load_peer
from .predictions import Identity, Prediction
from .protocol import Condition, Protocol, Variant
from .score import Reference, Score, scorable, scored

_SCORING = (agreement, detail, metrics, fsim_module, score, tumour)


@dataclass(frozen=True, eq=False)
class Solver:
    """A method ready to run; ``weights`` is the sha256 of its network, "" without one."""

    resolve: Resolve
    method: str
    settings: Settings
    weights: str


@dataclass(frozen=True)
class Bench:
    """One evaluation: its ``protocol``, its folder ``out``, the folder of networks, the ``commit`` it is of.

    ``fresh``: predictions that are there are made again.
    """

    protocol: Protocol
    out: Path
    weights: Path
    commit: str
    fresh: bool = False

    def load(self, variant: Variant, condition: Condition) -> Solver:
        """Raises ``sr_core.model.BadWeights`` if its network is missing or not what its card describes."""
        settings = variant.settings_for(condition)
        if variant.method in PEERS:
            return Solver(load_peer(variant.method, settings), variant.method, settings, "")
        folder, base = self.network_of(variant)
        digest = load_model(folder, base).sha256 if base else ""
        resolve = sr_core.load(folder, variant.method, settings)
        return Solver(resolve, variant.method, settings, digest)

    def network_of(self, variant: Variant) -> tuple[Path, str]:
        """The folder and name of the variant's network; the name is "" if it has none."""
        folder = Path(variant.weights) if variant.weights else self.weights
        base = variant.method.partition("+")[0]
        return folder, base if base in LEARNED else ""

    def networks(self) -> dict[tuple[Path, str], str]:
        """sha256 by folder and name of every network that is used. Raises as ``load``."""
        used = {self.network_of(v) for v in self.protocol.methods}
        return {(f, n): load_model(f, n).sha256 for f, n in sorted(used) if n}

    def path(self, folder: str, case: Case, variant: Variant, suffix: str) -> Path:
        """Where something about ``variant`` on ``case`` is kept."""
        return (
            self.out
            / folder
            / case.subject.name
            / _slug(str(case.condition))
            / (_slug(variant.name) + suffix)
        )


def run(bench: Bench, jobs: int = 1) -> Iterator[list[Score]]:
    """The scores of each case, in the order of ``cases``; ``jobs`` > 1 are processes of one thread each."""
    found = cases(bench.protocol)
    if jobs == 1:
        worker = Worker(bench)
        yield from (worker(case) for case in found)
        return
    with _one_thread_each(), ProcessPoolExecutor(jobs, get_context("spawn"), _start, (bench,)) as pool:
        yield from pool.map(_work, found)


class Worker:
    """Resolves and scores cases one after another, in one process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.solvers: dict[tuple[str, bool], Solver] = {}
        self.code = _code_digest(bench.protocol)
        self.ready: tuple[str, Settings, Ready] | None = None
        self.weights_s: dict[Ready, float] = {}

    def __call__(self, case: Case) -> list[Score]:
        """Scores of every method on ``case``."""
        made = simulated(case, self.bench.protocol)
        truth = made.truth_digest
        references: list[Reference] = []
        found: list[Score] = []
        for variant in self.bench.protocol.methods:
            prediction = self.predicted(made, variant)
            key = {"code": self.code, "truth": truth, "prediction": asdict(prediction.identity)}
            path = self.bench.path("scores", case, variant, ".json")
            scores = _read_scores(path, key)
            if scores is None:
                references = references or self._references(made)
                scores = [
                    scored(r, case, variant.name, prediction)
                    for r in references
                    if r.metabolite in prediction.maps
                ]
                _write_scores(path, key, scores)
            found += scores
        return found

    def predicted(self, made: Simulated, variant: Variant) -> Prediction:
        """What ``variant`` makes of a case: the prediction that is kept, or a new one where that is stale."""
        case = made.case
        solver = self._solver(variant, case.condition)
        identity = Identity(
            solver.method, solver.settings.digest(), solver.weights, case.seed, made.input_digest
        )
        path = self.bench.path("predictions", case, variant, ".npz")
        kept = None if self.bench.fresh else predictions.read(path, identity)
        if kept is None:
            ready = self._made_ready(made, solver.settings)
            shared_s = sum(ready.timings_s.values())
            if "fnlm" in solver.method:
                shared_s += self._weights_took(ready)
            begun = time.perf_counter()
            result = solver.resolve(made.study.acquisition, ready)
            seconds = time.perf_counter() - begun + shared_s
            predictions.write(predictions.of_result(result, identity, self.bench.commit, seconds), path)
            kept = predictions.read(path, identity)
            assert kept is not None  # it was just written
        return kept

    def _solver(self, variant: Variant, condition: Condition) -> Solver:
        key = (variant.name, condition.noisy)
        if key not in self.solvers:
            self.solvers[key] = self.bench.load(variant, condition)
        return self.solvers[key]

    def _made_ready(self, made: Simulated, settings: Settings) -> Ready:
        """What all methods of a case share, made once."""
        if self.ready is None or self.ready[:2] != (made.input_digest, settings):
            self.ready = made.input_digest, settings, make_ready(made.study.acquisition, settings)
        return self.ready[2]

    def _weights_took(self, ready: Ready) -> float:
        """Seconds that the weights took which all methods with FNLM share; makes them."""
        if ready not in self.weights_s:
            begun = time.perf_counter()
            _ = ready.guide_weights
            self.weights_s = {ready: time.perf_counter() - begun}
        return self.weights_s[ready]

    def _references(self, made: Simulated) -> list[Reference]:
        lesions = made.study.lesions
        only_shown = "flair" in lesions and "metabolic" not in lesions
        match = matching(made.case, self.bench.protocol) if only_shown else None
        figures = self.bench.protocol.figures
        return [Reference(made, m, figures, match) for m in scorable(made.study)]


_worker: Worker | None = None  # of a process of the pool


def _start(bench: Bench) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = Worker(bench)


def _work(case: Case) -> list[Score]:
    assert _worker is not None  # _start ran in this process
    return _worker(case)


class _one_thread_each:  # noqa: N801 - reads as a statement
    """Processes started within it have one thread in BLAS and OpenMP: they read these when they start."""

    _names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self._names}
        os.environ.update(dict.fromkeys(self._names, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _code_digest(protocol: Protocol) -> str:
    """sha256 over the code that scores, and the figures asked for: other ones, other scores."""
    digest = hashlib.sha256(repr(protocol.figures).encode())
    for module in _SCORING:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _read_scores(path: Path, key: dict[str, Any]) -> list[Score] | None:
    """Scores kept under this very key, or None."""
    try:
        stored = json.loads(path.read_text())
        return [Score(**s) for s in stored["scores"]] if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_scores(path: Path, key: dict[str, Any], scores: list[Score]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps({"key": key, "scores": [asdict(s) for s in scores]}))
    part.replace(path)


def _slug(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", words)
