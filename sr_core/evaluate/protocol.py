"""What is compared: methods and their settings, on subjects of one part, in regimes, at noise levels."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from sr_core.metabolites import Metabolite
from sr_core.settings import Method, Settings
from sr_core.simulate import REGIMES, LesionPlan, Options

from .peers import PEERS

T = TypeVar("T")

HEALTHY = "healthy"  # the regime without a lesion
Figure = Literal["ssim", "ms_ssim", "fsim", "gmsd"]


@dataclass(frozen=True)
class Variant:
    """A method, or one of ``PEERS``, by the name it has in the report.

    ``settings`` are those it runs under, ``without_noise`` those for cases without noise. ``weights``:
    the folder of its networks, None for that of the whole evaluation.
    """

    name: str
    method: str
    settings: Settings
    without_noise: Settings
    weights: str | None = None

    def settings_for(self, condition: Condition) -> Settings:
        """Those of a case of ``condition``."""
        return self.settings if condition.noisy else self.without_noise


@dataclass(frozen=True)
class Condition:
    """One way to simulate a subject. ``snr`` None: ``noise`` times the usual noise; ``draw`` counts from 0.

    Draws differ in lesion, texture and noise; regimes and noise levels of one draw share all three.
    """

    regime: str
    noise: float = 1.0
    snr: float | None = None
    draw: int = 0

    @property
    def group(self) -> tuple[str, float, float | None]:
        """What a table of the report is about: all but the draw."""
        return self.regime, self.noise, self.snr

    @property
    def noisy(self) -> bool:
        """Whether its LR maps are anything but exact."""
        return self.snr is not None or self.noise > 0

    def __str__(self) -> str:
        """A name for files: "match snr8 draw0"."""
        level = f"snr{self.snr:g}" if self.snr is not None else f"noise{self.noise:g}"
        return f"{self.regime} {level} draw{self.draw}"


@dataclass(frozen=True)
class Protocol:
    """``methods`` on ``part`` of ``split``; label maps in ``data``. The first method is the baseline.

    With a ``pool`` part "test" is that pool's heads, internal and external (or those of ``heads``); its
    files lie in ``pool_data``. Every
    subject is simulated ``draws`` times from ``seed``, in every one of ``regimes`` ("healthy" or one of
    simulation's), at every level: of ``snr`` if there is any (``inf``: no noise), else of ``noise``.
    Cases without noise are exact maps of the whole field of view, as hard consistency assumes; to the
    others ``artefacts``, ``psf`` and ``masked`` apply as in ``simulate.Options``.
    ``model``: "usual", seven metabolites, or "paper", one map whose tumour is τ (Li et al. 2022), τ
    going evenly through the paper's seven. ``metabolites``: the maps to keep, () for all.
    ``truth``: 1, the maps cropped in k-space, or 2, what the FNLM pipeline makes of exact LR maps.
    ``figures`` to compute besides those that cost little. ``table``: the table of the paper that the
    report lays its own beside, None for none.
    """

    data: str
    split: str
    part: str
    methods: tuple[Variant, ...]
    seed: int
    name: str = "evaluation"
    pool: str | None = None
    pool_data: str = ""
    heads: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ("mismatch",)
    noise: tuple[float, ...] = (1.0,)
    snr: tuple[float, ...] = ()
    draws: int = 1
    model: Literal["usual", "paper"] = "usual"
    metabolites: tuple[Metabolite, ...] = ()
    truth: Literal[1, 2] = 1
    artefacts: bool = True
    psf: Literal["none", "hamming"] = "none"
    masked: bool = True
    figures: tuple[Figure, ...] = ("ssim",)
    table: Literal[1, 2] | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("an evaluation has at least one method")
        names = [v.name for v in self.methods]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"two methods of one name: {', '.join(doubled)}")
        for regime in self.regimes:
            if regime != HEALTHY and regime not in REGIMES:
                raise ValueError(f"no regime {regime!r}; there is {', '.join((HEALTHY, *REGIMES))}")
        unknown = sorted(set(self.figures) - set(get_args(Figure)))
        if unknown:
            raise ValueError(f"no figure {', '.join(unknown)}; there is {', '.join(get_args(Figure))}")
        if self.model not in ("usual", "paper"):
            raise ValueError(f"a model is 'usual' or 'paper', not {self.model!r}")
        if self.truth not in (1, 2) or self.table not in (1, 2, None):
            raise ValueError(f"there are truths 1 and 2, and tables 1 and 2; not {self.truth}, {self.table}")
        if self.draws < 1 or not self.regimes or not (self.snr or self.noise):
            raise ValueError("an evaluation has at least one draw, one regime and one level of noise")

    def conditions(self) -> list[Condition]:
        """Every condition a subject is simulated in, draw by draw."""
        levels: list[tuple[float, float | None]] = [(0.0, None if math.isinf(s) else s) for s in self.snr]
        levels = levels or [(n, None) for n in self.noise]
        return [
            Condition(regime, noise, snr, draw)
            for draw in range(self.draws)
            for regime in self.regimes
            for noise, snr in levels
        ]

    def options(self, condition: Condition, tau: float = 0.5) -> Options:
        """How ``condition`` is simulated; ``tau`` is the paper's model's."""
        return options_of(
            condition,
            metabolites=self.model,
            tau=tau,
            artefacts=self.artefacts,
            psf=self.psf,
            masked=self.masked,
        )


def options_of(condition: Condition, **also: Any) -> Options:
    """How ``condition`` is simulated; ``also`` are further ``simulate.Options``.

    Exact maps have no artefacts and are of the whole field of view, whatever ``also`` says.
    """
    healthy = condition.regime == HEALTHY
    return Options(
        regime="match" if healthy else condition.regime,  # type: ignore[arg-type]
        noise=condition.noise,
        snr=condition.snr,
        lesion=None if healthy else LesionPlan(),
        artefacts=also.pop("artefacts", True) and condition.noisy,
        masked=also.pop("masked", True) and condition.noisy,
        **also,
    )


def overridden(settings: T, table: Mapping[str, Any]) -> T:
    """``settings`` (a frozen dataclass) with the values of ``table``; nested tables go into nested settings.

    Raises ValueError naming an unknown key, or as the settings themselves do.
    """
    known = {f.name for f in fields(settings)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"no setting {', '.join(unknown)}; there is {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        current = getattr(settings, key)
        if is_dataclass(current) and isinstance(value, Mapping):
            value = overridden(current, value)
        values[key] = tuple(value) if isinstance(value, list) else value
    return replace(settings, **values)  # type: ignore[type-var]


def read(path: Path) -> Protocol:
    """An evaluation's TOML, named after the file. Raises ValueError naming an unknown or missing key.

    ``methods`` lists names of methods; each ``[[variant]]`` adds one with a ``name``, a ``method`` (or a
    peer's name), perhaps a ``weights`` folder, and a table of ``settings`` that differ from those of the
    table ``[settings]``, which all methods share. ``[without_noise]``: settings over these for cases
    without noise.
    """
    table = tomllib.loads(path.read_text())
    try:
        common = overridden(Settings(), table.pop("settings", {}))
        exact = table.pop("without_noise", {})
        listed = [{"name": m, "method": m} for m in table.pop("methods", ())]
        variants = tuple(_variant(v, common, exact) for v in (*listed, *table.pop("variant", ())))
        table["metabolites"] = tuple(Metabolite(m) for m in table.get("metabolites", ()))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        return Protocol(methods=variants, name=path.stem, **values)
    except KeyError as e:
        raise ValueError(f"{path}: a variant has a name and a method; {e} is missing") from e
    except TypeError as e:
        raise ValueError(f"{path}: {str(e).replace('Protocol.__init__()', 'an evaluation')}") from e
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def _variant(table: Mapping[str, Any], common: Settings, exact: Mapping[str, Any]) -> Variant:
    unknown = sorted(set(table) - {"name", "method", "settings", "weights"})
    if unknown:
        raise ValueError(f"a variant has no {', '.join(unknown)}")
    if table["method"] not in PEERS:
        Method.parse(table["method"])
    own = table.get("settings", {})
    return Variant(
        table["name"],
        table["method"],
        overridden(common, own),
        overridden(overridden(common, exact), own),
        table.get("weights"),
    )
