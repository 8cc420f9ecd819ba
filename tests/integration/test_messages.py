"""Messages to people and to an audit repository: a real mail server, a web server, rsyslog over TLS."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as Handler

from dicom_node import audit, notify
from dicom_node.config import DicomDestination, Settings, StorageRules
from dicom_node.demo import free_port, wait_for_port
from dicom_node.errors import PeerUnreachable, Refused
from dicom_node.measures import Measures
from dicom_node.spool import Spool
from dicom_node.store import Store, migrate
from dicom_node.telling import AuditRules, EmailRules, NotifyRules, WebhookRules
from tests.doors import Clock, an_instance

RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin")
needs_rsyslog = pytest.mark.skipif(
    RSYSLOGD is None or not any(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")),
    reason="rsyslog is not installed (apt-get install rsyslog rsyslog-gnutls)",
)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'node.sqlite'}", clock)
    migrate(store)
    yield store
    store.close()


class Mailbox(Handler):
    def __init__(self) -> None:
        super().__init__()
        self.letters: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.letters.append(message)


@contextmanager
def mail_server(port: int) -> Iterator[Mailbox]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        yield box
    finally:
        server.stop()


@contextmanager
def web_server(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    came: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append({"document": json.loads(body), "token": self.headers.get("Authorization")})
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", came
    finally:
        server.shutdown()
        server.server_close()


def a_notifier(store: Store, folder: Path, rules: NotifyRules) -> notify.Notifier:
    settings = Settings(storage=StorageRules(folder=folder, low_water_mb=0), notify=rules)
    measures = Measures(settings, store, Spool(folder / "spool"))
    return notify.Notifier(store, rules, measures, notify.channels(rules))


def by_email(port: int, **also: Any) -> NotifyRules:
    rules = EmailRules(
        host="127.0.0.1",
        port=port,
        security="none",
        sender="node@example.org",
        recipients=("it@example.org",),
        about=("failed", "held", "done"),
    )
    return NotifyRules(email=rules, page_url="https://mrsi.example", **also)


def hold(store: Store, study: str, because: str) -> str:
    store.record(an_instance(study, patient_id=f"HUSH-{study}"))
    return store.hold(study, because).case


def test_a_study_that_waits_for_a_person_is_told_by_email_without_a_word_of_the_patient(
    store: Store, tmp_path: Path
) -> None:
    with mail_server(port := free_port()) as box:
        notifier = a_notifier(store, tmp_path, by_email(port))
        notifier.tell()  # begins here
        case = hold(store, "1.1", "look at HUSH first")
        notifier.tell()
        notifier.tell()
    (letter,) = box.letters
    assert letter["To"] == "it@example.org"
    assert "waits for a person" in letter["Subject"]
    assert f"https://mrsi.example/studies/{case}" in letter.get_payload()
    assert "HUSH" not in letter.as_string()


def test_why_is_told_where_the_site_allows_it(store: Store, tmp_path: Path) -> None:
    with mail_server(port := free_port()) as box:
        notifier = a_notifier(store, tmp_path, by_email(port, with_reasons=True))
        notifier.tell()
        hold(store, "1.1", "wrong coil")
        notifier.tell()
    assert "wrong coil" in box.letters[0].get_payload()


def test_what_happened_while_the_mail_server_was_down_is_told_when_it_is_back(
    store: Store, tmp_path: Path, clock: Clock
) -> None:
    port = free_port()
    notifier = a_notifier(store, tmp_path, by_email(port))
    notifier.tell()
    first = hold(store, "1.1", "x")
    notifier.tell()  # nobody there
    second = hold(store, "1.2", "x")
    with mail_server(port) as box:
        notifier.tell()
        assert not box.letters  # not before its time
        clock.now += 31
        notifier.tell()
        clock.now += 3600
        notifier.tell()
    (letter,) = box.letters
    assert letter.get_payload().index(first) < letter.get_payload().index(second)


def test_a_webhook_gets_a_document_and_our_token(
    store: Store, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "secret")
    with web_server() as (url, came):
        rules = NotifyRules(webhook=WebhookRules(url=url, token_env="HOOK", about=("destination", "held")))
        notifier = a_notifier(store, tmp_path, rules)
        notifier.tell()
        store.destination_failed("PACS", "no answer", limit=1, probe_s=60)
        clock.now += 1
        case = hold(store, "1.1", "x")
        notifier.tell()
    (post,) = came
    assert post["token"] == "Bearer secret"
    assert [n["about"] for n in post["document"]["notices"]] == ["destination", "held"]
    assert f"study {case}/1 waits for a person" in post["document"]["text"]


def test_what_is_wrong_with_the_node_is_told_once_and_so_is_its_end(store: Store, tmp_path: Path) -> None:
    with web_server() as (url, came):
        notifier = a_notifier(store, tmp_path, NotifyRules(webhook=WebhookRules(url=url, about=("node",))))
        notifier.tell()
        notifier.tell()
        store.sign_on("w1", "incarnation")
        notifier.tell()
    told = [n["words"] for post in came for n in post["document"]["notices"]]
    assert [w.split(":")[0] for w in told] in (
        ["worker", "listener", "worker"],
        ["listener", "worker", "worker"],
    )
    assert told[-1] == "worker: well again"


@pytest.mark.parametrize(("status", "error"), [(503, PeerUnreachable), (404, Refused), (302, Refused)])
def test_a_webhook_that_does_not_take_it_is_an_error_in_words(status: int, error: type[Exception]) -> None:
    with web_server(status) as (url, _), pytest.raises(error, match=str(status)):
        notify.Webhook(WebhookRules(url=url)).send("x", [notify.Notice(0.0, "node", "x")])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@contextmanager
def rsyslog(folder: Path, certificate: tuple[Path, Path], port: int) -> Iterator[Path]:
    """An audit repository over TLS that writes each message's syslog fields and text to a file."""
    folder.mkdir(exist_ok=True)
    cert, key = certificate
    log = folder / "audit.jsonl"
    (folder / "rsyslog.conf").write_text(f"""
global(workDirectory="{folder}" maxMessageSize="256k"
       DefaultNetstreamDriverCAFile="{cert}" DefaultNetstreamDriverCertFile="{cert}"
       DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="json" type="list" option.jsonf="on") {{
  property(outname="priority" name="pri" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
input(type="imtcp" port="{port}" address="127.0.0.1")
action(type="omfile" file="{log}" template="json")
""")
    assert RSYSLOGD is not None
    command = [RSYSLOGD, "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            yield log
        finally:
            process.terminate()


def messages(log: Path, count: int) -> list[ET.Element]:
    """The audit messages in ``log``, once there are ``count``."""
    deadline = time.monotonic() + 20
    while not log.exists() or len(log.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, "the audit repository got too few messages"
        time.sleep(0.1)
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(f["priority"], f["app"], f["id"]) for f in found} == {("85", "mrsi-node", "DICOM+RFC3881")}
    return [ET.fromstring(f["text"].lstrip("\ufeff")) for f in found]


def event_of(message: ET.Element) -> str | None:
    found = message.find("EventIdentification/EventID")
    return None if found is None else found.get("csd-code")


@pytest.fixture
def audited(
    store: Store, tmp_path: Path, certificate: tuple[Path, Path]
) -> Callable[[int], list[ET.Element]]:
    """Of so many messages about what happens from here on: what a repository has once it was told."""
    rules = AuditRules(host="localhost", port=free_port(), ca_file=certificate[0])
    auditor, syslog = audit.Auditor(Settings(audit=rules)), audit.Syslog(rules)
    audit.tell(store, auditor, syslog)  # begins here

    def told(count: int) -> list[ET.Element]:
        with rsyslog(tmp_path / "repository", certificate, rules.port) as log:
            audit.tell(store, auditor, syslog)
            return messages(log, count)

    return told


@needs_rsyslog
def test_a_repository_is_told_who_sent_which_instances_of_whom(
    store: Store, tmp_path: Path, certificate: tuple[Path, Path], clock: Clock
) -> None:
    rules = AuditRules(host="localhost", port=free_port(), ca_file=certificate[0], site="Ward <7>")
    settings = Settings(
        audit=rules,
        destination=(DicomDestination(name="PACS", ae_title="ARCHIVE", host="192.0.2.1", port=104),),
    )
    auditor, syslog = audit.Auditor(settings), audit.Syslog(rules)
    audit.tell(store, auditor, syslog)  # begins here
    store.record(an_instance("1.1", patient_id="P&1", source="SCANNER"))
    store.record(an_instance("1.1", patient_id="P&1", source="SCANNER"))
    store.force("1.1", "now")
    audit.tell(store, auditor, syslog)  # nobody there
    clock.now += 31
    with rsyslog(tmp_path / "repository", certificate, rules.port) as log:
        audit.tell(store, auditor, syslog)
        syslog.send([auditor.activity(True, clock.now)], clock.now)
        transferred, activity = messages(log, 2)
    assert event_of(transferred) == "110104"
    people = {p.get("UserID"): p for p in transferred.iter("ActiveParticipant")}
    assert people["SCANNER"].get("UserIsRequestor") == "true"
    objects = {
        o.find("ParticipantObjectIDTypeCode").get("csd-code"): o  # type: ignore[union-attr]
        for o in transferred.iter("ParticipantObjectIdentification")
    }
    assert objects["110180"].get("ParticipantObjectID") == "1.1"
    sop_class = objects["110180"].find("ParticipantObjectDescription/SOPClass")
    assert sop_class is not None
    assert sop_class.get("NumberOfInstances") == "2"
    assert objects["2"].get("ParticipantObjectID") == "P&1"
    source = transferred.find("AuditSourceIdentification")
    assert source is not None
    assert source.get("AuditEnterpriseSiteID") == "Ward <7>"
    assert activity.find("EventIdentification/EventTypeCode").get("csd-code") == "110120"  # type: ignore[union-attr]


@needs_rsyslog
def test_a_repository_is_told_who_signed_in_and_out_and_who_was_refused(
    store: Store, audited: Callable[[int], list[ET.Element]]
) -> None:
    """PS3.15 A.5.3.12; a minor failure may be tried again, a serious one must wait (RFC 3881 5.1.4)."""
    store.add_person("Dr Roe", "viewer", "hash")
    store.refuse_sign_in("Dr Roe", "192.0.2.7", locked=False)
    store.refuse_sign_in("nobody who is known", "2001:db8::7", locked=True)
    store.begin_session("Dr Roe", "a" * 64, 3600, "192.0.2.7")
    store.end_session("a" * 64, "192.0.2.7")
    store.end_session("a" * 64, "192.0.2.7")
    told = [m for m in audited(5) if event_of(m) != "110113"]
    found = []
    for message in told:
        event, person, node = message[0], message[1], message[2]
        assert [e.get("csd-code") for e in event] in (["110114", "110122"], ["110114", "110123"])
        assert (person.get("UserIsRequestor"), node.get("UserIsRequestor")) == ("true", "false")
        assert person.get("NetworkAccessPointTypeCode") == "2"
        where = person.get("NetworkAccessPointID")
        found.append(
            (person.get("UserID"), event[1].get("originalText"), event.get("EventOutcomeIndicator"), where)
        )
    assert found == [
        ("Dr Roe", "Login", "4", "192.0.2.7"),
        ("unknown", "Login", "8", "2001:db8::7"),
        ("Dr Roe", "Login", "0", "192.0.2.7"),
        ("Dr Roe", "Logout", "0", "192.0.2.7"),
    ]


@needs_rsyslog
def test_a_repository_is_told_of_every_change_of_who_may_come_in(
    store: Store, audited: Callable[[int], list[ET.Element]]
) -> None:
    """PS3.15 A.5.3.11; who changes their own password on the page is named as who did it."""
    store.add_person("Dr Roe", "viewer", "hash")
    store.set_role("Dr Roe", "operator")
    store.set_password("Dr Roe", "another hash", "192.0.2.7")
    store.add_key("Dr Roe", "b" * 64)
    store.remove_keys("Dr Roe")
    store.remove_keys("Dr Roe")  # there are none
    store.remove_person("Dr Roe")
    told = audited(6)
    assert [event_of(m) for m in told] == ["110113"] * 6
    for number, message in enumerate(told):
        kind = message.find("EventIdentification/EventTypeCode")
        detail = message.find("ParticipantObjectIdentification/ParticipantObjectDetail")
        assert kind is not None and detail is not None
        assert kind.get("csd-code") == "110137"
        assert "Dr Roe" in base64.b64decode(detail.get("value", "")).decode()
        (who,) = [p for p in message.iter("ActiveParticipant") if p.get("UserIsRequestor") == "true"]
        assert (who.get("UserID") == "Dr Roe") is (number == 2)


@needs_rsyslog
def test_a_repository_whose_certificate_is_not_trusted_is_told_nothing(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    rules = AuditRules(host="localhost", port=free_port())  # the system's authorities
    with (
        rsyslog(tmp_path / "repository", certificate, rules.port) as log,
        pytest.raises(PeerUnreachable, match=r"(?i)certificate"),
    ):
        audit.Syslog(rules).send(["<AuditMessage/>"], 0.0)
    assert not log.exists() or log.stat().st_size == 0
