"""The page's process: an HTTP server until it is told to stop."""

from __future__ import annotations

import threading

import uvicorn

from dicom_node import log
from dicom_node.config import Settings
from dicom_node.errors import TemporaryError

from .app import create_app

_LOG = log.get("web")


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve the page until ``stop`` is set. Raises TemporaryError if the server ends by itself."""
    app = create_app(settings)
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
    )
    server = uvicorn.Server(config)
    # In a thread of its own it leaves this process's signals alone.
    thread = threading.Thread(target=server.run, name="page")
    thread.start()
    _LOG.info("page.serving", url=settings.web.url, login=settings.web.login)
    while thread.is_alive() and not stop.wait(0.5):
        pass
    ended = not stop.is_set()
    app.state.heart.stop()
    server.should_exit = True
    thread.join()
    if ended:
        raise TemporaryError(f"the page's server on {settings.web.url} ended by itself")
