"""STOW-RS and QIDO-RS: against Orthanc's DICOMweb plugin, and a server whose answers the test chooses."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import DicomWebDestination
from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.study import DeliveryState
from tests.harness import needs_orthanc
from tests.results import Office

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

needs_plugin = pytest.mark.skipif(not PLUGIN.exists(), reason="apt-get install orthanc-dicomweb")

QUERY = {"proof": "query", "proving": {"settle_s": 20.0, "resend": 1}}


def web(port: int, **changed: Any) -> DicomWebDestination:
    scheme = changed.pop("scheme", "http")
    return DicomWebDestination(name="archive", url=f"{scheme}://127.0.0.1:{port}/dicom-web", **changed)


class Server:
    """Answers each request by ``answer(method, path, headers, body)`` -> (status, JSON or bytes or None)."""

    def __init__(self, answer: Callable[..., tuple[int, Any]]) -> None:
        self.requests: list[tuple[str, str, Any, bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append((self.command, self.path, self.headers, body))
                status, content = answer(*server.requests[-1])
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                data = b"" if content is None else data
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]

    @contextmanager
    def running(self, certificate: Path | None = None) -> Iterator[Server]:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()


def said(kept: dict[str, int], failed: dict[str, int] | None = None) -> dict[str, Any]:
    """The body of a STOW-RS answer: warning reasons of what is kept, failure reasons of what is not."""

    def items(reasons: dict[str, int], tag: str) -> list[dict[str, Any]]:
        return [
            {
                "00081155": {"vr": "UI", "Value": [uid]},
                **({tag: {"vr": "US", "Value": [reason]}} if reason else {}),
            }
            for uid, reason in reasons.items()
        ]

    answer = {"00081199": {"vr": "SQ", "Value": items(kept, "00081196")}}
    if failed:
        answer["00081198"] = {"vr": "SQ", "Value": items(failed, "00081197")}
    return answer


@needs_orthanc
@needs_plugin
def test_orthanc_takes_everything_and_shows_it(tmp_path):
    """With a user and a password, which is nowhere but in its file."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    pacs = LoopbackOrthanc(
        tmp_path / "orthanc",
        Plugins=[str(PLUGIN)],
        AuthenticationEnabled=True,
        RegisteredUsers={"mrsi": "s3cret"},
    )
    pacs.start()
    try:
        destination = web(pacs.http_port, user="mrsi", password_file=secret, **QUERY)
        office = Office(tmp_path, destination)
        uids = office.result_set()
        delivery = office.work_on()
        assert delivery.state is DeliveryState.DELIVERED, delivery.reason
        assert office.statuses() == dict.fromkeys(uids, "0000")
        assert office.store.unproven(delivery) == []

        secret.write_text("wrong")
        other = Office(tmp_path / "other", destination)
        other.result_set()
        refused = other.work_on()
        assert refused.state is DeliveryState.FAILED
        assert "HTTP 401" in refused.reason and "check token or user" in refused.reason
    finally:
        pacs.stop()


def test_the_request_is_whole_multipart_with_a_token_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVE_TOKEN", "t0ken")
    with Server(lambda *_: (200, None)).running() as server:
        office = Office(tmp_path, web(server.port, token_env="ARCHIVE_TOKEN"))
        office.result_set()
        assert office.work_on().state is DeliveryState.DELIVERED
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("POST", "/dicom-web/studies")
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    boundary = headers["Content-Type"].rsplit("=", 1)[1].encode()
    parts = body.split(b"--" + boundary)
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    files = sorted(office.spool.root.rglob("out/**/*.dcm"))
    start = b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert parts[1:-1] == [start + f.read_bytes() + b"\r\n" for f in files]


def test_a_secret_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ARCHIVE_TOKEN", raising=False)
    office = Office(tmp_path, web(free_port(), token_env="ARCHIVE_TOKEN"))
    office.result_set()
    delivery = office.work_on()
    assert delivery.state is DeliveryState.FAILED
    assert "ARCHIVE_TOKEN is not set" in delivery.reason


def test_each_object_has_its_own_fate(tmp_path):
    """202: two kept, one with a warning; one refused for good. The others are not sent again."""
    uids: list[str] = []

    def answer(*_: object) -> tuple[int, Any]:
        return 202, said({uids[0]: 0, uids[1]: 0xB000, uids[2]: 0}, {uids[3]: 0x0122})

    with Server(answer).running() as server:
        office = Office(tmp_path, web(server.port))
        uids += office.result_set()
        delivery = office.work_on()
    assert delivery.state is DeliveryState.FAILED
    assert "PM_3: it answered it does not support the SOP class (status 0122)" in delivery.reason
    assert office.statuses() == {uids[0]: "0000", uids[1]: "B000", uids[2]: "0000"}


