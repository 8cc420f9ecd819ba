"""The store: what the node knows about instances, cases, revisions, results and deliveries."""

from .base import Clock, Database
from .deliveries import Delivery, DeliveryStore, Sendable
from .evidence import EvidenceStore, Inquiry, Patient
from .folders import FolderStore
from .instances import InstanceStore, Outcome, Receipt, Received
from .migrate import is_current, migrate
from .overview import Overview
from .persons import PersonStore
from .revisions import Finding, Made, Member, Revision

__all__ = [
    "Clock",
    "Database",
    "Delivery",
    "DeliveryStore",
    "Finding",
    "Inquiry",
    "InstanceStore",
    "Made",
    "Member",
    "Outcome",
    "Overview",
    "Patient",
    "Receipt",
    "Received",
    "Revision",
    "Sendable",
    "Store",
    "is_current",
    "migrate",
]


class Store(FolderStore, PersonStore, EvidenceStore, DeliveryStore, Overview):
    """All queries over one database; each public method is one transaction."""
