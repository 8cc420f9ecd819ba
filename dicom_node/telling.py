"""Whom the node tells of what happens: people by e-mail or webhook, an audit repository by syslog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .destinations import is_loopback
from .recipe import Table

# failed: a study gave up; held: one waits for a person; quarantine: a file was refused and kept;
# destination: one stopped answering, or answers again; node: disk, workers, certificate; done, withdrawn.
About = Literal["failed", "held", "quarantine", "destination", "node", "done", "withdrawn"]

_Address = Annotated[str, Field(pattern=r"^[^@\s<>\x00-\x1f]+@[^@\s<>\x00-\x1f]+$")]


class EmailRules(Table):
    """A mail server that takes our messages; the password comes from the environment or a file."""

    host: str
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: Path | None = None
    user: str = ""
    password_env: str = ""
    password_file: Path | None = None
    sender: _Address
    recipients: tuple[_Address, ...] = Field(min_length=1)
    about: tuple[About, ...] = ("failed", "held", "quarantine", "destination", "node")

    @model_validator(mode="after")
    def _password_stays_secret(self) -> EmailRules:
        if bool(self.user) != bool(self.password_env or self.password_file):
            raise ValueError("user and password_env (or password_file) belong together")
        if self.user and self.security == "none" and not is_loopback(self.host):
            raise ValueError("a password without TLS can be read on the way: use starttls or tls")
        return self


class WebhookRules(Table):
    """A URL that gets each message as JSON by POST."""

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    ca_file: Path | None = None
    token_env: str = ""
    token_file: Path | None = None
    about: tuple[About, ...] = ("failed", "held", "quarantine", "destination", "node")


class NotifyRules(Table):
    """Messages to people. Without ``with_reasons`` they hold no word that a person or a header wrote."""

    with_reasons: bool = False
    page_url: str = Field("", pattern=r"^(https?://\S+)?$")
    poll_s: float = Field(10.0, gt=0)
    email: EmailRules | None = None
    webhook: WebhookRules | None = None


class AuditRules(Table):
    """DICOM audit messages (PS3.15 A.5) by syslog. They name patients: the repository must be trusted."""

    host: str = ""
    port: int = Field(6514, ge=1, le=65535)
    transport: Literal["tls", "udp"] = "tls"
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    site: str = ""

    @model_validator(mode="after")
    def _patients_stay_secret(self) -> AuditRules:
        if self.host and self.transport == "udp" and not is_loopback(self.host):
            raise ValueError('audit messages name patients: over a network use transport = "tls"')
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together")
        return self
