"""The TLS port: BCP 195 (PS3.15 B.12), certificates bound to AE titles, and what goes wrong with both."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from structlog.testing import capture_logs
from structlog.typing import EventDict

from dicom_node.config import NodeRules, TlsRules
from dicom_node.demo import free_port
from dicom_node.errors import BadConfiguration
from dicom_node.listener import Listener
from dicom_node.tls import Credentials, ends_at
from dicom_node.torture import wire
from tests.authority import Authority
from tests.doors import as_file, mr_slice, open_intake

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
pytestmark = needs_openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls") / "ca")
    for name in ("node", "scanner", "other"):
        authority.issue(name)
    return authority


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    with capture_logs() as caught:
        yield caught


Serve = Callable[..., tuple[int, int]]


@pytest.fixture
def serve(tmp_path: Path, authority: Authority, events: list[EventDict]) -> Iterator[Serve]:
    """Starts a listener; gives its plain and its TLS port."""
    with ExitStack() as stack:

        def start(client: str = "required", **rules: object) -> tuple[int, int]:
            node = NodeRules(**{"port": free_port(), "acse_timeout_s": 5, **rules})  # type: ignore[arg-type]
            tls = TlsRules(
                port=free_port(),
                certificate=authority.folder / "node.pem",
                key=authority.folder / "node.key",
                trusted=authority.certificate,
                client=client,  # type: ignore[arg-type]
            )
            listener = Listener(node, open_intake(tmp_path), tls=tls)
            listener.start()
            stack.callback(listener.stop, drain_s=0)
            return node.port, tls.port

        yield start


def client(authority: Authority, name: str | None = None, of: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if name is not None:
        folder = (of or authority).folder
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="localhost"
    )


def ask(port: int, context: ssl.SSLContext, calling: str = "TESTER") -> tuple[int, bytes]:
    """Type and body of the answer to an association request."""
    with connect(port, context) as peer:
        peer.sendall(wire.associate([(wire.VERIFICATION, ExplicitVRLittleEndian)], calling=calling))
        return wire.read_pdu(peer)


def reasons(events: list[EventDict]) -> str:
    return " ".join(str(e.get("reason")) for e in events)


@pytest.mark.peers
def test_storescu_delivers_over_tls(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    storescu = shutil.which("storescu", path="/usr/bin")
    if storescu is None:
        pytest.skip("storescu is not installed (apt-get install dcmtk)")
    _, port = serve()
    (tmp_path / "1.dcm").write_bytes(as_file(mr_slice()))
    own = ("+tls", authority.folder / "scanner.key", authority.folder / "scanner.pem")
    command = [storescu, "-v", *own, "+cf", authority.certificate, "-aec", "MRSISR", "127.0.0.1", port]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "1.dcm")],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "spool" / "in").rglob("*.dcm"))) == 1


def test_tls_is_1_2_or_newer_with_forward_secrecy(serve: Serve, authority: Authority) -> None:
    _, port = serve()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client(authority, "scanner")
        context.minimum_version = context.maximum_version = version
        with connect(port, context) as peer:
            name, _, _ = peer.cipher() or ("", "", 0)
            assert name.startswith(("ECDHE", "TLS_")), name
            assert "GCM" in name or "CHACHA20" in name
    weak = client(authority, "scanner")
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES256-SHA256:AES128-SHA:@SECLEVEL=0")  # no forward secrecy
    with pytest.raises(OSError, match=r"."):
        connect(port, weak)
    old = client(authority, "scanner")
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"."):
        connect(port, old)


def test_without_a_certificate_of_ours_nobody_gets_in(
    serve: Serve, authority: Authority, events: list[EventDict], tmp_path: Path
) -> None:
    _, port = serve()
    stranger = Authority(tmp_path / "stranger")
    stranger.issue("scanner")
    for context in (client(authority), client(authority, "scanner", of=stranger)):
        with pytest.raises((OSError, ConnectionError)):
            ask(port, context)
    assert ask(port, client(authority, "scanner"))[0] == 0x02
    assert "TLS handshake failed" in reasons(events)


def test_where_certificates_are_optional_one_without_is_taken(serve: Serve, authority: Authority) -> None:
    _, port = serve(client="optional")
    assert ask(port, client(authority))[0] == 0x02


def test_a_title_bound_to_a_certificate_is_that_one_s_only(
    serve: Serve, authority: Authority, events: list[EventDict]
) -> None:
    """AE titles can be made up; certificates cannot."""
    caller = {"ae_title": "SCANNER", "certificates": ["scanner.example"]}
    plain, port = serve(allowed_callers=(caller,))
    refused = (0x03, bytes((0, 1, 1, 3)))
    assert ask(port, client(authority, "scanner"), "SCANNER")[0] == 0x02
    assert ask(port, client(authority, "other"), "SCANNER") == refused
    assert ask(port, client(authority, "scanner"), "SOMEONE") == refused
    with socket.create_connection(("127.0.0.1", plain), timeout=20) as peer:
        peer.sendall(wire.associate(calling="SCANNER"))
        assert wire.read_pdu(peer) == refused
    assert "must call the TLS port" in reasons(events)


def test_class_15_plain_dicom_on_the_tls_port_is_said_in_words(
    serve: Serve, authority: Authority, events: list[EventDict]
) -> None:
    _, port = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(wire.associate())
        with suppress(ConnectionResetError):
            assert peer.recv(100) == b""
    assert "plain DICOM to the TLS port" in reasons(events)


def test_silent_handshakes_hold_up_nobody_and_end(
    serve: Serve, authority: Authority, events: list[EventDict]
) -> None:
    plain, port = serve(acse_timeout_s=6)
    with ExitStack() as stack:
        silent = []
        for start in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") * 5:
            silent.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)))
            silent[-1].sendall(start)
        assert ask(port, client(authority, "scanner"))[0] == 0x02
        assert wire.echo(plain) == 0x0000
        assert select(silent[-1:], [], [], 0)[0] == [], "they had to wait for the silent ones"
        for peer in silent:
            assert peer.recv(100) == b""
    assert "TLS handshake in time" in reasons(events)


def test_a_renewed_certificate_is_taken_without_a_restart(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[EventDict]
) -> None:
    monkeypatch.setattr("dicom_node.tls._LOOK_S", 0.0)
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    shutil.copy(authority.folder / "node.pem", certificate)
    shutil.copy(authority.folder / "node.key", key)
    credentials = Credentials(TlsRules(certificate=certificate, key=key, client="optional"))
    first = credentials.context
    credentials.look()
    assert credentials.context is first
    certificate.write_text("half a certi")
    credentials.look()
    assert credentials.context is first, "the old one goes on until the new one is whole"
    for path, new in zip((certificate, key), authority.issue("renewed"), strict=True):
        shutil.copy(new, path)
    credentials.look()
    assert credentials.context is not first
    assert [e["event"] for e in events] == ["tls.not_reloaded", "tls.reloaded"]


def test_a_certificate_that_went_away_is_said_so_and_the_old_one_goes_on(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[EventDict]
) -> None:
    monkeypatch.setattr("dicom_node.tls._LOOK_S", 0.0)
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    shutil.copy(authority.folder / "node.pem", certificate)
    shutil.copy(authority.folder / "node.key", key)
    credentials = Credentials(TlsRules(certificate=certificate, key=key, client="optional", warn_days=0))
    first = credentials.context
    credentials._warned = float("-inf")  # a day has passed: its end is looked at again
    certificate.unlink()
    credentials.look()
    assert credentials.context is first
    assert [e["event"] for e in events] == ["tls.not_reloaded", "tls.certificate_unreadable"]


def test_a_certificate_that_ends_soon_is_said_so(authority: Authority, events: list[EventDict]) -> None:
    certificate, key = authority.issue("short", days=10)
    assert 9 < (ends_at(certificate) - time.time()) / 86400 < 11
    Credentials(TlsRules(certificate=certificate, key=key, client="optional"))
    assert [(e["event"], e["days"]) for e in events] == [("tls.certificate_ends", 10)]


def test_a_key_that_is_not_the_certificate_s_is_refused_by_name(authority: Authority) -> None:
    rules = TlsRules(
        certificate=authority.folder / "node.pem",
        key=authority.folder / "other.key",
        trusted=authority.certificate,
    )
    with pytest.raises(BadConfiguration, match=r"node\.pem and key .*other\.key"):
        Credentials(rules)
