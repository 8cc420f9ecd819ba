"""Calibrate the uncertainty of methods, and what is usual of a study, on simulated ones.

``python -m sr_core.evaluate.calibrate CONFIG [--what uncertainty|novelty] [--check PART] [--data FOLDER]
[--weights FOLDER] [--jobs N]``

Writes ``uncertainty.toml`` and ``novelty.toml`` beside the weights: to be run again whenever weights
change. With ``--check`` nothing is fitted or written: what is there is measured on a part of the split.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.progress import track

import sr_core
from sr_core import novelty, uncertainty
from sr_core.maps import Acquisition, SuperResolved
from sr_core.metabolites import Metabolite
from sr_core.model import source_commit, to_toml
from sr_core.ready import make_ready
from sr_core.resolve import SHIPPED
from sr_core.settings import Settings
from sr_core.simulate import SimulatedStudy, read_labels, simulate
from sr_core.uncertainty import ANY, FACTOR, SIGNS, Calibration, Fitted, Signs, Values

from .broken import BREAKAGES, broken
from .protocol import Condition, options_of
from .quantile import Sample, as_table, coverage, fit, scaled
from .score import tumour_zone

T = TypeVar("T")
R = TypeVar("R")

CLEAN = "clean"
WITHOUT = "without anatomy"
_VOXELS = 3000  # of each map's brain; of its tumour zone half as many
_BELOW = 0.99  # of clean studies lie below the threshold; what is added is for maps and heads not seen
_MARGIN = 1.6
_LEAST_SPREAD = 0.02
# Ten simulated heads share nearly the same; other maps, and lesions that no anatomy shows, do not.
_LEAST_SPREAD_OF = {"shared": 0.2}
# Keeps signs, judges nothing.
_NEUTRAL = novelty.Reference({name: novelty.Usual(0.0, 1.0) for name in novelty.WORDS}, np.inf, {})


@dataclass(frozen=True)
class Plan:
    """What calibration runs on: the TOML under config/evaluate/.

    ``fit`` studies of training subjects, each another head by warping, and ``scale`` ones of the
    validation subjects take ``conditions`` in turn. ``methods`` are calibrated; ``metabolites`` kept.
    """

    data: str
    split: str
    seed: int
    methods: tuple[str, ...]
    metabolites: tuple[Metabolite, ...]
    conditions: tuple[Condition, ...]
    fit: int
    scale: int


@dataclass(frozen=True)
class Study:
    """One study to simulate: a label map, its condition, and a seed for everything that is drawn."""

    subject: str
    path: Path
    condition: Condition
    seed: int
    warped: bool

    def __str__(self) -> str:
        level = f"SNR {self.condition.snr:g}" if self.condition.snr else f"noise {self.condition.noise:g}"
        return f"{self.subject} {self.condition.regime} {level} {self.seed}"

    def simulated(self) -> SimulatedStudy:
        """Of another head of the same kind if ``warped``."""
        warp = np.random.default_rng(self.seed) if self.warped else None
        return simulate(read_labels(self.path, warp), self.seed, options_of(self.condition))


def read(path: Path) -> Plan:
    """Raises ValueError naming an unknown or missing key."""
    table = tomllib.loads(path.read_text())
    try:
        conditions = tuple(Condition(**c) for c in table.pop("condition"))
        metabolites = tuple(Metabolite(m) for m in table.pop("metabolites"))
        return Plan(
            conditions=conditions, metabolites=metabolites, methods=tuple(table.pop("methods")), **table
        )
    except KeyError as e:
        raise ValueError(f"{path} lacks {e}") from e
    except TypeError as e:
        raise ValueError(f"{path}: {e}") from e


def studies(plan: Plan, part: str, count: int) -> list[Study]:
    """``count`` studies of a part of the split; subjects and conditions each in turn."""
    names = tomllib.loads(Path(plan.split).read_text())[part]
    found = []
    for n in range(count):
        name = names[n % len(names)]
        digest = hashlib.sha256(f"calibrate {plan.seed} {part} {n}".encode()).hexdigest()
        path = Path(plan.data) / f"{name}.nii.gz"
        condition = plan.conditions[n % len(plan.conditions)]
        found.append(Study(name, path, condition, int(digest[:8], 16), warped=part == "train"))
    return found


class _Recorder:
    """Keeps the signs it is given: what calibration learns from."""

    def __init__(self) -> None:
        self.kept: dict[str, Signs] = {}

    def half_width(self, signs: Signs) -> Values:
        self.kept[signs.metabolite] = signs
        return np.zeros(signs.values.shape[1], dtype=np.float32)


def _only(a: Acquisition, metabolites: Sequence[Metabolite]) -> Acquisition:
    return replace(a, maps=tuple(m for m in a.maps if m.metabolite in metabolites))


def sampled(job: tuple[Study, Plan, Path]) -> dict[str, tuple[str, list[Sample]]]:
    """By method, the weights it used and the samples of every map of one study."""
    which, plan, weights = job
    study = which.simulated()
    acquisition = _only(study.acquisition, plan.metabolites)
    zone = tumour_zone(study)
    ready = make_ready(acquisition, Settings())
    found: dict[str, tuple[str, list[Sample]]] = {}
    for method in plan.methods:
        recorder = _Recorder()
        calibration = Calibration({method: recorder, ANY: recorder}, {})
        resolve = sr_core.load(weights, method, calibration=calibration, reference=_NEUTRAL)
        result = resolve(acquisition, ready)
        rng = np.random.default_rng(which.seed)
        samples = [
            _sample(which, study, result, signs, zone, rng)
            for signs in recorder.kept.values()
            if signs.scale > 0
        ]
        found[method] = (result.provenance.model_hash, samples)
    return found


def _sample(
    which: Study,
    study: SimulatedStudy,
    result: SuperResolved,
    signs: Signs,
    zone: np.ndarray[Any, np.dtype[np.bool_]],
    rng: np.random.Generator,
) -> Sample:
    of = Metabolite(signs.metabolite)
    values = next(m.values for m in result.maps if m.metabolite is of)[result.brain]
    error = np.abs(values - study.truth_of(of).values[result.brain]) / np.float32(signs.scale)
    brain = np.flatnonzero(study.brain[result.brain])
    ill = np.flatnonzero((zone & study.brain)[result.brain])
    healthy_sample = rng.choice(brain, min(_VOXELS, len(brain)), replace=False)
    ill_sample = rng.choice(ill, min(_VOXELS // 2, len(ill)), replace=False)
    at = np.concatenate([healthy_sample, ill_sample])
    in_zone = np.arange(len(at)) >= len(healthy_sample)
    return Sample(which.subject, str(which), str(of), signs.values[:, at], error[at], in_zone)


def judged(job: tuple[Study, tuple[str, ...]]) -> dict[str, Mapping[str, float]]:
    """By kind of breakage, "clean" among them, the signs of one study."""
    which, kinds = job
    study = which.simulated()
    found: dict[str, Mapping[str, float]] = {}
    for kind in kinds:
        how = kind.removesuffix(f", {WITHOUT}")
        a = study.acquisition if how == CLEAN else broken(study, how, which.seed)  # type: ignore[arg-type]
        if kind != how:
            a = replace(a, anatomy=())
        found[kind] = make_ready(a, Settings()).signs
    return found


def kinds_of(broken_too: bool) -> tuple[str, ...]:
    """ "clean" and every breakage; without anatomy those that can be seen without."""
    if not broken_too:
        return (CLEAN,)
    alone = [k for k in (CLEAN, *BREAKAGES) if k in (CLEAN, "moved_once", "moved_to_and_fro", "lipid")]
    return (CLEAN, *BREAKAGES, *(f"{k}, {WITHOUT}" for k in alone))


def _each(work: Callable[[T], R], jobs: Sequence[T], processes: int, what: str) -> list[R]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        return list(track(pool.map(work, jobs), description=what, total=len(jobs)))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def samples_of(plan: Plan, jobs: Sequence[Study], weights: Path, processes: int) -> dict[str, Any]:
    """By method: the weights' sha256, and all samples."""
    every = _each(sampled, [(s, plan, weights) for s in jobs], processes, "uncertainty")
    return {m: (every[0][m][0], [s for one in every for s in one[m][1]]) for m in plan.methods}


