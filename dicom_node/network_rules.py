"""Who we are on the network, who may talk to us, and whom we ask: [node], [tls], [[peer]], [gather.pacs]."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .destinations import AETitle, ClientTls, is_loopback
from .recipe import Table


class Caller(Table):
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


class NodeRules(Table):
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


class TlsRules(Table):
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


class PeerRules(Table):
    """Where a peer listens that asks us for storage commitment: our answer may need an association there."""

    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)
    tls: ClientTls | None = None


class PacsRules(Table):
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
    tls: ClientTls | None = None

    @model_validator(mode="after")
    def _can_be_reached(self) -> PacsRules:
        if not self.host and not self.url:
            raise ValueError("name the archive's host (and ae_title, port), or its DICOMweb url")
        return self
