"""config/node.toml + environment -> frozen Settings. An unknown key is an error."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .destinations import (
    AETitle,
    CircuitRules,
    Destination,
    DicomDestination,
    DicomWebDestination,
    FolderDestination,
    ProvingRules,
    RetryRules,
    is_loopback,
)
from .errors import BadConfiguration

# Besides the tables of this module; destinations are read by many who need no other.
__all__ = [
    "CircuitRules",
    "Destination",
    "DicomDestination",
    "DicomWebDestination",
    "FolderDestination",
    "ProvingRules",
    "RetryRules",
]

Matrix = tuple[int, int, int]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as e:
        raise ValueError(f"not a regular expression: {pattern!r} ({e})") from e
    return pattern


Pattern = Annotated[str, Field(min_length=1)]


class Caller(_Table):
    """Who may send: a calling AE title, from where, with which certificate. Written as a bare title: from
    anywhere, which is for loopback only.

    ``certificates``: subject CN, SAN dNSName or URI, or ``sha256:`` and the fingerprint in hex. A caller
    that has any is taken over TLS only. ``store = false``: may ask whether we are there, and no more.
    """

    ae_title: AETitle
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    certificates: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    store: bool = True

    @model_validator(mode="before")
    @classmethod
    def _bare_title(cls, value: Any) -> Any:
        return {"ae_title": value} if isinstance(value, str) else value


class NodeRules(_Table):
    """Who we are and who may talk to us."""

    ae_title: AETitle = "MRSISR"
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=1, le=65535)
    require_called_ae: bool = True
    allowed_callers: tuple[Caller, ...] = ()
    max_associations: int = Field(20, ge=1)
    max_associations_per_address: int = Field(10, ge=1)
    acse_timeout_s: float = Field(15.0, gt=0)
    dimse_timeout_s: float = Field(60.0, gt=0)
    network_timeout_s: float = Field(60.0, gt=0)
    max_pdu_bytes: int = Field(131072, ge=16384)
    max_dataset_bytes: int = Field(2 * 1024**3, ge=1024**2)

    @model_validator(mode="after")
    def _strangers_stay_out(self) -> NodeRules:
        if not self.allowed_callers and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from the network: list the calling AE titles that may "
                "send in allowed_callers, or set host to 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _callers_have_addresses(self) -> NodeRules:
        bare = [c.ae_title for c in self.allowed_callers if not c.networks]
        if bare and not is_loopback(self.host):
            raise ValueError(
                f"allowed_callers: an AE title proves nothing; say from which networks {', '.join(bare)} may "
                'call: { ae_title = "SCANNER", networks = ["192.0.2.0/24"] }'
            )
        return self


class TlsRules(_Table):
    """A second port that speaks TLS (PS3.15 B.12, BCP 195); none without a certificate."""

    port: int = Field(2762, ge=1, le=65535)
    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    client: Literal["required", "optional"] = "required"
    warn_days: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> TlsRules:
        if self.certificate and not self.key:
            raise ValueError("key: the certificate's private key is missing")
        if self.certificate and self.client == "required" and not self.trusted:
            raise ValueError(
                'trusted: name the authorities that sign the callers, or set client = "optional"'
            )
        return self


class StorageRules(_Table):
    """Where bytes and rows live. ``database`` may be a PostgreSQL URL; empty means SQLite in ``folder``."""

    folder: Path = Path("data")
    database: str = ""
    engine_database: str = ""
    low_water_mb: int = Field(1024, ge=0)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.folder.resolve() / 'node.sqlite'}"

    @property
    def engine_url(self) -> str:
        return self.engine_database or f"sqlite:///{self.folder.resolve() / 'engine.sqlite'}"


class IntakeRules(_Table):
    """What one received file may cost, and what becomes of those that are refused."""

    max_nesting: int = Field(64, ge=1, le=100)
    max_elements: int = Field(2_000_000, ge=1000)
    max_inflated_mb: int = Field(2048, ge=1)
    max_inflation: int = Field(100, ge=2)
    max_seconds: float = Field(20.0, gt=0)
    quarantine: bool = True
    quarantine_mb: int = Field(2048, ge=0)


class WatchRules(_Table):
    """Watch folder for research sites. No folder, no watching."""

    folder: Path | None = None
    scan_s: float = Field(2.0, gt=0)


class PacsRules(_Table):
    """The archive that is asked for counts and for missing anatomy: by DICOM, or at a DICOMweb ``url``.

    ``prior_days``: anatomy may also come from the patient's other studies within so many days; 0: never.
    """

    ae_title: AETitle = "PACS"
    host: str = ""
    port: int = Field(104, ge=1, le=65535)
    url: str = Field("", pattern=r"^(https?://\S+)?$")
    retrieve: Literal["move", "get"] = "move"
    move_to: AETitle | None = None
    count: bool = True
    fetch_anatomy: bool = True
    prior_days: int = Field(0, ge=0)
    max_tries: int = Field(3, ge=1)
    settle_s: float = Field(10.0, ge=0)
    ask_again_s: float = Field(30.0, gt=0)
    timeout_s: float = Field(60.0, gt=0)

    @model_validator(mode="after")
    def _can_be_reached(self) -> PacsRules:
        if not self.host and not self.url:
            raise ValueError("name the archive's host (and ae_title, port), or its DICOMweb url")
        return self


class GatherRules(_Table):
    """When a study is taken as complete, and which studies belong together."""

    quiet_period_s: float = Field(60.0, ge=0)
    poll_s: float = Field(2.0, gt=0)
    longest_wait_s: float = Field(1800.0, ge=0)
    recipe_wait_s: float = Field(600.0, ge=0)
    when_incomplete: Literal["queue", "hold"] = "queue"
    mpps_series: Literal["all", "begun"] = "all"
    expected_maps: tuple[str, ...] = ()
    expected_quality: tuple[Literal["crlb", "snr", "linewidth"], ...] = ()
    pair_by: tuple[Literal["frame_of_reference", "accession_number"], ...] = ("frame_of_reference",)
    pair_within_days: float = Field(30.0, gt=0)
    pacs: PacsRules | None = None


class SiteRule(_Table):
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


class IdentifyRules(_Table):
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


class FnlmRules(_Table):
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


class ResolveRules(_Table):
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


class OutputRules(_Table):
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
    key_objects: bool = False
    manufacturer: str = "mrsi-sr-node"
    model_name: str = "MRSI-SR"
    device_serial: str = "0"
    content_qualification: Literal["RESEARCH", "PRODUCT", "SERVICE"] = "RESEARCH"


class PeerRules(_Table):
    """Where a peer listens that asks us for storage commitment: our answer may need an association there."""

    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)


class RetentionRules(_Table):
    """Delivered studies are removed from the spool after ``keep_days``, ignored ones after
    ``keep_ignored_days``; nothing else ever is. Below ``make_room_mb`` of free space delivered studies go
    sooner, if every destination has proven that it keeps them.
    """

    keep_days: float = Field(30.0, gt=0)
    keep_ignored_days: float = Field(7.0, gt=0)
    make_room_mb: int = Field(0, ge=0)
    sweep_s: float = Field(600.0, gt=0)


class WorkerRules(_Table):
    """``name`` is unique per worker and stable across restarts; a shared database demands one.

    ``takeover_s``: a worker that dies for good has its work taken over by another within this time.
    """

    name: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,32}$")
    deliveries_at_once: int = Field(2, ge=1)
    takeover_s: float = Field(120.0, ge=6)


class LogRules(_Table):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    json_lines: bool = True


class Settings(BaseSettings):
    """The whole configuration. Environment: ``MRSI_NODE__NODE__PORT=11113`` overrides ``[node] port``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="MRSI_NODE__", env_nested_delimiter="__"
    )

    node: NodeRules = NodeRules()
    tls: TlsRules = TlsRules()
    storage: StorageRules = StorageRules()
    intake: IntakeRules = IntakeRules()
    watch: WatchRules = WatchRules()
    gather: GatherRules = GatherRules()
    identify: IdentifyRules = IdentifyRules()
    resolve: ResolveRules = ResolveRules()
    output: OutputRules = OutputRules()
    destination: tuple[Destination, ...] = ()
    peer: tuple[PeerRules, ...] = ()
    retention: RetentionRules = RetentionRules()
    worker: WorkerRules = WorkerRules()
    log: LogRules = LogRules()

    @model_validator(mode="after")
    def _destinations_are_told_apart(self) -> Settings:
        names = [d.name for d in self.destination]
        if len(set(names)) != len(names):
            raise ValueError("two destinations share a name; each needs its own")
        return self

    @model_validator(mode="after")
    def _the_archive_may_send_what_it_is_asked_for(self) -> Settings:
        pacs, callers = self.gather.pacs, self.node.allowed_callers
        moves = pacs is not None and pacs.host and pacs.fetch_anatomy and pacs.retrieve == "move"
        storing = {c.ae_title for c in callers if c.store}
        if pacs is not None and moves and callers and pacs.ae_title not in storing:
            raise ValueError(
                f"gather.pacs: {pacs.ae_title} sends what it is asked for: list it in allowed_callers"
            )
        return self

    @property
    def input_rules(self) -> IdentifyRules:
        """Identification that knows our own results by the name they are made under."""
        ours = dict.fromkeys((*self.identify.our_models, self.output.model_name))
        return self.identify.model_copy(
            update={
                "our_models": tuple(ours),
                "base_series": min(self.identify.base_series, self.output.base_series),
            }
        )

    def destination_named(self, name: str) -> Destination:
        """Raises BadConfiguration, listing the names there are."""
        for d in self.destination:
            if d.name == name:
                return d
        known = ", ".join(d.name for d in self.destination) or "none is configured"
        raise BadConfiguration(f"no destination {name!r}; there are: {known}")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = os.environ.get(_CONFIG_VARIABLE)
        if not toml:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(toml))