def fit_uncertainty(plan: Plan, weights: Path, processes: int) -> dict[str, Any]:
    """The table of uncertainty.toml: a family per method, and one for all others.

    Fitted on training subjects, scaled on validation ones; "held_out" scales on one of those and
    covers the other.
    """
    jobs = studies(plan, "train", plan.fit) + studies(plan, "validation", plan.scale)
    validation = {s.subject for s in jobs[plan.fit :]}
    found = samples_of(plan, jobs, weights, processes)
    families: dict[str, Any] = {}
    for method, (sha256, samples) in found.items():
        learn = [s for s in samples if s.subject not in validation]
        check = [s for s in samples if s.subject in validation]
        rough = fit(learn, SIGNS, plan.seed, sha256)
        held_out = [
            coverage(
                scaled(rough, [s for s in check if s.subject != out]), [s for s in check if s.subject == out]
            )
            for out in sorted(validation)
        ]
        means = {k: float(np.mean([getattr(c, k) for c in held_out])) for k in ("brain", "zone", "width")}
        worst = {k: min(getattr(c, k) for c in held_out) for k in ("worst_brain", "worst_zone")}
        families[method] = as_table(scaled(rough, check)) | {
            "held_out": {k: round(v, 4) for k, v in (means | worst).items()}
        }
    others = [n for n in SIGNS if n != "leaning"]
    pooled = fit([s for _, v in found.values() for s in v if s.subject not in validation], others, plan.seed)
    each = [scaled(pooled, [s for s in v if s.subject in validation]) for _, v in found.values()]
    families[ANY] = as_table(max(each, key=lambda f: f.offset))
    return {"family": families}


