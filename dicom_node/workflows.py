"""Durable workflows over DBOS: resolve a revision, deliver a result set. The engine stays in this file.

Only a worker launches it. Facts about studies live in the store; the engine knows ids. Its workflow ids
carry case, revision and attempt (a delivery's also the number of tries before), so enqueuing twice is
once, and a retry is a new run.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
from dbos import DBOS, DBOSConfig, SetWorkflowID
from pydicom import Dataset
from sqlalchemy.exc import OperationalError

from . import boundary, log
from .config import Settings
from .deliver import Courier
from .encode.predecessors import Earlier
from .errors import BadConfiguration, DatabaseAway, PermanentError, TemporaryError
from .explain import reason_note
from .heartbeat import Heartbeat
from .layouts.study import template_files
from .process import Case, identify_case, make_results, with_maps
from .series import Role
from .spool import Spool, fsync_tree
from .store import Delivery, Made, Revision, Store
from .study import BEING_SENT, CaseKey, Event, IllegalTransition, State

_LOG = log.get("workflows")

_RESOLVE, _DELIVER = "resolve", "deliver"

# Workflows written by this version resume those of every version that says the same: raise it only when
# the order of steps below changes. Rows that wait then get new workflows, and the old ones are left alone:
# all workers of the old version must have been stopped.
_WORKFLOW_VERSION = "1"

_RECONCILE_S = 1.0

# A case that kills its worker this often (out of memory, say) is given up instead of tried for ever. Deaths
# are counted to all that was under way beside it, and a bad day kills workers by chance: 3 were too few.
_MAX_RECOVERIES = 10

_STRANDED = (
    f"given up: its worker died {_MAX_RECOVERIES + 1} times at it, or disk or database refused for too long; "
    "see the worker's log, then retry"
)

_MAY_PASS = (TemporaryError, OSError, OperationalError)

_ENDED = frozenset({"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS"})


class Worker:
    """The rooms that workflows use. One per process, set before the engine is launched."""

    def __init__(self, settings: Settings, store: Store, spool: Spool) -> None:
        self.settings = settings
        self.store = store
        self.spool = spool
        self.courier = Courier(settings, store, spool)
        # Constant for the embedded engine, which only this machine uses: a renamed host must find its work.
        self.name = settings.worker.name or "embedded"
        if settings.storage.engine_database and not settings.worker.name:
            raise BadConfiguration("workers on a shared database need names: [worker] name, or --name")

    def resolve(self, key: CaseKey) -> None:
        """One revision from QUEUED to DELIVERING, IGNORED or FAILED. Idempotent; bad input fails it."""
        if self.store.revision(key).state not in (State.QUEUED, State.RESOLVING):
            return  # superseded while it waited, or finished before a crash could tell the engine
        revision = self.store.start(key)
        boundary.passed("resolve.begun")
        try:
            self._resolve_or_fail(revision)
        except IllegalTransition:  # another worker has moved it: this one was taken for dead
            _LOG.warning("revision.overtaken", case=key.case, revision=key.revision)

    def _resolve_or_fail(self, revision: Revision) -> None:
        key, began = revision.key, time.monotonic()
        try:
            self._resolve(revision)
        except PermanentError as problem:
            self._end(revision, Event.GAVE_UP, str(problem))
            _LOG.warning("revision.failed", case=key.case, revision=key.revision, reason=str(problem))
        except (IllegalTransition, *_MAY_PASS):
            raise  # overtaken; or the engine tries again: disk full, database busy
        except Exception as bug:  # the worker's one catch-all: a bug fails its study, not the node
            _LOG.error("revision.bug", case=key.case, revision=key.revision, **log.place_of(bug))
            words = f"an error inside the node ({type(bug).__name__}): report it with the worker's log"
            self._end(
                revision, Event.GAVE_UP, words, said="an error inside the node; its operators know more"
            )
        else:
            seconds = round(time.monotonic() - began, 1)
            _LOG.info("revision.resolved", case=key.case, revision=key.revision, seconds=seconds)

    def _resolve(self, revision: Revision) -> None:
        key = revision.key
        nifti = Path(revision.nifti_folder) if revision.nifti_folder else None
        case = Case({m.sop_uid: self.spool.path(m.path) for m in self.store.members(key)}, nifti)
        identified = identify_case(case, self.settings.input_rules)
        self.store.identified(key, identified.findings)
        boundary.passed("resolve.identified")
        case, identified = with_maps(case, identified, self.settings, self.spool.root / "out" / key.case)
        if case.quantified is not None:
            self.store.identified(key, identified.findings)
        if identified.nothing is not None:
            spectra = any(f.role == Role.SPECTRA for f in identified.findings)
            self._end(revision, Event.NOTHING_TO_DO, identified.nothing, tell=spectra)
            return
        unchanged = identified.input_digest == self.store.last_input_digest(key)
        if identified.input_digest and unchanged and revision.attempt == 1:  # a person's retry is run
            gone = self.store.times_withdrawn(key.case)
            then = (
                "the results of the revision before stand"
                if not gone
                else ("the results of the revision before were withdrawn; retry the study to have new ones")
            )
            self.store.ignore(key, f"what came late is not used: {then}")
            return
        worker = self.settings.worker.name
        folder = self.spool.result_folder(key.case, key.revision, revision.attempt, worker)
        retakes = self.store.times_withdrawn(key.case)
        earlier = self._earlier(revision)
        results = make_results(case, identified, self.settings, folder, retakes=retakes, earlier=earlier)
        boundary.passed("resolve.made")
        fsync_tree(folder)
        boundary.passed("resolve.synced")
        made = [_in_spool(m, self.spool.relative(folder)) for m in results.made]
        report = self.spool.relative(folder / "report.json")
        made.append(Made(report, "REPORT", "report", "", "", ""))
        names = [d.name for d in self.settings.destination]
        waiting = [d.name for d in self.settings.destination if d.wait_for_release]
        self.store.encoded(key, made, report, identified.input_digest, names, waiting)
        boundary.passed("resolve.encoded")

    def _earlier(self, revision: Revision) -> Earlier:
        """Headers of the results that those of ``revision`` supersede, as long as they are in the spool."""
        paths = self.store.sent_before(revision.key, revision.attempt)

        def header(name: str) -> Dataset | None:
            if name not in paths:
                return None
            try:
                return pydicom.dcmread(self.spool.path(paths[name]), stop_before_pixels=True)
            except FileNotFoundError:
                return None

        return header

    def _end(
        self, revision: Revision, event: Event, words: str, *, said: str = "", tell: bool = True
    ) -> None:
        """Without results; a note goes to destinations that want one, in words for outside (``said``)."""
        names = [d.name for d in self.settings.destination if d.explain_no_result]
        note = None
        if names and tell:
            inputs = self._inputs(revision)
            note = reason_note(revision, inputs, said or words, self.spool, self.settings.output)
        if note is None:
            self.store.advance(revision.key, event, words)
        else:
            self.store.explain(revision.key, event, words, note, names)

    def strand(self, revision: Revision) -> None:
        """Its workflow has ended though it is still under way: no more of it, and no silence either.

        Nothing happens if it has moved on meanwhile.
        """
        now = self.store.revision(revision.key)
        if now.attempt != revision.attempt or now.state not in (State.QUEUED, State.RESOLVING):
            return
        with suppress(IllegalTransition):  # another worker saw it at the same moment
            if now.state is State.QUEUED:
                self.store.start(revision.key)
            said = "given up after it failed again and again; the node's operators know more"
            try:
                self._end(revision, Event.GAVE_UP, _STRANDED, said=said)
            except (IllegalTransition, DatabaseAway, OperationalError):
                raise
            except Exception as problem:  # the disk, or a bug over its note: it ends all the same
                _LOG.error("note.failed", case=revision.key.case, **log.place_of(problem))
                self._end(revision, Event.GAVE_UP, _STRANDED, tell=False)

    def _inputs(self, revision: Revision) -> Iterator[Path]:
        """DICOM files that say whose study it is; none for a NIfTI case that came without any."""
        for member in self.store.members(revision.key):
            yield self.spool.path(member.path)
        if revision.nifti_folder:
            yield from template_files(Path(revision.nifti_folder))


def _in_spool(made: Made, folder: str) -> Made:
    return Made(f"{folder}/{made.path}", made.kind, made.name, made.sop_uid, made.sop_class_uid, made.sha256)


_worker: Worker | None = None


def _the_worker() -> Worker:
    if _worker is None:
        raise RuntimeError("workflows run in a worker only: call run() first")
    return _worker


@DBOS.step(retries_allowed=True, interval_seconds=5.0, backoff_rate=2.0, max_attempts=8)
def _resolve_step(case: str, revision: int) -> None:
    _the_worker().resolve(CaseKey(case, revision))


@DBOS.step(retries_allowed=True, interval_seconds=5.0, backoff_rate=2.0, max_attempts=8)
def _delivery_step(delivery_id: str) -> None:
    _the_worker().courier.try_delivery(delivery_id)


@DBOS.workflow(name="resolve_study", max_recovery_attempts=_MAX_RECOVERIES)
def _resolve_study(case: str, revision: int) -> None:
    _resolve_step(case, revision)


@DBOS.workflow(name="deliver", max_recovery_attempts=_MAX_RECOVERIES)
def _deliver(delivery_id: str) -> None:
    _delivery_step(delivery_id)


def run(worker: Worker, stop: threading.Event) -> None:
    """Launch the engine, take up what a killed worker left, and enqueue rows until ``stop`` is set.

    Raises BadConfiguration if another worker of this name runs on this machine, or has no name.
    """
    global _worker
    _worker = worker
    rules = worker.settings.worker
    heartbeat = Heartbeat(worker.store, worker.name, rules.takeover_s, _Engine())
    config: DBOSConfig = {
        "name": "mrsi-sr-node",
        "system_database_url": worker.settings.storage.engine_url,
        "application_version": _WORKFLOW_VERSION,
        "executor_id": worker.name,
        "log_level": "WARNING",
        "notification_listener_polling_interval_sec": 0.5,
    }
    with _alone(worker, stop):
        if stop.is_set():
            return
        with _beating(heartbeat) as launched:
            DBOS(config=config)
            DBOS.launch()
            DBOS.register_queue(_RESOLVE, worker_concurrency=1, polling_interval_sec=0.5)
            DBOS.register_queue(
                _DELIVER, worker_concurrency=rules.deliveries_at_once, polling_interval_sec=0.5
            )
            launched.set()
            try:
                while not stop.is_set():
                    try:
                        reconcile(worker)
                    except (TemporaryError, OperationalError):
                        _LOG.warning("reconciler.waits", reason="the database does not answer")
                    stop.wait(_RECONCILE_S)
            finally:
                DBOS.destroy(workflow_completion_timeout_sec=20)


def migrate_engine(url: str) -> None:
    """Bring the engine's own database to the engine's schema; makes the database if it may."""
    DBOS.migrate(url)


class _Engine:
    """What heartbeat asks of the engine."""

    def busy(self) -> set[str]:
        pending = DBOS.list_workflows(
            status="PENDING", app_version=_WORKFLOW_VERSION, load_input=False, load_output=False
        )
        return {w.executor_id for w in pending if w.executor_id}

    def take_over(self, name: str) -> int:
        return len(DBOS._recover_pending_workflows([name]))  # public before 3.0; the engine is pinned


@contextmanager
def _beating(heartbeat: Heartbeat) -> Iterator[threading.Event]:
    """On the books from before the engine is launched until it has drained."""
    stop, launched = threading.Event(), threading.Event()
    heartbeat.sign_on()
    thread = threading.Thread(target=heartbeat.run, args=(stop, launched, _leave), name="heartbeat")
    thread.start()
    try:
        yield launched
    finally:
        stop.set()
        thread.join()
        heartbeat.sign_off()


def _leave() -> None:
    """At once, with whatever is under way: another worker has it now. Whoever started us starts us again."""
    os._exit(3)


@contextmanager
def _alone(worker: Worker, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of the worker's name: two under one name would take each other's work for left over.

    A predecessor that is still draining is waited for.
    """
    path = worker.spool.root / f"worker-{worker.name}.lock"
    with path.open("w") as lock:
        until = time.monotonic() + worker.settings.worker.predecessor_s
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    words = f"another worker runs as {worker.name!r}: give this one its own --name"
                    raise BadConfiguration(words) from None
                stop.wait(0.5)
        yield


