"""Builds the rooms from Settings, each in its own process; starts, watches and stops them.

Each room is imported in its own process only: the listener needs no torch, and answers seconds sooner.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from . import boundary, log, orphan
from .config import Settings
from .errors import BadConfiguration, PermanentError, TemporaryError
from .spool import Spool
from .store import Store, is_current, migrate
from .tls import of_page, server_context

if TYPE_CHECKING:
    from .archive import PacsArchive

_LOG = log.get("service")

_DRAIN_S = 30.0

Room = Callable[[Settings, threading.Event], None]


def open_store(settings: Settings) -> Store:
    """The store, brought to this version's schema if it is the embedded one.

    Raises BadConfiguration if a shared database is at another version: migrating it is a person's act.
    """
    settings.storage.folder.mkdir(parents=True, exist_ok=True)
    settings.storage.folder.chmod(0o700)  # patients' data: for the node's own user only
    store = Store(settings.storage.database_url, boundary.clock)
    if not settings.storage.database:
        migrate(store)
    elif not is_current(store):
        raise BadConfiguration("the database's schema is not this version's: run mrsi-node migrate first")
    return store


def open_existing(settings: Settings) -> Store:
    """The store as it is, for a person who only looks or retries.

    Raises BadConfiguration if there is none here, or it is at another version.
    """
    folder = settings.storage.folder
    if not settings.storage.database and not (folder / "node.sqlite").exists():
        raise BadConfiguration(
            f"no node has run on {folder.resolve()}: name its configuration with --config, or start it"
        )
    store = Store(settings.storage.database_url)
    if not is_current(store):
        raise BadConfiguration("the database's schema is not this version's: run mrsi-node migrate")
    return store


def open_spool(settings: Settings) -> Spool:
    """The spool folder, made if it is missing."""
    return Spool(settings.storage.folder / "spool", settings.storage.low_water_mb)


def listen(settings: Settings, stop: threading.Event) -> None:
    """The listener's process."""
    from .intake import Intake
    from .listener import Listener
    from .safekeeping import Safekeeper

    spool, store = open_spool(settings), open_store(settings)
    safekeeper = Safekeeper(settings.node, settings.peer, spool, store)
    listener = Listener(
        settings.node, Intake(spool, store, settings.intake), safekeeper=safekeeper, tls=settings.tls
    )
    listener.start()
    stop.wait()
    listener.stop()


def watch(settings: Settings, stop: threading.Event) -> None:
    """The watch folder's process."""
    from .intake import Intake
    from .watch import Watcher

    spool, store = open_spool(settings), open_store(settings)
    Watcher(settings.watch, Intake(spool, store, settings.intake), store).run(stop)


def keep_house(settings: Settings, stop: threading.Event) -> None:
    """Gathering, retention, answers, messages: small, regular work that shares a process."""
    from . import clean, gather
    from .safekeeping import Safekeeper

    spool, store = open_spool(settings), open_store(settings)
    safekeeper = Safekeeper(settings.node, settings.peer, spool, store)
    beside = [
        threading.Thread(target=clean.run, args=(store, spool, settings.retention, stop), name="clean"),
        threading.Thread(target=safekeeper.run, args=(stop,), name="safekeeping"),
        *_tellers(settings, store, spool, stop),
    ]
    for thread in beside:
        thread.start()
    try:
        archive = _archive(settings, spool, store)
        gather.run(
            store, settings.gather, settings.input_rules, stop, archive, bool(settings.quantify.command)
        )
        if archive is not None:
            archive.close()
    finally:
        stop.set()  # a room that raised ends, and is started again: what runs beside it must not hold it up
        for thread in beside:
            thread.join()


def _tellers(
    settings: Settings, store: Store, spool: Spool, stop: threading.Event
) -> Iterator[threading.Thread]:
    """Whoever tells people or an audit repository what happens, as far as they are configured."""
    from . import audit, notify
    from .measures import Measures

    if settings.notify.email is not None or settings.notify.webhook is not None:
        measures = Measures(settings, store, spool)
        yield threading.Thread(target=notify.run, args=(settings, store, measures, stop), name="notify")
    if settings.audit.host:
        yield threading.Thread(target=audit.run, args=(settings, store, stop), name="audit")


