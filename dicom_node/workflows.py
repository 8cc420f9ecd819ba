"""Durable workflows over DBOS: resolve a revision, deliver a result set. The engine stays in this file.

Only a worker launches it. Facts about studies live in the store; the engine knows ids. Its workflow ids
carry case, revision and attempt, so enqueuing twice is once and a person's retry is a new run.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID

from . import dispatch, log
from .config import Settings
from .errors import PermanentError, TemporaryError
from .process import Case, identify_case, make_results
from .spool import Spool, fsync_tree
from .store import Made, Revision, Sendable, Store
from .study import CaseKey, DeliveryState, State

_LOG = log.get("workflows")

_RESOLVE, _DELIVER = "resolve", "deliver"

# Workflows written by this version resume those of every version that says the same: raise it only when
# the order of steps below changes.
_WORKFLOW_VERSION = "1"

_RECONCILE_S = 1.0

# A case that kills its worker this often (out of memory, say) is given up instead of tried for ever.
_MAX_RECOVERIES = 3

_UNDER_WAY = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.WAITING)

_DEAD = frozenset({"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS"})


class Worker:
    """The rooms that workflows use. One per process, set before the engine is launched."""

    def __init__(self, settings: Settings, store: Store, spool: Spool) -> None:
        self.settings = settings
        self.store = store
        self.spool = spool

    def resolve(self, key: CaseKey) -> None:
        """One revision from QUEUED to DELIVERING, IGNORED or FAILED. Idempotent; bad input fails it."""
        if self.store.revision(key).state not in (State.QUEUED, State.RESOLVING):
            return  # superseded while it waited, or finished before a crash could tell the engine
        revision = self.store.start(key)
        began = time.monotonic()
        try:
            self._resolve(revision)
        except PermanentError as problem:
            self.store.fail(key, str(problem))
            _LOG.warning("revision.failed", case=key.case, revision=key.revision, reason=str(problem))
        except Exception as bug:  # the worker's one catch-all: a bug fails its study, not the node
            _LOG.exception("revision.bug", case=key.case, revision=key.revision)
            words = f"an error inside the node ({type(bug).__name__}): report it with the worker's log"
            self.store.fail(key, words)
        else:
            seconds = round(time.monotonic() - began, 1)
            _LOG.info("revision.resolved", case=key.case, revision=key.revision, seconds=seconds)

    def _resolve(self, revision: Revision) -> None:
        key = revision.key
        nifti = Path(revision.nifti_folder) if revision.nifti_folder else None
        case = Case({m.sop_uid: self.spool.path(m.path) for m in self.store.members(key)}, nifti)
        identified = identify_case(case, self.settings.identify)
        self.store.identified(key, identified.findings)
        if identified.nothing is not None:
            self.store.ignore(key, identified.nothing)
            return
        if identified.input_digest and identified.input_digest == self.store.last_input_digest(key):
            self.store.ignore(key, "what came late is not used: the results of the revision before stand")
            return
        folder = self.spool.result_folder(key.case, key.revision, revision.attempt)
        results = make_results(case, identified, self.settings, folder)
        fsync_tree(folder)
        made = [_in_spool(m, self.spool.relative(folder)) for m in results.made]
        report = self.spool.relative(folder / "report.json")
        made.append(Made(report, "REPORT", "report", "", "", ""))
        names = [d.name for d in self.settings.destination]
        self.store.encoded(key, made, report, identified.input_digest, names)

    def try_delivery(self, delivery_id: str) -> float | None:
        """One try. Returns seconds until the next, or None once it is delivered or given up."""
        delivery = self.store.delivery(delivery_id)
        if delivery.state in (DeliveryState.DELIVERED, DeliveryState.FAILED):
            return None
        self.store.sending(delivery)

        def taken(file: Sendable, status: str) -> None:
            self.store.take(delivery, file.path, status)

        try:
            destination = self.settings.destination_named(delivery.destination)
            files = self.store.to_send(delivery)
            dispatch.send(destination, files, self.spool, self.settings.node, taken)
        except TemporaryError as problem:
            retry = destination.retry
            tries = delivery.tries + 1
            if tries >= retry.max_attempts:
                self.store.give_up(delivery, f"{problem} (given up after {tries} tries)")
                return None
            pause_s = min(retry.longest_s, retry.first_s * 2.0 ** (tries - 1)) * random.uniform(0.8, 1.2)
            self.store.wait(delivery, str(problem), self.store.clock() + pause_s)
            _LOG.warning("delivery.waits", delivery=delivery_id, reason=str(problem), seconds=round(pause_s))
            return pause_s
        except PermanentError as problem:
            self.store.give_up(delivery, str(problem))
            _LOG.warning("delivery.failed", delivery=delivery_id, reason=str(problem))
            return None
        self.store.delivered(delivery)
        _LOG.info("delivery.delivered", delivery=delivery_id, files=len(files))
        return None


def _in_spool(made: Made, folder: str) -> Made:
    return Made(f"{folder}/{made.path}", made.kind, made.name, made.sop_uid, made.sop_class_uid, made.sha256)


_worker: Worker | None = None


def _the_worker() -> Worker:
    if _worker is None:
        raise RuntimeError("workflows run in a worker only: call run() first")
    return _worker


@DBOS.step()
def _resolve_step(case: str, revision: int) -> None:
    _the_worker().resolve(CaseKey(case, revision))


@DBOS.step()
def _delivery_step(delivery_id: str) -> float | None:
    return _the_worker().try_delivery(delivery_id)


@DBOS.workflow(name="resolve_study", max_recovery_attempts=_MAX_RECOVERIES)
def _resolve_study(case: str, revision: int) -> None:
    _resolve_step(case, revision)


@DBOS.workflow(name="deliver", max_recovery_attempts=1000)
def _deliver(delivery_id: str) -> None:
    pause_s: float | None = _delivery_step(delivery_id)
    while pause_s is not None:
        DBOS.sleep(pause_s)
        pause_s = _delivery_step(delivery_id)


def run(worker: Worker, stop: threading.Event) -> None:
    """Launch the engine, take up what a killed worker left, and enqueue rows until ``stop`` is set."""
    global _worker
    _worker = worker
    rules = worker.settings.worker
    config: DBOSConfig = {
        "name": "mrsi-sr-node",
        "system_database_url": worker.settings.storage.engine_url,
        "application_version": _WORKFLOW_VERSION,
        "executor_id": rules.name or socket.gethostname(),
        "log_level": "WARNING",
        "notification_listener_polling_interval_sec": 0.5,
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(_RESOLVE, worker_concurrency=1, polling_interval_sec=0.5)
    DBOS.register_queue(_DELIVER, worker_concurrency=rules.deliveries_at_once, polling_interval_sec=0.5)
    try:
        while not stop.is_set():
            reconcile(worker.store)
            stop.wait(_RECONCILE_S)
    finally:
        DBOS.destroy(workflow_completion_timeout_sec=20)


def reconcile(store: Store) -> None:
    """Enqueue every QUEUED revision and PENDING delivery that has no live workflow; fail the stranded.

    A row is stranded if it is still under way though its workflow has ended: the engine gave it up after
    too many crashes.
    """
    for revision in store.revisions_in(State.QUEUED, State.RESOLVING):
        key = revision.key
        workflow_id = f"resolve:{key.case}:{key.revision}:{revision.attempt}"
        if not _stranded(workflow_id):
            with SetWorkflowID(workflow_id):
                DBOS.enqueue_workflow(_RESOLVE, _resolve_study, key.case, key.revision)
        elif store.revision(key).state in (State.QUEUED, State.RESOLVING):
            if revision.state is State.QUEUED:
                store.start(key)
            store.fail(
                key, f"its worker died {_MAX_RECOVERIES} times at it: see the worker's log, then retry"
            )
    for delivery in store.deliveries_in(DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.WAITING):
        workflow_id = f"deliver:{delivery.delivery_id}:{delivery.attempt}"
        if not _stranded(workflow_id):
            with SetWorkflowID(workflow_id):
                DBOS.enqueue_workflow(_DELIVER, _deliver, delivery.delivery_id)
        elif store.delivery(delivery.delivery_id).state in _UNDER_WAY:
            store.give_up(delivery, "its worker died too often at it: see the worker's log, then retry")


def _stranded(workflow_id: str) -> bool:
    status = DBOS.get_workflow_status(workflow_id)
    return status is not None and status.status in _DEAD
