"""The node under torture: a throw-away node, trouble of every kind, and a report of what became of it all."""

from .report import Report
from .run import Orders, run

__all__ = ["Orders", "Report", "run"]