def fit_novelty(plan: Plan, processes: int) -> dict[str, Any]:
    """The table of novelty.toml: what is usual by sign, the threshold, and how well breakage is told."""
    learn, check = studies(plan, "train", plan.fit), studies(plan, "validation", plan.scale)
    jobs = [(s, kinds_of(False)) for s in learn] + [(s, kinds_of(True)) for s in check]
    every = _each(judged, jobs, processes, "novelty")
    reference = usual_of([e[CLEAN] for e in every[: plan.fit]])
    clean = [score(reference, e[CLEAN]) for e in every]
    threshold = _MARGIN * float(np.quantile(clean, _BELOW))
    signs = {
        k: {"median": round(u.median, 4), "spread": round(u.spread, 4)} for k, u in reference.usual.items()
    }
    return {
        "threshold": round(threshold, 3),
        "validation": told_apart(replace(reference, threshold=threshold), every[plan.fit :]),
        "sign": signs,
    }


def usual_of(clean: Sequence[Mapping[str, float]]) -> novelty.Reference:
    """What clean studies show: medians, and how far above them their 95th percentile lies.

    Turned maps count from where they fit as well as the maps themselves.
    """
    usual = {name: novelty.Usual(0.0, novelty.BETTER) for name in novelty.TURNS}
    for name in (n for n in novelty.WORDS if n not in novelty.TURNS):
        values = [c[name] for c in clean if name in c]
        if values:
            median, high = np.quantile(values, (0.5, 0.95))
            least = _LEAST_SPREAD_OF.get(name, _LEAST_SPREAD)
            usual[name] = novelty.Usual(float(median), max(float(high - median), least))
    return novelty.Reference(usual, 0.0, {})


