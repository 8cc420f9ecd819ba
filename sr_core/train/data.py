"""Simulated studies as pairs of an initial and a true map: cached on disk, cropped on the fly."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_core import baselines
from sr_core.brain import brain_lr, brain_sr
from sr_core.consistency import feasible
from sr_core.metabolites import Metabolite
from sr_core.prepare import prepare
from sr_core.settings import Settings
from sr_core.simulate import LesionPlan, Options, read_labels, simulate
from sr_core.simulate.tissue import FACTOR

from .config import Data

Half = NDArray[np.float16]

# Fewer brain voxels than this in a plane, and nothing is learned from it.
_FEW_VOXELS = 200


@dataclass(frozen=True, eq=False)
class Pair:
    """One map of one study inside the brain's box: (slice, row, column), float16, read from disk as needed.

    ``initial`` is the prepared, aligned bicubic map; ``truth`` the VHR map cropped in k-space (ground
    truth of type 1); both in units of the LR 99.9th percentile, 0 outside the brain. ``sigma``: noise
    in the same unit.
    """

    initial: Half
    truth: Half
    brain: NDArray[np.bool_]
    sigma: float
    metabolite: str
    subject: str


def subjects(split: Path, part: str) -> list[str]:
    """Names of the label maps of ``part`` ("train", "validation", "test"). Raises KeyError if unknown."""
    return [str(s) for s in tomllib.loads(split.read_text())[part]]


def load_pairs(rules: Data, part: str, seed: int, cache: Path) -> list[Pair]:
    """All pairs of a part of the split, simulated once and kept under ``cache``."""
    names = subjects(Path(rules.split), part)
    variants = rules.variants if part == "train" else 1
    wanted = [(name, v) for name in names for v in range(variants)]
    jobs = [(rules, name, _study_seed(seed, part, name, v), n, cache) for n, (name, v) in enumerate(wanted)]
    with ProcessPoolExecutor(2) as pool:
        folders = list(pool.map(_make_study, jobs))
    return [pair for folder in folders for pair in _read_study(folder)]


def fingerprint(rules: Data) -> str:
    """sha256 over the label maps of every part of the split."""
    digest = hashlib.sha256()
    split = tomllib.loads(Path(rules.split).read_text())
    for name in sorted(name for part in split.values() for name in part):
        digest.update((Path(rules.folder) / f"{name}.nii.gz").read_bytes())
    return digest.hexdigest()


def _study_seed(seed: int, part: str, name: str, variant: int) -> int:
    return int(hashlib.sha256(f"{seed} {part} {name} {variant}".encode()).hexdigest()[:8], 16)


def _make_study(job: tuple[Data, str, int, int, Path]) -> Path:
    rules, name, seed, number, cache = job
    key = hashlib.sha256(json.dumps([name, seed, list(rules.noise), number % rules.healthy_every]).encode())
    folder = cache / f"{name}-{key.hexdigest()[:12]}"
    if (folder / "study.json").exists():
        return folder
    rng = np.random.default_rng(seed)
    healthy = number % rules.healthy_every == rules.healthy_every - 1
    options = Options(
        regime="match" if rng.random() < 0.5 else "mismatch",
        noise=float(rng.uniform(*rules.noise)),
        lesion=None if healthy else LesionPlan(),
    )
    study = simulate(read_labels(Path(rules.folder) / f"{name}.nii.gz"), seed, options)
    folder.mkdir(parents=True, exist_ok=True)
    inside_lr = brain_lr(study.acquisition)
    inside = brain_sr(inside_lr, FACTOR)
    box = tuple(slice(int(w.min()), int(w.max()) + 1) for w in np.nonzero(inside))
    np.save(folder / "brain.npy", inside[box])
    kept: dict[str, float] = {}
    for m in study.acquisition.maps:
        p = prepare(m, study.acquisition, inside_lr, Settings(), None)
        if p is None or p.scale <= 0 or (healthy and m.metabolite is Metabolite.HG2):
            continue
        initial = feasible(baselines.bicubic(p.values, FACTOR), inside) / p.scale
        truth = study.truth_of(m.metabolite).values * inside / p.scale
        np.save(folder / f"{m.metabolite}-initial.npy", initial[box].astype(np.float16))
        np.save(folder / f"{m.metabolite}-truth.npy", truth[box].astype(np.float16))
        kept[str(m.metabolite)] = float(np.median(p.sigma[p.values > 0])) / p.scale
    (folder / "study.json").write_text(json.dumps({"subject": name, "sigma": kept}))
    return folder


def _read_study(folder: Path) -> Iterator[Pair]:
    about = json.loads((folder / "study.json").read_text())
    brain = np.load(folder / "brain.npy")
    for metabolite, sigma in about["sigma"].items():
        yield Pair(
            np.load(folder / f"{metabolite}-initial.npy", mmap_mode="r"),
            np.load(folder / f"{metabolite}-truth.npy", mmap_mode="r"),
            brain,
            sigma,
            metabolite,
            about["subject"],
        )


class Crops:
    """Random crops of random planes. Batch ``i`` depends on the seed and ``i`` only: resuming is exact."""

    def __init__(self, pairs: Sequence[Pair], crop: int, neighbours: int, batch: int, seed: int) -> None:
        self._pairs = pairs
        self._crop, self._neighbours, self._batch, self._seed = crop, neighbours, batch, seed
        self._planes = [np.flatnonzero(p.brain.sum(axis=(1, 2)) >= _FEW_VOXELS) for p in pairs]

    def batch(self, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
        """(initial with neighbours, σ, truth) as float32 tensors (batch, planes, rows, columns)."""
        rng = np.random.default_rng((self._seed, iteration))
        drawn = [self._draw(rng) for _ in range(self._batch)]
        initial, sigma, truth = zip(*drawn, strict=True)
        return (
            torch.from_numpy(np.stack(initial)),
            torch.tensor(sigma, dtype=torch.float32),
            torch.from_numpy(np.stack(truth)),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float, NDArray[np.float32]]:
        n = int(rng.integers(len(self._pairs)))
        pair, k = self._pairs[n], int(rng.choice(self._planes[n]))
        where = np.argwhere(pair.brain[k])
        centre = where[int(rng.integers(len(where)))]
        size, reach = self._crop, self._neighbours
        planes = np.clip(np.arange(k - reach, k + reach + 1), 0, pair.initial.shape[0] - 1)
        corner = [int(c) - size // 2 for c in centre]
        initial = _window(np.asarray(pair.initial[planes], np.float32), corner, size)
        truth = _window(np.asarray(pair.truth[k : k + 1], np.float32), corner, size)
        for axis in (1, 2):
            if rng.random() < 0.5:
                initial, truth = np.flip(initial, axis), np.flip(truth, axis)
        return np.ascontiguousarray(initial), pair.sigma, np.ascontiguousarray(truth)


def _window(planes: NDArray[np.float32], corner: Sequence[int], size: int) -> NDArray[np.float32]:
    """A square window of ``planes`` that may reach beyond them: 0 there, as outside the brain."""
    out = np.zeros((planes.shape[0], size, size), dtype=np.float32)
    spans = []
    for at, length in zip(corner, planes.shape[1:], strict=True):
        low, high = max(at, 0), min(at + size, length)
        spans.append((slice(low - at, high - at), slice(low, high)))
    out[:, spans[0][0], spans[1][0]] = planes[:, spans[0][1], spans[1][1]]
    return out
