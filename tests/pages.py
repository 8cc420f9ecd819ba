"""The node's page, really served on loopback, over a store and spool of its own."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi.routing import APIRoute

from dicom_node import web
from dicom_node.config import Settings
from dicom_node.demo import free_port
from dicom_node.intake import Incoming, Intake
from dicom_node.simulate.export import Identity
from dicom_node.spool import Spool
from dicom_node.store import Store
from dicom_node.study import CaseKey
from dicom_node.web.app import ROUTERS
from dicom_node.web_rules import WebRules
from dicom_node.workflows import Worker
from tests import builders
from tests.doors import Clock, as_file, sqlite_in

_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Page:
    """A page that is being served; ``store`` is another hand upon the same rows."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.url = settings.web.url

    def browser(self, **options: Any) -> Browser:
        """With no cookie yet."""
        return Browser(self.url, **options)


class Browser(httpx.Client):
    """A client that keeps cookies, and sends forms as a browser does: with the token of the page."""

    def __init__(self, url: str, **options: Any) -> None:
        headers = {"accept": "text/html", **options.pop("headers", {})}
        super().__init__(base_url=url, headers=headers, timeout=60, trust_env=False, **options)

    def token(self, path: str = "/login") -> str:
        """The CSRF token in the forms of a page."""
        found = _TOKEN.search(self.get(path, follow_redirects=True).text)
        assert found is not None, f"no form on {path}"
        return found[1]

    def fill(self, path: str, form: dict[str, str], token_of: str | None = None) -> httpx.Response:
        """A form's fields, to where it goes, with the token of the page that holds it."""
        return self.post(path, data={**form, "csrf": self.token(token_of or path)})

    def sign_in(self, name: str, password: str) -> httpx.Response:
        return self.fill("/login", {"name": name, "password": password})


def every_route() -> list[APIRoute]:
    """Every address and method that the page and its API serve, besides static files and the schema."""
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(found) > 15, "routes are kept elsewhere than where this looks"
    return found


@contextmanager
def served(folder: Path, *, clock: Clock | None = None, **settings: Any) -> Iterator[Page]:
    """``settings``: further tables of the configuration; ``web`` may name all but the port."""
    rules = WebRules.model_validate({**settings.pop("web", {}), "port": free_port()})
    configured = Settings(storage={"folder": folder}, web=rules, **settings)
    store = Store(sqlite_in(folder), *([clock] if clock else []))
    stop = threading.Event()
    thread = threading.Thread(target=web.run, args=(configured, stop), name="page-under-test")
    thread.start()
    try:
        _wait_for(rules.port, thread)
        yield Page(configured, store)
    finally:
        stop.set()
        thread.join(30)
        store.close()


def _wait_for(port: int, thread: threading.Thread) -> None:
    while thread.is_alive():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the page ended at once")


def real_study(settings: Settings, number: int = 1, deliver: bool = True, **identity: str) -> str:
    """A small study through the node's own rooms, from intake to its destinations; the case.

    ``identity``: as simulate.export.Identity spells it. Without ``deliver`` its deliveries wait.
    """
    store = Store(settings.storage.database_url)
    spool = Spool(settings.storage.folder / "spool")
    intake = Intake(spool, store)
    instances = builders.study(identity=Identity(**{"study": str(number), **identity}))
    for instance in instances:
        intake.accept(Incoming(as_file(instance)), source="SCANNER")
    case = store.case_of(str(instances[0].StudyInstanceUID))
    assert case is not None
    key = CaseKey(case, 1)
    store.complete(key, "everything announced has come")
    worker = Worker(settings, store, spool)
    worker.resolve(key)
    while deliver and (due := [d for d in store.deliveries_due() if d.key == key]):
        for delivery in due:
            worker.courier.try_delivery(delivery.delivery_id)
    store.close()
    return case