_CONFIG_VARIABLE = "MRSI_NODE_CONFIG"


def load(path: Path | None) -> Settings:
    """Read ``path`` (or the file named by MRSI_NODE_CONFIG, or defaults) and the environment.

    Raises BadConfiguration naming every bad key and what is wrong with it.
    """
    before = os.environ.get(_CONFIG_VARIABLE)
    if path is None and before:
        path = Path(before)
    if path is not None:
        if not path.is_file():
            raise BadConfiguration(f"no configuration file {path}")
        os.environ[_CONFIG_VARIABLE] = str(path)
    try:
        return Settings()
    except ValidationError as e:
        lines = [f"  {'.'.join(str(p) for p in err['loc'])}: {err['msg']}" for err in e.errors()]
        raise BadConfiguration(f"{path or 'configuration'} is not usable:\n" + "\n".join(lines)) from e
    except ValueError as e:  # tomllib's decode error
        raise BadConfiguration(f"{path or 'configuration'} is not TOML: {e}") from e
    finally:
        if before is None:
            os.environ.pop(_CONFIG_VARIABLE, None)
        else:
            os.environ[_CONFIG_VARIABLE] = before


def with_worker_name(settings: Settings, name: str) -> Settings:
    """``settings`` for a worker of another name. Raises BadConfiguration if it is not one."""
    try:
        rules = WorkerRules(name=name, deliveries_at_once=settings.worker.deliveries_at_once)
    except ValidationError as e:
        raise BadConfiguration(f"--name {name!r}: letters, digits, '_', '.' and '-', at most 32") from e
    return settings.model_copy(update={"worker": rules})


def as_table(settings: Settings) -> dict[str, Any]:
    """The resolved configuration as plain values, for ``check-config --json``."""
    table: dict[str, Any] = settings.model_dump(mode="json")
    return table
