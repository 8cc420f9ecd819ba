"""Who may call: AE title, address and certificate against the configured list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any

from .config import Caller

ANYONE = Caller(ae_title="ANY")


class Unwelcome(Exception):
    """Why a caller is refused, in words for the log."""


class Callers:
    """The list of allowed callers; an empty one admits anyone (the configuration sees to loopback)."""

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._callers = tuple(callers)

    def admit(self, ae_title: str, address: str, certificate: frozenset[str] | None) -> Caller:
        """The rule that ``ae_title`` comes under. ``certificate``: its names, None without TLS.

        Raises Unwelcome if there is none for this title, address and certificate together.
        """
        if not self._callers:
            return ANYONE
        titled = [c for c in self._callers if c.ae_title.strip() == ae_title]
        if not titled:
            raise Unwelcome("the calling AE title is not in node.allowed_callers")
        ip = ip_address(address.partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        near = [c for c in titled if not c.networks or any(ip in network for network in c.networks)]
        if not near:
            raise Unwelcome("the calling AE title may not call from this address (node.allowed_callers)")
        for caller in near:
            if not caller.certificates:
                return caller
            if certificate and certificate & {plain_name(name) for name in caller.certificates}:
                return caller
        if certificate is None:
            raise Unwelcome("the calling AE title is bound to a certificate: it must call the TLS port")
        raise Unwelcome("the certificate is not one of those the calling AE title is bound to")


def names_of(certificate: Mapping[str, Any], der: bytes) -> frozenset[str]:
    """What a verified certificate is called: subject CN, SAN dNSName and URI, ``sha256:`` fingerprint."""
    names = {f"sha256:{hashlib.sha256(der).hexdigest()}"}
    for part in certificate.get("subject", ()):
        names |= {value for key, value in part if key == "commonName"}
    names |= {value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")}
    return frozenset(plain_name(name) for name in names)


def plain_name(name: str) -> str:
    """Lower case; a fingerprint without its colons."""
    name = name.strip().lower()
    if name.startswith("sha256:"):
        return "sha256:" + name.removeprefix("sha256:").replace(":", "")
    return name
