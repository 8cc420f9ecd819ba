"""Simulated studies as training sees them: made once, kept on disk, read as needed."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sr_core import anatomy, baselines, simulate
from sr_core.align import resample
from sr_core.brain import brain_lr, outline
from sr_core.consistency import Measurement, feasible
from sr_core.kspace import Part
from sr_core.maps import Mask, Volume
from sr_core.metabolites import Contrast, Metabolite
from sr_core.model import CONTRASTS, standardised
from sr_core.prepare import prepare
from sr_core.settings import Settings
from sr_core.simulate import LesionPlan, Options, SimulatedStudy, read_labels, second_truth
from sr_core.simulate.anatomy import anatomical_image
from sr_core.simulate.tissue import FACTOR

from .config import Data

Half = NDArray[np.float16]

# Rows and columns begin at whole multiples of it, as at inference: the stride of a U-Net of four levels.
_ALIGNED = 8
_HEALTHY = 0.25  # share of studies without a lesion
_NOISE_FREE = 0.4
_SNR = (6.0, 40.0)  # of the paper's model, drawn evenly in its logarithm
_NOISE = (0.3, 2.0)  # of the richer one, in multiples of the usual


@dataclass(frozen=True, eq=False)
class Pair:
    """One map of a case: ``initial`` and ``truth``, float16 in units of the LR 99.9th percentile, 0 outside
    the brain; ``sigma``, its noise, and ``measured``, what data consistency is with, in the same unit.
    """

    metabolite: str
    initial: Half
    truth: Half
    sigma: float
    measured: Measurement


@dataclass(frozen=True, eq=False)
class Case:
    """A simulated study inside the brain's box, slices from a whole multiple of four: (slice, row, column).

    ``images``: T1 and FLAIR as networks see them (``model.standardised``); ``plain``: the same anatomy
    without the lesion, equal to ``images`` where none was drawn.
    """

    subject: str
    kind: str
    part: Part
    brain: Mask
    images: tuple[Half, ...]
    plain: tuple[Half, ...]
    pairs: tuple[Pair, ...]


def subjects(split: Path, part: str) -> list[str]:
    """Names of the label maps of ``part`` ("train", "validation", "test"). Raises KeyError if unknown."""
    return [str(s) for s in tomllib.loads(split.read_text())[part]]


def load_cases(rules: Data, part: str, seed: int, cache: Path) -> list[Case]:
    """All cases of a part of the split, simulated once and kept under ``cache``."""
    names = subjects(Path(rules.split), part)
    variants = rules.variants if part == "train" else rules.validation_variants
    code = _code_digest()
    jobs = [_Job(rules, name, part, v, seed, cache, code) for name in names for v in range(variants)]
    with ProcessPoolExecutor(2) as pool:
        folders = list(pool.map(_make, jobs))
    return [_read(folder) for folder in folders]


def fingerprint(rules: Data) -> str:
    """sha256 over the label maps of every part of the split."""
    digest = hashlib.sha256()
    split = tomllib.loads(Path(rules.split).read_text())
    for name in sorted(name for part in split.values() for name in part):
        digest.update((Path(rules.folder) / f"{name}.nii.gz").read_bytes())
    return digest.hexdigest()


def _code_digest() -> str:
    """sha256 over the code that a cached case depends on: other code, other cases."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted(Path(simulate.__file__).parent.glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Job:
    rules: Data
    subject: str
    part: str
    variant: int
    seed: int
    cache: Path
    code: str

    @property
    def study_seed(self) -> int:
        words = f"{self.seed} {self.part} {self.subject} {self.variant}"
        return int(hashlib.sha256(words.encode()).hexdigest()[:8], 16)

    @property
    def folder(self) -> Path:
        rules = self.rules
        which = [self.study_seed, rules.truth, rules.model, list(rules.regimes), self.variant, self.code]
        key = hashlib.sha256(json.dumps(which).encode()).hexdigest()[:16]
        return self.cache / f"{self.subject}-{key}"

    @property
    def kind(self) -> str:
        return "paper" if self.variant % 2 == 0 or self.rules.model == "paper" else "rich"


def draw_options(kind: str, rules: Data, rng: np.random.Generator) -> Options:
    """How one case is simulated: the paper's model or the richer one, regime, lesion, noise."""
    healthy = rng.random() < _HEALTHY
    regime = "match" if rng.random() < 0.5 else str(rng.choice(rules.regimes))
    alone = rules.model == "paper"
    exact = rng.random() < _NOISE_FREE or alone
    whole = exact and (rng.random() < 0.7 or alone)
    snr = float(np.exp(rng.uniform(*np.log(_SNR))))
    noise = float(rng.uniform(*_NOISE))
    tau = float(rng.choice(simulate.TAUS))
    paper = kind == "paper"
    return Options(
        regime=regime,  # type: ignore[arg-type]
        noise=0.0 if exact else noise,
        snr=snr if paper and not exact else None,
        lesion=None if healthy else LesionPlan(radius_mm=float(rng.uniform(8, 24))),
        artefacts=not (paper or exact),
        masked=not whole,
        metabolites="paper" if paper else "usual",
        tau=tau,
    )