def score(reference: novelty.Reference, signs: Mapping[str, float]) -> float:
    """0 for a study without signs."""
    found = reference.judge(signs)
    return 0.0 if found is None else found.score


def told_apart(
    reference: novelty.Reference, every: Iterable[Mapping[str, Mapping[str, float]]]
) -> dict[str, Any]:
    """By kind of breakage, the AUC against clean studies and the share above the threshold."""
    every = list(every)
    scores = {kind: np.array([score(reference, e[kind]) for e in every]) for kind in every[0]}
    out: dict[str, Any] = {"studies": len(every)}
    for kind, values in scores.items():
        clean = scores[f"{CLEAN}, {WITHOUT}" if WITHOUT in kind else CLEAN]
        apart = values[:, None] - clean[None]
        auc = float(((apart > 0) + 0.5 * (apart == 0)).mean())
        flagged = float((values > reference.threshold).mean())
        out[kind] = {"flagged": round(flagged, 3), "highest": round(float(values.max()), 2)}
        if not kind.startswith(CLEAN):
            out[kind] |= {"auc": round(auc, 4), "lowest": round(float(values.min()), 2)}
    return out


def check(plan: Plan, part: str, weights: Path, processes: int, what: Sequence[str]) -> dict[str, Any]:
    """What is beside the ``weights``, measured on ``part``."""
    jobs = studies(plan, part, plan.scale)
    out: dict[str, Any] = {}
    if "uncertainty" in what:
        calibration = uncertainty.read_calibration(weights)
        for method, (sha256, samples) in samples_of(plan, jobs, weights, processes).items():
            family, words = calibration.family(method, sha256, FACTOR)
            if isinstance(family, Fitted):
                note = {"note": words} if words else {}
                out[method] = coverage(family, samples).as_table() | note
    if "novelty" in what:
        reference = novelty.read_reference(weights)
        every = _each(judged, [(s, kinds_of(True)) for s in jobs], processes, "novelty")
        out["novelty"] = told_apart(reference, every)
    return out


def main() -> None:
    """Parse arguments, calibrate or check, print what was found."""
    parser = argparse.ArgumentParser(prog="python -m sr_core.evaluate.calibrate", description=__doc__)
    parser.add_argument("config", type=Path, help="a plan, such as config/evaluate/calibrate.toml")
    parser.add_argument("--what", choices=("uncertainty", "novelty"), help="one of the two instead of both")
    parser.add_argument("--check", metavar="PART", help="only measure what is there, on a part of the split")
    parser.add_argument("--data", help="folder of label maps, instead of the plan's")
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="folder of the networks")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    plan = read(chosen.config)
    if chosen.data:
        plan = replace(plan, data=chosen.data)
    what = [chosen.what] if chosen.what else ["uncertainty", "novelty"]
    if chosen.check:
        found = check(plan, chosen.check, chosen.weights, chosen.jobs, what)
        print(to_toml(found))  # noqa: T201
        return
    provenance = {
        "command": "python -m sr_core.evaluate.calibrate " + shlex.join(sys.argv[1:]),
        "commit": source_commit(),
        "seed": plan.seed,
        "fitted_on": [str(s) for s in studies(plan, "train", plan.fit)],
        "scaled_on": [str(s) for s in studies(plan, "validation", plan.scale)],
    }
    for name in what:
        table = (
            fit_uncertainty(plan, chosen.weights, chosen.jobs)
            if name == "uncertainty"
            else fit_novelty(plan, chosen.jobs)
        )
        path = chosen.weights / (uncertainty.FILE if name == "uncertainty" else novelty.FILE)
        part = path.with_suffix(".part")
        part.write_text(to_toml(provenance | table))
        part.replace(path)
        print(path.read_text())  # noqa: T201


if __name__ == "__main__":
    main()
