"""Where the node's page is, who may see it, and how they say who they are."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .destinations import is_loopback
from .recipe import Table

_Header = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class WebRules(Table):
    """The page. On loopback it needs no login; anywhere else it is served with TLS and login, or not at all.

    ``login``: "local" are users made by ``mrsi-node user add``; with "proxy" a reverse proxy that has
    authenticated the person says who it is, in headers that are believed from ``proxy_networks`` alone.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    login: Literal["none", "local", "proxy"] = "none"
    session_hours: float = Field(12.0, gt=0)
    idle_minutes: float = Field(60.0, gt=0)
    proxy_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    proxy_user_header: _Header = "X-Forwarded-User"
    proxy_groups_header: _Header = "X-Forwarded-Groups"
    proxy_viewers: tuple[str, ...] = ()
    proxy_operators: tuple[str, ...] = ()
    proxy_admins: tuple[str, ...] = ()
    max_upload_mb: int = Field(64, ge=1)

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where a browser on this machine, or one that knows its address, finds the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}/"

    @model_validator(mode="after")
    def _strangers_stay_out(self) -> WebRules:
        if not self.enabled or self.loopback:
            return self
        if self.login == "none":
            raise ValueError(
                f'host {self.host} is reachable from the network: set login to "local" (and make users with '
                'mrsi-node user add) or to "proxy", or set host to 127.0.0.1'
            )
        if self.certificate is None:
            raise ValueError(
                f"host {self.host} is reachable from the network: name certificate and key, or set host to "
                "127.0.0.1 and let a reverse proxy on this machine speak TLS"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> WebRules:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: one of them is missing")
        if self.login != "proxy":
            return self
        if not self.proxy_networks:
            raise ValueError("proxy_networks: from which addresses does the reverse proxy call?")
        if any(n.prefixlen == 0 for n in self.proxy_networks):
            raise ValueError("proxy_networks: the whole internet is no reverse proxy; name its address")
        if not (self.proxy_viewers or self.proxy_operators or self.proxy_admins):
            raise ValueError(
                'proxy_viewers, proxy_operators, proxy_admins: name the groups; "*" is everyone it names'
            )
        return self
