"""The store: what the node knows about instances, cases, revisions, results and deliveries."""

from .base import Clock, Database
from .clocks import ClockStore
from .commitments import ASK_AGAIN_S, LONGEST_PUT_OFF_S, CommitmentStore, Item, Request, Transaction
from .deliveries import Delivery, DeliveryStore, Sendable
from .destinations import Standing
from .evidence import EvidenceStore, Inquiry, Patient
from .folders import FolderStore
from .instances import Compared, InstanceStore, Outcome, Receipt, Received, Uncompared
from .ledger import GENESIS, Entry, Kind
from .migrate import is_current, migrate
from .overview import Overview
from .persons import PersonStore
from .proofs import Taken
from .review import Kept, ReviewStore
from .revisions import Finding, Made, Member, Revision
from .workers import Beat, WorkerStore

__all__ = [
    "ASK_AGAIN_S",
    "GENESIS",
    "LONGEST_PUT_OFF_S",
    "Beat",
    "Clock",
    "CommitmentStore",
    "Compared",
    "Database",
    "Delivery",
    "DeliveryStore",
    "Entry",
    "Finding",
    "Inquiry",
    "InstanceStore",
    "Item",
    "Kept",
    "Kind",
    "Made",
    "Member",
    "Outcome",
    "Overview",
    "Patient",
    "Receipt",
    "Received",
    "Request",
    "Revision",
    "Sendable",
    "Standing",
    "Store",
    "Taken",
    "Transaction",
    "Uncompared",
    "WorkerStore",
    "is_current",
    "migrate",
]


class Store(
    FolderStore, PersonStore, EvidenceStore, ReviewStore, CommitmentStore, WorkerStore, ClockStore, Overview
):
    """All queries over one database; each public method is one transaction."""
