"""config/node.toml + environment -> frozen Settings. An unknown key is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .destinations import (
    CircuitRules,
    ClientTls,
    Destination,
    DicomDestination,
    DicomWebDestination,
    FolderDestination,
    ProvingRules,
    RetryRules,
)
from .errors import BadConfiguration
from .network_rules import Caller, NodeRules, PacsRules, PeerRules, TlsRules
from .recipe import FnlmRules, IdentifyRules, OutputRules, QuantifyRules, ResolveRules, SiteRule, Table
from .telling import AuditRules, NotifyRules
from .web_rules import WebRules

# Besides the tables of this module: those of the rooms beside it.
__all__ = [
    "Caller",
    "CircuitRules",
    "ClientTls",
    "Destination",
    "DicomDestination",
    "DicomWebDestination",
    "FnlmRules",
    "FolderDestination",
    "IdentifyRules",
    "NodeRules",
    "OutputRules",
    "PacsRules",
    "PeerRules",
    "ProvingRules",
    "QuantifyRules",
    "ResolveRules",
    "RetryRules",
    "SiteRule",
    "TlsRules",
    "WebRules",
]


_DatabaseUrl = Annotated[str, Field(pattern=r"^(postgresql(\+psycopg)?://\S+)?$")]


class StorageRules(Table):
    """Where bytes and rows live. ``database`` may be a PostgreSQL URL; empty means SQLite in ``folder``."""

    folder: Path = Path("data")
    database: _DatabaseUrl = ""
    engine_database: _DatabaseUrl = ""
    low_water_mb: int = Field(1024, ge=0)

    @model_validator(mode="after")
    def _shared_together(self) -> StorageRules:
        """Whoever can reach the rows must be able to reach the engine's queue, and the other way round."""
        if self.database and not self.engine_database:
            raise ValueError(
                "engine_database: database is PostgreSQL, which workers on other machines can share; each "
                "would do every study again if the workflow engine kept a file of its own. Name a second "
                "database for it, on the same server say, and run mrsi-node migrate"
            )
        if self.engine_database and not self.database:
            raise ValueError(
                "database: engine_database is PostgreSQL, so that another node could share it and take over "
                "work whose rows are in this one's file. Name a database for rows too, or leave both empty"
            )
        return self

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.folder.resolve() / 'node.sqlite'}"

    @property
    def engine_url(self) -> str:
        return self.engine_database or f"sqlite:///{self.folder.resolve() / 'engine.sqlite'}"


class IntakeRules(Table):
    """What one received file may cost, and what becomes of those that are refused."""

    max_nesting: int = Field(64, ge=1, le=100)
    max_elements: int = Field(2_000_000, ge=1000)
    max_inflated_mb: int = Field(2048, ge=1)
    max_inflation: int = Field(100, ge=2)
    max_seconds: float = Field(20.0, gt=0)
    zip_files: int = Field(50_000, ge=1)
    zip_mb: int = Field(8192, ge=1)
    deidentify: bool | tuple[str, ...] = False
    deidentify_key_file: Path | None = None
    quarantine: bool = True
    quarantine_mb: int = Field(2048, ge=0)

    @model_validator(mode="after")
    def _pseudonyms_have_a_key(self) -> IntakeRules:
        if self.deidentify and self.deidentify_key_file is None:
            raise ValueError(
                "deidentify_key_file: name a file with the site's key; whoever has it can tell who is who"
            )
        return self

    def deidentifies(self, source: str) -> bool:
        """Whether what comes from ``source`` (a calling AE title, or "folder:…") is de-identified."""
        if isinstance(self.deidentify, bool):
            return self.deidentify
        return source.partition(":")[0] in self.deidentify


class WatchRules(Table):
    """Watch folder for research sites. No folder, no watching."""

    folder: Path | None = None
    scan_s: float = Field(2.0, gt=0)


class GatherRules(Table):
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


class GateRules(Table):
    """What objects must pass before they leave, besides our own check: dciodvfy, where it is installed."""

    dciodvfy: Literal["series", "all", "off"] = "series"
    dciodvfy_s: float = Field(60.0, gt=0)


class RetentionRules(Table):
    """Delivered studies are removed from the spool after ``keep_days``, ignored ones after
    ``keep_ignored_days``; no other study ever is. Below ``make_room_mb`` of free space delivered studies go
    sooner, if every destination has proven that it keeps them. A received file that belongs to no study
    here goes after ``keep_days`` too.
    """

    keep_days: float = Field(30.0, gt=0)
    keep_ignored_days: float = Field(7.0, gt=0)
    make_room_mb: int = Field(0, ge=0)
    sweep_s: float = Field(600.0, gt=0)


class WorkerRules(Table):
    """``name`` is unique per worker and stable across restarts; a shared database demands one.

    ``takeover_s``: a worker that dies for good has its work taken over by another within this time.
    ``predecessor_s``: a worker that starts waits so long for another of its name that is still draining.
    """

    name: str = Field("", pattern=r"^[A-Za-z0-9_.-]{0,32}$")
    deliveries_at_once: int = Field(2, ge=1)
    takeover_s: float = Field(120.0, ge=6)
    predecessor_s: float = Field(60.0, ge=0)


class LogRules(Table):
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
    quantify: QuantifyRules = QuantifyRules()
    resolve: ResolveRules = ResolveRules()
    output: OutputRules = OutputRules()
    gate: GateRules = GateRules()
    destination: tuple[Destination, ...] = ()
    peer: tuple[PeerRules, ...] = ()
    retention: RetentionRules = RetentionRules()
    worker: WorkerRules = WorkerRules()
    notify: NotifyRules = NotifyRules()
    audit: AuditRules = AuditRules()
    web: WebRules = WebRules()
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

    @model_validator(mode="after")
    def _an_archive_knows_no_pseudonyms(self) -> Settings:
        if self.intake.deidentify and self.gather.pacs is not None:
            raise ValueError("intake.deidentify: gather.pacs cannot be asked for studies under other UIDs")
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
        rules = WorkerRules.model_validate({**settings.worker.model_dump(), "name": name})
    except ValidationError as e:
        raise BadConfiguration(f"--name {name!r}: letters, digits, '_', '.' and '-', at most 32") from e
    return settings.model_copy(update={"worker": rules})


def as_table(settings: Settings) -> dict[str, Any]:
    """The resolved configuration as plain values, for ``check-config --json``."""
    table: dict[str, Any] = settings.model_dump(mode="json")
    return table
