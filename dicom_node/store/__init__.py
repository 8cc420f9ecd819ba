"""The store: what the node knows about instances, cases, revisions, results and deliveries."""

from .audit import AuditStore, Transfer
from .base import Clock, Database
from .clocks import ClockStore
from .commitments import ASK_AGAIN_S, LONGEST_PUT_OFF_S, CommitmentStore, Item, Request, Transaction
from .deliveries import Delivery, DeliveryStore, Sendable
from .destinations import Standing
from .evidence import EvidenceStore, Inquiry, Patient
from .feeds import LONGEST_SILENCE_S, FeedStore, Happening, Marks
from .folders import FolderStore
from .instances import Compared, InstanceStore, Outcome, Receipt, Received, Uncompared
from .ledger import GENESIS, Entry, Kind
from .measures import MeasureStore, Waiting
from .migrate import go_back, is_current, migrate, newest
from .overview import Ended, Overview
from .people import Entrance, Known, PeopleStore, SignIn
from .persons import PersonStore
from .proofs import Taken
from .queue import Arrived, Pulse, Queued, QueueStore, Sent
from .review import Kept, ReviewStore
from .revisions import Finding, Made, Member, Revision
from .views import ReceivedHeader, ResultSet, Views
from .workers import Beat, WorkerStore

__all__ = [
    "ASK_AGAIN_S",
    "GENESIS",
    "LONGEST_PUT_OFF_S",
    "LONGEST_SILENCE_S",
    "Arrived",
    "Beat",
    "Clock",
    "CommitmentStore",
    "Compared",
    "Database",
    "Delivery",
    "DeliveryStore",
    "Ended",
    "Entrance",
    "Entry",
    "Finding",
    "Happening",
    "Inquiry",
    "InstanceStore",
    "Item",
    "Kept",
    "Kind",
    "Known",
    "Made",
    "Marks",
    "Member",
    "Outcome",
    "Overview",
    "Patient",
    "PeopleStore",
    "Pulse",
    "QueueStore",
    "Queued",
    "Receipt",
    "Received",
    "ReceivedHeader",
    "Request",
    "ResultSet",
    "Revision",
    "Sendable",
    "Sent",
    "SignIn",
    "Standing",
    "Store",
    "Taken",
    "Transaction",
    "Transfer",
    "Uncompared",
    "Waiting",
    "WorkerStore",
    "go_back",
    "is_current",
    "migrate",
    "newest",
]


class Store(
    FolderStore,
    PersonStore,
    EvidenceStore,
    ReviewStore,
    CommitmentStore,
    WorkerStore,
    ClockStore,
    MeasureStore,
    FeedStore,
    AuditStore,
    PeopleStore,
    QueueStore,
    Overview,
    Views,
):
    """All queries over one database; each public method is one transaction."""
