"""What a reading study is: criteria, cases, who reads what in which order, and the key that unblinds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

# Share of the items that each reader gets a second time, for agreement with oneself.
REPEATED = 0.1
LOWEST, HIGHEST = 1, 5


class ReadingError(ValueError):
    """The cases, the key or the answers do not make a study; the message says what to put right."""


@dataclass(frozen=True)
class Criterion:
    """One thing to score from 1 to 5. ``of_tumor``: asked only of cases that show one."""

    name: str
    words: str
    of_tumor: bool


# Li et al., Neuro-Oncology Advances 2022, vdac071, "Image Quality Metrics and Statistical Analysis". It
# anchors the ends of the scale, 1 (worst) and 5 (best), and nothing between.
CRITERIA = (
    Criterion("tumor_boundaries", "Tumor boundaries", of_tumor=True),
    Criterion("tumor_texture", "Local texture and intensity distribution inside the tumor", of_tumor=True),
    Criterion(
        "landmarks",
        "Healthy brain anatomical landmarks such as ventricles, sulci, gray-white matter border",
        of_tumor=False,
    ),
    Criterion("healthy_texture", "Healthy brain local texture and intensity distribution", of_tumor=False),
)


def criteria_of(healthy: bool) -> tuple[Criterion, ...]:
    """Those that are asked of a case."""
    return tuple(c for c in CRITERIA if not (healthy and c.of_tumor))


@dataclass(frozen=True)
class CaseRecord:
    """A case as the key knows it. ``files``: sha256 of each source file, by role or method."""

    name: str
    healthy: bool
    plane: int | None
    files: Mapping[str, str]


@dataclass(frozen=True)
class Item:
    """One page of a form: an image to score. ``repeats``: the earlier item that it shows again."""

    item: int
    case: str
    method: str
    repeats: int | None = None


@dataclass(frozen=True)
class Form:
    """What one reader gets, in order. ``form`` names the page and tells nothing else."""

    reader: int
    form: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Key:
    """The blinding table. Whoever has it is not a reader."""

    study: str
    seed: int
    colours: str
    methods: tuple[str, ...]
    cases: tuple[CaseRecord, ...]
    forms: tuple[Form, ...]

    def is_healthy(self, case: str) -> bool:
        """Whether ``case`` shows no tumor."""
        return next(c.healthy for c in self.cases if c.name == case)

    def save(self, path: Path) -> None:
        """Write as JSON, readable by its owner only. Raises ReadingError rather than replace a key."""
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError as e:
            raise ReadingError(
                f"{path} exists: without it the answers of its study cannot be read. Choose another folder"
            ) from e
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read_key(path: Path) -> Key:
    """The key that ``Key.save`` wrote. Raises ReadingError for anything else."""
    try:
        table = json.loads(path.read_text())
        return Key(
            study=str(table["study"]),
            seed=int(table["seed"]),
            colours=str(table["colours"]),
            methods=tuple(table["methods"]),
            cases=tuple(CaseRecord(**c) for c in table["cases"]),
            forms=tuple(
                Form(int(f["reader"]), str(f["form"]), tuple(Item(**i) for i in f["items"]))
                for f in table["forms"]
            ),
        )
    except OSError as e:
        raise ReadingError(f"the key cannot be read: {e}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise ReadingError(f"{path} is not the key of a reading study: {e}") from e


def plan(cases: Sequence[CaseRecord], methods: Sequence[str], seed: int, readers: int, colours: str) -> Key:
    """Every reader scores every method on every case once and a tenth of them again, in an own order.

    The same cases (by content), methods, seed, number of readers and colours give the same key.
    Raises ReadingError without a case, a method or a reader, or for a negative seed.
    """
    if not cases or not methods or readers < 1 or seed < 0:
        raise ReadingError("a study needs at least one case, one method, one reader and a seed from 0")
    content = json.dumps([[asdict(c) for c in cases], list(methods), seed, readers, colours], sort_keys=True)
    study = _digest(content)
    pairs = [(c.name, m) for c in cases for m in methods]
    forms = tuple(
        Form(reader, _digest(f"{study} {reader}"), _order(pairs, np.random.default_rng([seed, reader])))
        for reader in range(1, readers + 1)
    )
    return Key(study, seed, colours, tuple(methods), tuple(cases), forms)


def _order(pairs: Sequence[tuple[str, str]], rng: np.random.Generator) -> tuple[Item, ...]:
    """``pairs`` shuffled; some of the first third come again in the last third, when they are forgotten."""
    n = len(pairs)
    order: list[tuple[int, bool]] = [(int(i), False) for i in rng.permutation(n)]
    early = [i for i, _ in order[: -(-n // 3)]]
    for i in rng.choice(early, size=max(1, round(REPEATED * n)), replace=False):
        order.insert(int(rng.integers(-(-2 * n // 3), len(order) + 1)), (int(i), True))
    first = {i: place for place, (i, again) in enumerate(order, 1) if not again}
    return tuple(
        Item(place, *pairs[i], repeats=first[i] if again else None)
        for place, (i, again) in enumerate(order, 1)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
