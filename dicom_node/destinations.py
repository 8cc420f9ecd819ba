"""Where results go, how long that is tried, and what counts as delivered."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

AETitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[\x20-\x5B\x5D-\x7E]+$")]


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine and no other can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClientTls(_Table):
    """TLS to a peer: ``trusted`` authorities sign its certificate, which names ``server_name`` (default: its
    host); ``certificate`` and ``key`` are shown if it asks who we are.
    """

    trusted: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @model_validator(mode="after")
    def _whole(self) -> ClientTls:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        return self


class RetryRules(_Table):
    """Deliveries are tried ``first_s`` apart, doubling up to ``longest_s``, until ``give_up_after_s``.

    ``max_attempts`` ends them sooner, after so many failures in a row; 0 sets no such end.
    """

    first_s: float = Field(10.0, gt=0)
    longest_s: float = Field(3600.0, gt=0)
    give_up_after_s: float = Field(604800.0, gt=0)
    max_attempts: int = Field(0, ge=0)


class CircuitRules(_Table):
    """After ``failures`` in a row nothing but one probe each ``probe_s`` goes to a destination."""

    failures: int = Field(3, ge=1)
    probe_s: float = Field(60.0, gt=0)


class ProvingRules(_Table):
    """How proof that a destination keeps our objects is waited for."""

    stay_s: float = Field(3.0, ge=0)
    event_s: float = Field(3600.0, gt=0)
    settle_s: float = Field(30.0, ge=0)
    resend: int = Field(3, ge=0)


class _Destination(_Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]
    wait_for_release: bool = False
    explain_no_result: bool = False
    retry: RetryRules = RetryRules()
    circuit: CircuitRules = CircuitRules()
    proof: Literal["none", "query", "commitment"] = "none"
    proving: ProvingRules = ProvingRules()


Kind = Literal["MR", "SC", "PM", "REG", "SEG", "SR", "KO", "PR"]


class DicomDestination(_Destination):
    """A PACS, reached by C-STORE; proof by C-FIND ("query") or by storage commitment."""

    type: Literal["dicom"] = "dicom"
    may_lack: tuple[Kind, ...] = ()
    maps_as_mr: bool = True
    label_maps: bool = False
    enhanced_mr: bool = False
    compress_pictures: bool = False
    ae_title: AETitle
    host: str
    port: int = Field(ge=1, le=65535)
    tls: ClientTls | None = None
    send: tuple[Kind, ...] = get_args(Kind)


class DicomWebDestination(_Destination):
    """A DICOMweb server, reached by STOW-RS at ``url``/studies; proof by QIDO-RS ("query").

    A bearer token, or a user's password, comes from an environment variable or a file, never from here.
    """

    type: Literal["dicomweb"] = "dicomweb"
    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    send: tuple[Kind, ...] = get_args(Kind)
    proof: Literal["none", "query"] = "none"
    token_env: str = ""
    token_file: Path | None = None
    user: str = ""
    password_env: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    may_lack: tuple[Kind, ...] = ()
    maps_as_mr: bool = True
    label_maps: bool = False
    enhanced_mr: bool = False

    @model_validator(mode="after")
    def _secrets_stay_secret(self) -> DicomWebDestination:
        token, password = self.token_env or self.token_file, self.password_env or self.password_file
        if token and (self.user or password):
            raise ValueError("a token and a user are two ways to say who we are: set one of them")
        if bool(self.user) != bool(password):
            raise ValueError("user and password_env (or password_file) belong together")
        host = urlsplit(self.url).hostname or ""
        if (token or password) and self.url.startswith("http:") and not is_loopback(host):
            raise ValueError("a token or password over http:// can be read on the way: use https://")
        return self


class FolderDestination(_Destination):
    """A folder that gets the DICOM objects and, beside them, NIfTI and report.json.

    ``layout = "bids"``: as a BIDS derivatives data set, in which Patient IDs name subjects.
    """

    type: Literal["folder"] = "folder"
    folder: Path
    layout: Literal["results", "bids"] = "results"
    proof: Literal["none"] = "none"


Destination = Annotated[
    DicomDestination | DicomWebDestination | FolderDestination, Field(discriminator="type")
]