def _archive(settings: Settings, spool: Spool, store: Store) -> PacsArchive | None:
    """The PACS that gathering may ask. What it fetches comes in by the same door as all else."""
    from .archive import PacsArchive
    from .intake import Incoming, Intake

    rules = settings.gather.pacs
    if rules is None:
        return None
    intake = Intake(spool, store, settings.intake)

    def accept(content: bytes, sop_class_uid: str, sop_instance_uid: str) -> int:
        try:
            intake.accept(Incoming(content, sop_class_uid, sop_instance_uid), source=rules.ae_title)
        except TemporaryError:
            return 0xA700
        except PermanentError:
            return 0xC000
        return 0

    return PacsArchive(store, rules, settings.node, settings.input_rules, accept)


def work(settings: Settings, stop: threading.Event) -> None:
    """A worker's process: the only one that launches the engine."""
    from . import workflows

    workflows.run(workflows.Worker(settings, open_store(settings), open_spool(settings)), stop)


def face(settings: Settings, stop: threading.Event) -> None:
    """The page's process."""
    from . import web

    web.run(settings, stop)


def serve(settings: Settings, stop: threading.Event) -> None:
    """All rooms on one machine. A room that dies is started again; the others never notice.

    Returns after ``stop`` is set and every room has drained.
    """
    open_store(settings).close()
    _require_port(settings.node.host, settings.node.port)
    if settings.tls.certificate is not None:
        _require_port(settings.node.host, settings.tls.port)
    rooms: dict[str, Room] = {"listener": listen, "housekeeping": keep_house, "worker": work}
    if settings.watch.folder is not None:
        rooms["watcher"] = watch
    if settings.web.enabled:
        if settings.web.certificate is not None:
            server_context(of_page(settings.web))
        _require_port(settings.web.host, settings.web.port)
        rooms["web"] = face
    supervisor = _Supervisor(settings, rooms)
    supervisor.start()
    while not stop.wait(0.5):
        supervisor.restart_the_dead()
    supervisor.drain()


def _require_port(host: str, port: int) -> None:
    """Raises BadConfiguration now rather than a listener that dies again and again."""
    try:
        # Bound, never listening: a peer that calls at this moment is refused, not cut.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as e:
        raise BadConfiguration(f"cannot listen on {host}:{port}: {e.strerror}") from e


class _Supervisor:
    def __init__(self, settings: Settings, rooms: dict[str, Room]) -> None:
        self._settings = settings
        self._rooms = rooms
        # spawn: a forked child would inherit locks and threads of torch and the engine.
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[str, BaseProcess] = {}
        self._started: dict[str, float] = {}

    def start(self) -> None:
        for name in self._rooms:
            self._start(name)

    def _start(self, name: str) -> None:
        process = self._context.Process(
            target=_room_main, args=(self._rooms[name], self._settings, os.getpid()), name=name
        )
        process.start()
        self._processes[name] = process
        self._started[name] = time.monotonic()
        _LOG.info("room.started", name=name, pid=process.pid)

    def restart_the_dead(self) -> None:
        for name, process in self._processes.items():
            if process.is_alive():
                continue
            if time.monotonic() - self._started[name] < 2.0:
                continue  # a room that dies at once is retried every two seconds, not in a hot loop
            _LOG.error("room.died", name=name, exit_code=process.exitcode)
            self._start(name)

    def drain(self) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _DRAIN_S
        for name, process in self._processes.items():
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                _LOG.warning("room.killed", name=name)
                process.kill()
                process.join()


def _room_main(room: Room, settings: Settings, parent: int) -> None:
    log.configure(settings.log.level, settings.log.json_lines)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    orphan.leave_with(parent, stop.set)
    room(settings, stop)