def test_objects_put_off_are_sent_again_later_and_only_they(tmp_path):
    uids: list[str] = []

    def answer(_method: str, _path: str, _headers: object, body: bytes) -> tuple[int, Any]:
        if len(server.requests) == 1:
            return 409, said({uids[0]: 0}, dict.fromkeys(uids[1:], 42752))
        return 200, said(dict.fromkeys(uids[1:], 0))

    server = Server(answer)
    with server.running():
        office = Office(tmp_path, web(server.port))
        uids += office.result_set()
        assert office.work_on().state is DeliveryState.WAITING
        assert not office.store.standing("archive").failures
        office.clock.now += 60
        assert office.work_on().state is DeliveryState.DELIVERED
    assert uids[0].encode() in server.requests[0][3]
    assert uids[0].encode() + b"\0" not in server.requests[1][3]


def test_an_object_that_the_answer_leaves_out_was_not_stored(tmp_path):
    uids: list[str] = []
    with Server(lambda *_: (200, said(dict.fromkeys(uids[:3], 0)))).running() as server:
        office = Office(tmp_path, web(server.port))
        uids += office.result_set()
        assert office.work_on().state is DeliveryState.WAITING
    assert set(office.statuses()) == set(uids[:3])


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (500, DeliveryState.WAITING, "it cannot now"),
        (503, DeliveryState.WAITING, "it cannot now"),
        (429, DeliveryState.WAITING, "it cannot now"),
        (400, DeliveryState.FAILED, "check the url"),
        (403, DeliveryState.FAILED, "check token or user"),
        (301, DeliveryState.FAILED, "set the new url"),
        (409, DeliveryState.FAILED, "refused every object"),
    ],
)
def test_http_says_who_can_help(tmp_path, status, state, words):
    with Server(lambda *_: (status, None)).running() as server:
        office = Office(tmp_path, web(server.port))
        office.result_set()
        delivery = office.work_on()
    assert delivery.state is state
    assert words in delivery.reason


def test_nobody_there_is_a_reason_to_wait(tmp_path):
    office = Office(tmp_path, web(free_port(), circuit={"failures": 1}))
    office.result_set()
    delivery = office.work_on()
    assert delivery.state is DeliveryState.WAITING
    assert "cannot be reached" in delivery.reason
    assert office.store.standing("archive").open


def test_an_answer_that_is_no_dicom_json_is_refused(tmp_path):
    with Server(lambda *_: (200, b"<html>login</html>")).running() as server:
        office = Office(tmp_path, web(server.port))
        office.result_set()
        assert "not JSON" in office.work_on().reason


def test_qido_is_read_page_by_page_and_what_it_does_not_show_is_sent_again(tmp_path):
    uids: list[str] = []

    def answer(method: str, path: str, *_: object) -> tuple[int, Any]:
        if method == "POST":
            return 200, None
        series = [u for u in uids if path.startswith(f"/dicom-web/studies/{u.rsplit('.', 2)[0]}/")]
        offset = int(path.rsplit("=", 1)[1])
        shown = series[offset : offset + 1]  # a server of small pages that never shows the last object
        shown = [u for u in shown if u != uids[3]]
        return (200, [{"00080018": {"vr": "UI", "Value": [u]}} for u in shown]) if shown else (204, None)

    with Server(answer).running() as server:
        office = Office(tmp_path, web(server.port, **QUERY))
        uids += office.result_set()
        assert "does not show 1 of 4" in office.work_on().reason
        office.clock.now += 21
        office.work_on()
        office.clock.now += 21
        delivery = office.work_on()
    assert delivery.state is DeliveryState.FAILED
    assert sum(method == "POST" for method, *_ in server.requests) == 2


def test_a_certificate_is_checked_against_the_configured_authority(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    pem = tmp_path / "server.pem"
    made = subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out", tmp_path / "crt"],
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "crt").read_bytes())
    with Server(lambda *_: (200, None)).running(pem) as server:
        trusting = Office(tmp_path / "a", web(server.port, scheme="https", ca_file=tmp_path / "crt"))
        trusting.result_set()
        assert trusting.work_on().state is DeliveryState.DELIVERED
        wary = Office(tmp_path / "b", web(server.port, scheme="https"))
        wary.result_set()
        delivery = wary.work_on()
    assert delivery.state is DeliveryState.FAILED
    assert "TLS certificate is not trusted" in delivery.reason
