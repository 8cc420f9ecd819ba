"""TLS of the second port, and to peers: BCP 195 (RFC 8996, RFC 9325) as PS3.15 B.12 asks it."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from . import log
from .config import ClientTls, TlsRules
from .errors import BadConfiguration
from .web_rules import WebRules

_LOG = log.get("tls")

# For TLS 1.2; forward secrecy and authenticated encryption only (RFC 9325 4.2). TLS 1.3 has its own.
CIPHERS = ":".join(
    f"{exchange}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-GCM-SHA256")
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA")
)
_DAY_S = 86400.0
_LOOK_S = 5.0


def server_context(rules: TlsRules) -> ssl.SSLContext:
    """Raises BadConfiguration, naming the file, if certificate, key or authorities cannot be used."""
    assert rules.certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        # A password prompt would wait for ever: a key that needs one is refused.
        context.load_cert_chain(rules.certificate, rules.key, password=lambda: "")
    except OSError as e:
        raise BadConfiguration(
            f"certificate {rules.certificate} and key {rules.key} cannot be used together: {e.strerror or e}"
        ) from e
    context.verify_mode = ssl.CERT_REQUIRED if rules.client == "required" else ssl.CERT_OPTIONAL
    if rules.trusted is not None:
        try:
            context.load_verify_locations(rules.trusted)
        except OSError as e:
            raise BadConfiguration(
                f"tls.trusted {rules.trusted} cannot be read as certificates: {e.strerror or e}"
            ) from e
    else:
        context.verify_mode = ssl.CERT_NONE  # there is nobody to verify against
    return context


def of_page(rules: WebRules) -> TlsRules:
    """The page's certificate, by the same rules; browsers show none."""
    return TlsRules(certificate=rules.certificate, key=rules.key, client="optional")


class ClientContext(ssl.SSLContext):
    """For associations that we request. ``problem``: why the peer's certificate is not trusted, in words."""

    problem = ""


class _Telling(ssl.SSLSocket):
    """Leaves in its context why the handshake failed: who connects hears only that it did."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as e:
            assert isinstance(self.context, ClientContext)
            self.context.problem = e.verify_message
            raise


def client_context(rules: ClientTls) -> ClientContext:
    """Raises BadConfiguration, naming the file, if certificate, key or authorities cannot be used."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Telling
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    try:
        context.load_verify_locations(rules.trusted)
    except OSError as e:
        words = f"tls.trusted {rules.trusted} cannot be read as certificates: {e.strerror or e}"
        raise BadConfiguration(words) from e
    if rules.certificate is not None:
        try:
            context.load_cert_chain(rules.certificate, rules.key, password=lambda: "")
        except OSError as e:
            raise BadConfiguration(
                f"tls.certificate {rules.certificate} and tls.key {rules.key} cannot be used together: "
                f"{e.strerror or e}"
            ) from e
    return context


def trusting(whose: str, authorities: Path | None) -> ssl.SSLContext:
    """For connections that we begin: a server's certificate must be signed by ``authorities``, else by one of
    the system's. Raises BadConfiguration, naming ``whose`` they are, if they cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    except OSError as e:
        raise BadConfiguration(f"{whose}: cannot read ca_file {authorities}") from e
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def ends_at(certificate: Path) -> float:
    """When a certificate in PEM ends, in UTC seconds since the epoch."""
    decoded = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]  # no public way
    return float(ssl.cert_time_to_seconds(decoded["notAfter"]))


class Credentials:
    """The context in use; read again when its files change, so that renewal needs no restart."""

    def __init__(self, rules: TlsRules) -> None:
        self._rules = rules
        self._files = [f for f in (rules.certificate, rules.key, rules.trusted) if f is not None]
        self._seen = self._stamps()
        self.context = server_context(rules)
        self._looked = time.monotonic()
        self._warned = float("-inf")
        self._warn()

    def look(self) -> None:
        """To be called often: looks at the files every few seconds, and warns of the end every day."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        stamps = self._stamps()
        if stamps != self._seen:
            try:
                self.context = server_context(self._rules)
            except BadConfiguration as problem:  # written halfway, or wrong: the old one goes on
                _LOG.warning("tls.not_reloaded", reason=str(problem))
            else:
                _LOG.info("tls.reloaded", certificate=str(self._rules.certificate))
                self._warned = float("-inf")
            self._seen = stamps
        if now - self._warned >= _DAY_S:
            self._warn()

    def _stamps(self) -> list[tuple[int, int]]:
        found = []
        for file in self._files:
            try:
                stat = file.stat()
                found.append((stat.st_mtime_ns, stat.st_size))
            except OSError:
                found.append((0, 0))
        return found

    def _warn(self) -> None:
        assert self._rules.certificate is not None
        self._warned = time.monotonic()
        try:
            days = (ends_at(self._rules.certificate) - time.time()) / _DAY_S
        except (OSError, ValueError) as e:  # it went away: the one in use goes on
            _LOG.error("tls.certificate_unreadable", certificate=str(self._rules.certificate), reason=str(e))
            return
        if days < 0:
            _LOG.error("tls.certificate_ended", certificate=str(self._rules.certificate), days=round(-days))
        elif days < self._rules.warn_days:
            _LOG.warning("tls.certificate_ends", certificate=str(self._rules.certificate), days=round(days))
