"""A training recipe: one TOML under config/train/, read into frozen values."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from sr_core.simulate import REGIMES

Truth = Literal["type1", "type2"]
Model = Literal["both", "paper"]


@dataclass(frozen=True)
class Data:
    """Label maps in ``folder``; subjects by the ``split`` file; ``variants`` simulated studies of each
    (in validation ``validation_variants``).

    ``model`` "both": half the studies follow the paper's model, half the richer one, with noise and
    without; "paper": all follow the paper's, without noise. ``regimes``: how anatomy relates to
    the metabolic lesion; "match" in half of the studies with a lesion, any of them in the others.
    ``truth``: "type1" the VHR map cropped in k-space, "type2" what the FNLM pipeline makes of the LR map
    (Li et al. 2022, "Training Data Simulation"), of the paper's model only.
    """

    folder: str
    split: str
    variants: int = 8
    validation_variants: int = 4
    regimes: tuple[str, ...] = REGIMES
    truth: Truth = "type1"
    model: Model = "both"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.regimes) - set(REGIMES))
        if unknown or not self.regimes:
            raise ValueError(f"no regime {', '.join(unknown)}; there is {', '.join(REGIMES)}")
        if self.truth not in get_args(Truth):
            raise ValueError(f"a truth is {' or '.join(get_args(Truth))}, not {self.truth!r}")
        if self.model not in get_args(Model):
            raise ValueError(f"a model is {' or '.join(get_args(Model))}, not {self.model!r}")
        if self.truth == "type2" and self.model != "paper":
            raise ValueError("the truth of type 2 is of the model 'paper'")


@dataclass(frozen=True)
class Network:
    """Arguments of ``networks.UNet``."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    planes: int = 4
    context: int = 4
    images: int = 0
    image_context: int = 1


@dataclass(frozen=True)
class Phase:
    """``iterations`` of Adam on ``batch`` crops of ``crop`` × ``crop`` voxels.

    ``learning_rate`` is reached in ``warmup`` iterations and held, or with ``decay`` "cosine" falls to a
    hundredth. Loss: mean squared error,
    plus ``l1`` × mean |error|, plus ``ms_ssim`` × (1 − MS-SSIM), plus ``adversarial`` (λ) × −log D. With
    ``consistent``, crops give way to a whole map per step, brought into agreement with its measured
    LR map before the loss.
    """

    iterations: int
    learning_rate: float
    batch: int = 16
    crop: int = 64
    decay: Literal["none", "cosine"] = "none"
    warmup: int = 0
    l1: float = 0.0
    ms_ssim: float = 0.0
    adversarial: float = 0.0
    consistent: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that makes weights: same recipe, same data, same weights.

    ``start``: name of a network whose weights are the start, "" for none. ``ema``: decay of the moving
    average that is exported. ``dropout``: how often T1, and FLAIR, is withheld, or shown without its
    lesion, or displaced (mismatch training); 0 where the network takes no images. ``noise_at_half``:
    crops of this noise σ count half, noisier ones less, for most of their error cannot be undone; 0 lets
    all count alike.
    """

    name: str
    seed: int
    data: Data
    network: Network
    phases: tuple[Phase, ...]
    start: str = ""
    ema: float = 0.999
    dropout: float = 0.0
    noise_at_half: float = 0.0
    validate_every: int = 500
    compile: bool = False

    @property
    def iterations(self) -> int:
        """Of all phases."""
        return sum(p.iterations for p in self.phases)

    @property
    def adversarial(self) -> bool:
        """Whether any phase has a discriminator."""
        return any(p.adversarial > 0 for p in self.phases)

    def phase_at(self, iteration: int) -> tuple[Phase, float]:
        """The phase of ``iteration`` (from 0) and its learning rate there."""
        for phase in self.phases:
            if iteration < phase.iterations:
                share = iteration / phase.iterations
                fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)) if phase.decay == "cosine" else 1.0
                rise = min(1.0, (iteration + 1) / (phase.warmup + 1))
                return phase, phase.learning_rate * fall * rise
            iteration -= phase.iterations
        raise IndexError("the recipe has no such iteration")

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
            "phases": tuple(_make(Phase, p) for p in table.pop("phase", ())),
        }
        recipe: Recipe = _make(Recipe, table | parts)
    except (TypeError, ValueError) as e:
        raise ValueError(f"{path}: {e}") from e
    if not recipe.phases:
        raise ValueError(f"{path}: a recipe has at least one [[phase]]")
    return recipe


def _make(cls: type[Any], table: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise TypeError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
