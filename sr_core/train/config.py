"""A training recipe: one TOML under config/train/, read into frozen values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Data:
    """Label maps in ``folder``; subjects by the ``split`` file; ``variants`` simulated studies of each.

    ``noise`` is the range of noise levels (1: usual), drawn per study; every ``healthy_every``-th study
    has no lesion.
    """

    folder: str
    split: str
    variants: int = 2
    noise: tuple[float, float] = (0.5, 2.0)
    healthy_every: int = 5
    crop: int = 64


@dataclass(frozen=True)
class Network:
    """Arguments of ``networks.UNet``."""

    channels: tuple[int, ...] = (24, 48, 96, 192)
    neighbours: int = 1


@dataclass(frozen=True)
class Optimiser:
    """Adam with a cosine from ``learning_rate`` to a hundredth of it; exponential moving average ``ema``."""

    iterations: int = 6000
    batch: int = 16
    learning_rate: float = 1e-3
    ema: float = 0.999
    l1: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything that makes weights: same recipe, same data, same weights."""

    name: str
    seed: int
    data: Data
    network: Network
    optimiser: Optimiser
    validate_every: int = 500

    def as_table(self) -> dict[str, Any]:
        """Plain values, as they are stored beside the weights."""
        return asdict(self)


def read(path: Path) -> Recipe:
    """Raises ValueError naming an unknown or missing key."""
    table = tomllib.loads(path.read_text())
    try:
        parts = {
            "data": _make(Data, table.pop("data", {})),
            "network": _make(Network, table.pop("network", {})),
            "optimiser": _make(Optimiser, table.pop("optimiser", {})),
        }
        recipe: Recipe = _make(Recipe, table | parts)
        return recipe
    except TypeError as e:
        raise ValueError(f"{path}: {e}") from e


def _make(cls: type[Any], table: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise TypeError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
