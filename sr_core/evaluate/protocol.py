"""What is compared: methods and their settings, on subjects of one part, in regimes, at noise levels."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from sr_core.metabolites import Metabolite
from sr_core.settings import Method, Settings
from sr_core.simulate import REGIMES, LesionPlan, Options

T = TypeVar("T")

HEALTHY = "healthy"  # the regime without a lesion
Figure = Literal["ssim", "ms_ssim", "fsim", "gmsd"]


@dataclass(frozen=True)
class Variant:
    """A method with the settings it runs under, by the name it has in the report."""

    name: str
    method: str
    settings: Settings


@dataclass(frozen=True)
class Condition:
    """One way to simulate a subject. ``snr`` None: ``noise`` times the usual noise; ``draw`` counts from 0.

    Draws differ in lesion, texture and noise; regimes and noise levels of one draw share all three.
    """

    regime: str
    noise: float
    snr: float | None
    draw: int

    @property
    def group(self) -> tuple[str, float, float | None]:
        """What a table of the report is about: all but the draw."""
        return self.regime, self.noise, self.snr


@dataclass(frozen=True)
class Protocol:
    """``methods`` on ``part`` of ``split``; label maps in ``data``. The first method is the baseline.

    Every subject is simulated ``draws`` times from ``seed``, in every one of ``regimes`` ("healthy" or
    one of simulation's), at every level: of ``snr`` if there is any, else of ``noise``. ``artefacts``,
    ``psf``, ``masked`` as in ``simulate.Options``. ``metabolites``: the maps to keep, () for all.
    ``figures`` to compute besides PSNR and NRMSE.
    """

    data: str
    split: str
    part: str
    methods: tuple[Variant, ...]
    seed: int
    regimes: tuple[str, ...] = ("mismatch",)
    noise: tuple[float, ...] = (1.0,)
    snr: tuple[float, ...] = ()
    draws: int = 1
    metabolites: tuple[Metabolite, ...] = ()
    artefacts: bool = True
    psf: Literal["none", "hamming"] = "none"
    masked: bool = True
    figures: tuple[Figure, ...] = ("ssim",)

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
        if self.draws < 1 or not self.regimes or not (self.snr or self.noise):
            raise ValueError("an evaluation has at least one draw, one regime and one level of noise")

    def conditions(self) -> list[Condition]:
        """Every condition a subject is simulated in, draw by draw."""
        levels: list[tuple[float, float | None]] = [(0.0, s) for s in self.snr]
        levels = levels or [(n, None) for n in self.noise]
        return [
            Condition(regime, noise, snr, draw)
            for draw in range(self.draws)
            for regime in self.regimes
            for noise, snr in levels
        ]

    def options(self, condition: Condition) -> Options:
        """How ``condition`` is simulated."""
        healthy = condition.regime == HEALTHY
        return Options(
            regime="match" if healthy else condition.regime,  # type: ignore[arg-type]
            noise=condition.noise,
            lesion=None if healthy else LesionPlan(),
            artefacts=self.artefacts,
            snr=condition.snr,
            psf=self.psf,
            masked=self.masked,
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
    """An evaluation's TOML. Raises ValueError naming an unknown or missing key.

    ``methods`` lists names of methods; each ``[[variant]]`` adds one with a ``name``, a ``method`` and a
    table of ``settings`` that differ from those of the table ``[settings]``, which all methods share.
    """
    table = tomllib.loads(path.read_text())
    try:
        common = overridden(Settings(), table.pop("settings", {}))
        variants = [Variant(m, m, common) for m in table.pop("methods", ())]
        variants += [
            Variant(v["name"], v["method"], overridden(common, v.get("settings", {})))
            for v in table.pop("variant", ())
        ]
        for v in variants:
            Method.parse(v.method)
        table["metabolites"] = tuple(Metabolite(m) for m in table.get("metabolites", ()))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        return Protocol(methods=tuple(variants), **values)
    except KeyError as e:
        raise ValueError(f"{path}: a variant has a name and a method; {e} is missing") from e
    except TypeError as e:
        raise ValueError(f"{path}: {str(e).replace('Protocol.__init__()', 'an evaluation')}") from e
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def subjects(protocol: Protocol) -> list[str]:
    """Names of the label maps to evaluate. Raises ValueError if the split has no such part."""
    split = tomllib.loads(Path(protocol.split).read_text())
    if protocol.part not in split:
        raise ValueError(f"{protocol.split} has no part {protocol.part!r}; it has {', '.join(split)}")
    return [str(name) for name in split[protocol.part]]
