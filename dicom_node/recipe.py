"""What a series is taken for, how maps are made of a case, which objects come out: tables of node.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Matrix = tuple[int, int, int]


class Table(BaseModel):
    """A table of node.toml: frozen, and an unknown key in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as e:
        raise ValueError(f"not a regular expression: {pattern!r} ({e})") from e
    return pattern


Pattern = Annotated[str, Field(min_length=1)]


class SiteRule(Table):
    """How one site names its maps: applies where every ``match`` pattern is found in its attribute."""

    match: dict[str, Pattern] = {}
    fields: tuple[str, ...] = ("SeriesDescription", "ProtocolName", "ImageComments")
    maps: Pattern | None = None
    alias: dict[str, str] = {}
    units: dict[str, str] = {}
    value_order: tuple[Literal["rwvm", "rescale", "stored"], ...] = ("rwvm", "rescale", "stored")
    acquired_matrix: Matrix | Literal["as_exported"] | None = None
    psf: Literal["none", "hamming"] = "none"

    @field_validator("maps")
    @classmethod
    def _maps(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else _compiles(pattern)

    @field_validator("match")
    @classmethod
    def _match(cls, patterns: dict[str, str]) -> dict[str, str]:
        return {key: _compiles(p) for key, p in patterns.items()}


class IdentifyRules(Table):
    """What a series is."""

    sites: tuple[SiteRule, ...] = ()
    t1: tuple[Pattern, ...] = (r"(?i)mprage|mp2rage.*uni|bravo|3d.?tfe|spgr|t1.*(3d|mpr)",)
    flair: tuple[Pattern, ...] = (r"(?i)flair|dark.?fluid",)
    not_anatomy: Pattern = r"(?i)\b(gd|km|ce|post)\b"
    our_models: tuple[str, ...] = ("MRSI-SR",)
    base_series: int = 9000

    @field_validator("not_anatomy")
    @classmethod
    def _not_anatomy(cls, pattern: str) -> str:
        return _compiles(pattern)

    @field_validator("t1", "flair")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_compiles(p) for p in patterns)


Factor = Annotated[int, Field(ge=1, le=8)]


class FnlmRules(Table):
    """Feature non-local means; the names are those of sr_core.fnlm.Fnlm, which says what they do."""

    mode: Literal["single", "boxmean", "dc", "joint"] = "joint"
    guide: Literal["flair", "t1", "both"] = "both"
    window: Literal["3d", "2d"] = "3d"
    radius: float = Field(3.3, ge=1, le=16)
    kept: int = Field(40, ge=1, le=1000)
    h: float = Field(0.08, gt=0)
    hx: float = Field(0.15, gt=0)
    passes: int = Field(10, ge=1, le=100)
    refresh: int = Field(5, ge=1)
    log: bool = False


class ResolveRules(Table):
    """How maps are super-resolved; the names are those of sr_core.Settings."""

    method: str = Field("unet+fnlm+dc", pattern=r"^[a-z0-9]+(\+fnlm)?(\+dc)?$")
    model_dir: Path | None = None
    factor: tuple[Factor, Factor, Factor] = (4, 4, 4)
    crlb_max_percent: float = Field(20.0, gt=0)
    crlb_max_percent_of: dict[str, Annotated[float, Field(gt=0)]] = {}
    snr_min: float = Field(4.0, ge=0)
    linewidth_max_ppm: float = Field(0.1, gt=0)
    motion: Literal["ignore", "warn", "correct"] = "correct"
    ratios: Literal["after", "before"] = "after"
    ratio_floor_k: float = Field(4.0, ge=0)
    naa_as_tnaa: bool = False
    tcn_times: float = Field(2.0, gt=1)
    hgg_k_sd: float = Field(3.0, gt=0)
    hg2_min: float = Field(1.0, gt=0)
    min_volume_ml: float = Field(0.5, ge=0)
    fnlm: FnlmRules = FnlmRules()


class QuantifyRules(Table):
    """The site's own command that makes maps of spectra; without one, maps are waited for.

    ``{input}`` and ``{output}`` in it become folders. No shell runs it.
    """

    command: tuple[str, ...] = ()
    limit_s: float = Field(3600.0, gt=0)

    @model_validator(mode="after")
    def _knows_its_folders(self) -> QuantifyRules:
        missing = [p for p in ("{input}", "{output}") if not any(p in part for part in self.command)]
        if self.command and missing:
            raise ValueError(f"command: {' and '.join(missing)} must be among its arguments")
        return self


class OutputRules(Table):
    """Which objects are made, and under which names."""

    base_series: int = Field(9000, ge=1, le=90000)
    anatomy_parent: bool = True
    mr_maps: tuple[str, ...] = ("HGG", "TCN", "2HG")
    fused_maps: tuple[str, ...] = ("HGG", "TCN")
    parametric_maps: Literal["all"] | tuple[str, ...] = "all"
    segmentation: bool = True
    segmentation_on_anatomy: bool = True
    registration: bool = True
    measurements: bool = True
    summary: bool = True
    uncertainty_maps: bool = False
    quality_maps: bool = False
    presentation_states: bool = False
    key_objects: bool = False
    manufacturer: str = "mrsi-sr-node"
    model_name: str = "MRSI-SR"
    device_serial: str = "0"
    content_qualification: Literal["RESEARCH", "PRODUCT", "SERVICE"] = "RESEARCH"
