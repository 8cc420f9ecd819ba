"""What the node measures of itself, in Prometheus' terms; and whether it is ready, with reasons.

Everything is read from the store and the disk at the moment of asking: it is the same whichever process
answers, and survives restarts. No label ever holds anything of a patient.
"""

from __future__ import annotations

import importlib.metadata
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError

from . import tls
from .config import Settings
from .errors import NodeError
from .spool import Spool
from .store import Kind, Standing, Store
from .study import DeliveryState, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A worker beats every takeover_s / 6; one that missed three is not there.
_BEATS_MISSED = 0.5
_CONNECT_S = 2.0


@dataclass(frozen=True)
class Check:
    """One thing the node depends on: ``reason`` says what is wrong, or how well it is."""

    name: str
    good: bool
    reason: str


class Measures:
    """Collects on demand. One per process: it remembers how far it has counted the ledger."""

    def __init__(self, settings: Settings, store: Store, spool: Spool) -> None:
        self._settings = settings
        self._store = store
        self._spool = spool
        self._one_by_one = threading.Lock()
        self._counted = 0
        self._entries: Counter[str] = Counter({str(kind): 0 for kind in Kind})
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All measures in Prometheus' text format. Raises TemporaryError if the database is away."""
        with self._one_by_one:
            return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every family with its samples; called by the registry."""
        now = self._store.clock()
        build = GaugeMetricFamily("mrsi_node_info", "Version of the node.", labels=["version"])
        build.add_metric([importlib.metadata.version("mrsi-sr-node")], 1)
        yield build
        yield from self._studies(now)
        yield from self._deliveries(now)
        yield from self._machine(now)
        last, entries = self._store.ledger_since(self._counted)
        self._counted = last
        self._entries.update(entries)
        ledger = CounterMetricFamily(
            "mrsi_ledger_entries", "Entries of the custody ledger by kind: received, made, …", labels=["kind"]
        )
        for kind, count in sorted(self._entries.items()):
            ledger.add_metric([kind], count)
        yield ledger
        yield CounterMetricFamily(
            "mrsi_quarantined", "Files ever put into quarantine.", value=self._store.ever_quarantined()
        )

    def _studies(self, now: float) -> Iterator[Metric]:
        found = self._store.revisions_by_state()
        count = GaugeMetricFamily("mrsi_studies", "Revisions of studies in each state.", labels=["state"])
        age = GaugeMetricFamily(
            "mrsi_oldest_study_seconds", "How long the oldest has been in this state.", labels=["state"]
        )
        for state in State:
            waiting = found.get(state)
            count.add_metric([state], waiting.count if waiting else 0)
            age.add_metric([state], max(0.0, now - waiting.oldest_since) if waiting else 0)
        yield count
        yield age

    def _deliveries(self, now: float) -> Iterator[Metric]:
        found = self._store.deliveries_by_state()
        names = {d.name for d in self._settings.destination} | {name for name, _ in found}
        labels = ["destination", "state"]
        count = GaugeMetricFamily("mrsi_deliveries", "Deliveries in each state.", labels=labels)
        age = GaugeMetricFamily(
            "mrsi_oldest_delivery_seconds", "How long the oldest has been in this state.", labels=labels
        )
        for name in sorted(names):
            for state in DeliveryState:
                waiting = found.get((name, state))
                count.add_metric([name, state], waiting.count if waiting else 0)
                age.add_metric([name, state], max(0.0, now - waiting.oldest_since) if waiting else 0)
        yield count
        yield age
        circuit = GaugeMetricFamily(
            "mrsi_destination_open", "1 while only probes go to a destination.", labels=["destination"]
        )
        held = GaugeMetricFamily(
            "mrsi_destination_held", "1 while a person holds a destination.", labels=["destination"]
        )
        standings = {s.name: s for s in self._store.standings()}
        for name in sorted(names):
            standing = standings.get(name, Standing(name))
            circuit.add_metric([name], standing.open)
            held.add_metric([name], standing.held)
        yield circuit
        yield held

    def _machine(self, now: float) -> Iterator[Metric]:
        free = self._spool.free_bytes()
        yield GaugeMetricFamily("mrsi_spool_free_bytes", "Free space where the spool lies.", value=free)
        yield GaugeMetricFamily(
            "mrsi_spool_low_water_bytes",
            "Below this much free space senders are told to try again later.",
            value=self._settings.storage.low_water_mb * 1024**2,
        )
        silent = GaugeMetricFamily(
            "mrsi_worker_silent_seconds", "Since a worker was last heard of.", labels=["worker"]
        )
        for name, seen_at in sorted(self._store.workers_seen().items()):
            silent.add_metric([name], max(0.0, now - seen_at))
        yield silent
        certificate = self._settings.tls.certificate
        if certificate is not None:
            yield GaugeMetricFamily(
                "mrsi_tls_certificate_ends_seconds",
                "Until the certificate of the DICOM port ends.",
                value=tls.ends_at(certificate) - time.time(),
            )

    def checks(self) -> list[Check]:
        """Everything the node needs to do its work, each looked at now."""
        looks: dict[str, Callable[[], str]] = {
            "database": self._database,
            "spool": self._space,
            "listener": self._listener,
            "worker": self._worker,
        }
        return [_look(name, look) for name, look in looks.items()]

    def _database(self) -> str:
        self._store.ever_quarantined()
        return "answers"

    def _space(self) -> str:
        self._spool.require_space()
        return f"{self._spool.free_bytes() // 1024**2} MB free"

    def _listener(self) -> str:
        where = (self._settings.node.host, self._settings.node.port)
        with socket.create_connection(where, timeout=_CONNECT_S):
            return f"takes connections on {where[0]}:{where[1]}"

    def _worker(self) -> str:
        silent_s = _BEATS_MISSED * self._settings.worker.takeover_s
        now, seen = self._store.clock(), self._store.workers_seen()
        up = [name for name, at in seen.items() if now - at < silent_s]
        if not up:
            raise NodeError(f"none was heard of for {silent_s:g} s: nothing is worked on or sent")
        return f"{', '.join(sorted(up))} up"


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except NodeError as problem:
        return Check(name, False, str(problem))
    except OSError as problem:
        return Check(name, False, problem.strerror or str(problem))
    except SQLAlchemyError as problem:
        return Check(name, False, f"does not answer ({type(problem).__name__})")
