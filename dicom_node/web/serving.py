"""The page's process: an HTTP server until it is told to stop."""

from __future__ import annotations

import ssl
import threading

import uvicorn

from dicom_node import log
from dicom_node.config import Settings
from dicom_node.errors import TemporaryError
from dicom_node.tls import Credentials, of_page

from .app import create_app

_LOG = log.get("web")


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve the page until ``stop`` is set. Raises TemporaryError if the server ends by itself."""
    app = create_app(settings)
    credentials = None if settings.web.certificate is None else Credentials(of_page(settings.web))
    config = uvicorn.Config(
        app,
        host=settings.web.host,
        port=settings.web.port,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # a query may hold what somebody looked for: a patient
        proxy_headers=False,  # whom to believe is the gate's affair
        server_header=False,
        limit_concurrency=200,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_context_factory=None if credentials is None else lambda *_: _renewing(credentials),
    )
    server = uvicorn.Server(config)
    # In a thread of its own it leaves this process's signals alone.
    thread = threading.Thread(target=server.run, name="page")
    thread.start()
    _LOG.info("page.serving", url=settings.web.url, login=settings.web.login)
    if settings.web.login == "local" and not app.state.desk.store.people():
        _LOG.warning("page.nobody", reason="nobody can sign in yet: mrsi-node user add NAME --role admin")
    while thread.is_alive() and not stop.wait(0.5):
        pass
    ended = not stop.is_set()
    app.state.heart.stop()
    server.should_exit = True
    thread.join()
    if ended:
        raise TemporaryError(f"the page's server on {settings.web.url} ended by itself")


def _renewing(credentials: Credentials) -> ssl.SSLContext:
    """The context to begin with; each handshake goes on with the newest, so that renewal needs no restart."""
    first = credentials.context

    def newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        credentials.look()
        if credentials.context is not first:
            connection.context = credentials.context

    first.sni_callback = newest
    return first