def reconcile(worker: Worker) -> None:
    """Enqueue every row that is due and has no live workflow; fail what its workflow left stranded.

    A row is stranded if it is still under way though its workflow has ended: its worker died, or the
    disk or the database refused, too often. A bug over one row stops none of the others. Raises
    DatabaseAway or sqlalchemy.exc.OperationalError if the database does not answer.
    """
    store = worker.store
    for revision in store.revisions_in(State.QUEUED, State.RESOLVING):
        with _contained(str(revision.key)):
            _take_up(worker, revision)
    for delivery in store.deliveries_due():
        with _contained(delivery.delivery_id):
            _take_up_delivery(store, delivery)


@contextmanager
def _contained(row: str) -> Iterator[None]:
    try:
        yield
    except (DatabaseAway, OperationalError):
        raise
    except Exception as problem:  # a full disk, or a bug: the row is taken up again
        _LOG.error("reconciler.failed", row=row, **log.place_of(problem))


def _take_up(worker: Worker, revision: Revision) -> None:
    key = revision.key
    workflow_id = _id("resolve", key.case, key.revision, revision.attempt)
    if not _stranded(workflow_id):
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(_RESOLVE, _resolve_study, key.case, key.revision)
    else:
        worker.strand(revision)


def _take_up_delivery(store: Store, delivery: Delivery) -> None:
    begun = delivery.state in BEING_SENT  # the try under way was counted when it began
    workflow_id = _id("deliver", delivery.delivery_id, delivery.attempt, delivery.tries - begun)
    if not _stranded(workflow_id):
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(_DELIVER, _deliver, delivery.delivery_id)
    elif store.delivery(delivery.delivery_id) == delivery:
        store.give_up(delivery, _STRANDED)


def _id(*parts: object) -> str:
    """A workflow's id; another version's ids are others, so that it takes up what waits."""
    version = () if _WORKFLOW_VERSION == "1" else (f"v{_WORKFLOW_VERSION}",)
    return ":".join(map(str, (*parts, *version)))


def _stranded(workflow_id: str) -> bool:
    status = DBOS.get_workflow_status(workflow_id)
    return status is not None and status.status in _ENDED
