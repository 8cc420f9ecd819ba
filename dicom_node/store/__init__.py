"""The store: what the node knows about instances, cases, revisions, results and deliveries."""

from .base import Clock, Database
from .deliveries import Delivery, DeliveryStore, Sendable
from .folders import FolderStore
from .instances import Compared, InstanceStore, Outcome, Receipt, Received, Uncompared
from .migrate import is_current, migrate
from .overview import Overview
from .revisions import Finding, Made, Member, Revision

__all__ = [
    "Clock",
    "Compared",
    "Database",
    "Delivery",
    "DeliveryStore",
    "Finding",
    "InstanceStore",
    "Made",
    "Member",
    "Outcome",
    "Overview",
    "Receipt",
    "Received",
    "Revision",
    "Sendable",
    "Store",
    "Uncompared",
    "is_current",
    "migrate",
]


class Store(FolderStore, DeliveryStore, Overview):
    """All queries over one database; each public method is one transaction."""