def _make(job: _Job) -> Path:
    if (job.folder / "case.json").exists():
        return job.folder
    rng = np.random.default_rng(job.study_seed)
    options = draw_options(job.kind, job.rules, rng)
    warp = rng if job.part == "train" else None
    tissue = read_labels(Path(job.rules.folder) / f"{job.subject}.nii.gz", warp)
    study = simulate.simulate(tissue, job.study_seed, options)
    acquisition = study.acquisition
    inside_lr = brain_lr(acquisition)
    placed = anatomy.place(acquisition, study.grid, inside_lr, "ignore")
    # Sites send maps with or without a T1 to outline the brain by.
    t1 = placed.in_place(acquisition, Contrast.T1) if rng.random() < 0.75 else None
    inside = outline(inside_lr, FACTOR, t1, study.grid).mask
    part = _aligned(inside)
    images, plain = [], []
    for contrast in CONTRASTS:
        image = placed.image_of(contrast)
        assert image is not None  # the simulator always draws both
        images.append(standardised(image.values, inside)[part.box])
        bare = images[-1]
        if options.lesion is not None:
            healthy = anatomical_image(tissue, None, contrast, rng)
            bare = standardised(resample(healthy.values, healthy.grid, study.grid), inside)[part.box]
        plain.append(bare)
    job.folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[np.generic]] = {"brain": inside[part.box]}
    arrays |= {f"image-{n}": v.astype(np.float16) for n, v in enumerate(images)}
    arrays |= {f"plain-{n}": v.astype(np.float16) for n, v in enumerate(plain)}
    settings = Settings(denoise=options.noise > 0 or options.snr is not None)
    exact = not settings.denoise
    truths = _truths(study, job.rules.truth)
    kept: dict[str, float] = {}
    for m in acquisition.maps:
        p = prepare(m, acquisition, inside_lr, settings, acquisition.grid.shape)
        empty = m.metabolite is Metabolite.HG2 and "metabolic" not in study.lesions
        if p is None or p.scale <= 0 or p.measured is None or empty:
            continue
        name, scale = str(m.metabolite), np.float32(p.scale)
        arrays[f"{name}-initial"] = _half(feasible(baselines.bicubic(p.values, FACTOR), inside), scale, part)
        arrays[f"{name}-truth"] = _half(truths[m.metabolite] * inside, scale, part)
        arrays[f"{name}-measured"] = p.measured.values / scale
        arrays[f"{name}-variance"] = p.measured.variance / scale**2
        arrays[f"{name}-trusted"] = p.measured.trusted
        kept[name] = 0.0 if exact else float(np.median(p.sigma[p.values > 0])) / p.scale
    for name, values in arrays.items():
        np.save(job.folder / f"{name}.npy", values)
    about = {
        "subject": job.subject,
        "kind": job.kind,
        "sigma": kept,
        "exact": exact,
        "shape": part.shape,
        "start": part.start,
        "stop": part.stop,
    }
    (job.folder / "case.json").write_text(json.dumps(about))  # last: what has it is whole
    return job.folder


def _half(values: Volume, scale: np.float32, part: Part) -> Half:
    return (values[part.box] / scale).astype(np.float16)


def _truths(study: SimulatedStudy, truth: str) -> Mapping[Metabolite, Volume]:
    if truth == "type1":
        return {m.metabolite: m.values for m in study.truth}
    return {m.metabolite: m.values for m in second_truth(study)}


def _aligned(inside: Mask) -> Part:
    """The box around the brain, widened to whole slabs of four slices and to aligned rows and columns."""
    tight = Part.around(inside)
    unit = (FACTOR[0], _ALIGNED, _ALIGNED)
    start = tuple(at // u * u for at, u in zip(tight.start, unit, strict=True))
    stop = tuple(min(-(-at // u) * u, n) for at, u, n in zip(tight.stop, unit, inside.shape, strict=True))
    return Part(tight.shape, start, stop)  # type: ignore[arg-type]


def _read(folder: Path) -> Case:
    about = json.loads((folder / "case.json").read_text())

    def array(name: str) -> NDArray[np.generic]:
        values: NDArray[np.generic] = np.load(folder / f"{name}.npy", mmap_mode="r")
        return values

    pairs = tuple(
        Pair(
            name,
            array(f"{name}-initial"),  # type: ignore[arg-type]
            array(f"{name}-truth"),  # type: ignore[arg-type]
            sigma,
            Measurement(
                np.array(array(f"{name}-measured")),
                np.array(array(f"{name}-variance")),
                np.array(array(f"{name}-trusted")),
                hard=about["exact"],
            ),
        )
        for name, sigma in about["sigma"].items()
    )
    return Case(
        about["subject"],
        about["kind"],
        Part(*(tuple(about[k]) for k in ("shape", "start", "stop"))),
        np.array(array("brain")),
        tuple(array(f"image-{n}") for n in range(len(CONTRASTS))),  # type: ignore[misc]
        tuple(array(f"plain-{n}") for n in range(len(CONTRASTS))),  # type: ignore[misc]
        pairs,
    )
