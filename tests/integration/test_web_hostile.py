"""Archives and destinations that lie, over HTTP and DICOM: what they say costs little and leads nowhere.

The numbers are those of the classes of bad input (deploy/docs/BAD_INPUT.md).
"""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.archive import dimse
from dicom_node.archive.dimse import DimsePacs
from dicom_node.archive.web import WebPacs
from dicom_node.config import DicomWebDestination, NodeRules, PacsRules
from dicom_node.demo import free_port
from dicom_node.errors import PermanentError, Refused, TemporaryError
from dicom_node.intake import Incoming, Intake
from tests.doors import STUDY, as_file, mr_slice, open_intake
from tests.results import Office

Answer = Callable[[str], tuple[int, dict[str, str], bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """An HTTP server; ``answer(path)`` -> status, headers, body. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # it has had enough

        do_POST = do_GET  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()


@contextmanager
def costs_less_than(size: int) -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size


def refuse(content: bytes, sop_class: str, sop_instance: str) -> int:
    raise AssertionError("nothing was asked for")


def web(url: str) -> WebPacs:
    return WebPacs(PacsRules(url=url, timeout_s=10), refuse)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return open_intake(tmp_path)


@pytest.mark.parametrize("uid", ["../../evil", f"{STUDY}.1.2"])
def test_class_1_an_archive_cannot_make_a_file_of_another_name(intake: Intake, uid: str) -> None:
    """It names one UID and sends another, or a path; whatever it says, it comes in by the one door."""
    ds = mr_slice(1, SOPInstanceUID=uid)
    asked = "../../evil" if uid == "../../evil" else f"{STUDY}.1.1"
    listing = [
        {"00080018": {"vr": "UI", "Value": [asked]}, "00080016": {"vr": "UI", "Value": [ds.SOPClassUID]}}
    ]

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        if "/instances?" in path:
            return 200, {"Content-Type": "application/dicom+json"}, json.dumps(listing).encode()
        assert ".." not in path.split("/")
        return 200, {"Content-Type": "application/dicom"}, as_file(ds)

    def accept(content: bytes, sop_class: str, sop_instance: str) -> int:
        intake.accept(Incoming(content, sop_class, sop_instance), source="PACS")
        return 0

    with server(answer) as url, pytest.raises(PermanentError, match="UID"):
        WebPacs(PacsRules(url=url, timeout_s=10), accept).retrieve(STUDY, f"{STUDY}.1")
    assert intake.store.count_instances() == 0
    assert len(intake.store.status()["quarantine"]) == 1


def test_class_6_an_answer_packed_by_gzip_is_not_unpacked_without_end(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(400 * 1024**2), 9)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/dicom+json"}
    with server(lambda _: (200, headers, bomb)) as url:
        office = Office(tmp_path, DicomWebDestination(name="archive", url=url))
        office.result_set()
        with costs_less_than(160 * 1024**2):
            assert "not JSON" in office.work_on().reason
        with costs_less_than(16 * 1024**2), pytest.raises(TemporaryError, match="cannot be read"):
            web(url).studies()


def test_class_6_an_answer_longer_than_any_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Content-Length of a petabyte, and bytes for as long as somebody listens."""
    spaces = b" " * (40 * 1024**2)
    with (
        server(lambda _: (200, {"Content-Length": str(10**15)}, spaces)) as url,
        costs_less_than(120 * 1024**2),
        pytest.raises(Refused, match="larger than 32 MiB"),
    ):
        web(url).studies()


def test_class_11_an_archive_that_answers_a_query_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimse, "_MOST_ANSWERS", 100)
    match, model = Dataset(), StudyRootQueryRetrieveInformationModelFind
    match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", STUDY

    def on_find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        while not event.is_cancelled:
            yield 0xFF00, match

    ae = AE("PACS")
    ae.add_supported_context(model)
    port = free_port()
    peer = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    try:
        rules = PacsRules(ae_title="PACS", host="127.0.0.1", port=port, timeout_s=20)
        with pytest.raises(Refused, match="without end"):
            DimsePacs(rules, NodeRules(), refuse).studies(StudyInstanceUID=STUDY)
    finally:
        peer.shutdown()


def test_class_13_what_is_asked_of_the_archive_is_asked_of_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It redirects to another server; a variable of the environment names a proxy."""
    elsewhere: list[str] = []

    def other(path: str) -> tuple[int, dict[str, str], bytes]:
        elsewhere.append(path)
        return 200, {}, b"[]"

    with server(other) as another:
        redirects = server(lambda _: (302, {"Location": f"{another}/studies"}, b""))
        with redirects as url, pytest.raises(Refused, match="it has moved"):
            web(url).studies()
        monkeypatch.setenv("http_proxy", another)
        with server(lambda _: (200, {}, b"[]")) as url:
            assert web(url).studies() == []
    assert elsewhere == []
