"""The store: what the node knows about instances, cases, revisions, results and deliveries."""

from .base import Clock, Database
from .clocks import ClockStore
from .commitments import ASK_AGAIN_S, CommitmentStore, Item, Request, Transaction
from .deliveries import Delivery, DeliveryStore, Sendable, Taken
from .destinations import Standing
from .evidence import EvidenceStore, Inquiry, Patient
from .folders import FolderStore
from .instances import Compared, InstanceStore, Outcome, Receipt, Received, Uncompared
from .ledger import GENESIS, Entry, Kind
from .migrate import is_current, migrate
from .overview import Overview
from .persons import PersonStore
from .revisions import Finding, Made, Member, Revision

__all__ = [
    "ASK_AGAIN_S",
    "GENESIS",
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
    "is_current",
    "migrate",
]


class Store(FolderStore, PersonStore, EvidenceStore, CommitmentStore, ClockStore, Overview):
    """All queries over one database; each public method is one transaction."""
