"""What can go wrong, by who can help: the clock (Temporary) or a person (Permanent); all else is a bug."""

from __future__ import annotations


class NodeError(Exception):
    """A problem said in words for the person who reads it: what, where, what to do."""


class TemporaryError(NodeError):
    """May pass by itself: try again later, up to a limit."""


class PermanentError(NodeError):
    """Will not pass by itself: a person must act."""


class OutOfSpace(TemporaryError):
    """The spool's file system is full or below its low-water mark."""


class DatabaseAway(TemporaryError):
    """The database does not answer, or others write for too long."""


class PeerUnreachable(TemporaryError):
    """No association with the peer: connection refused, timed out, or rejected for now."""


class PeerBusy(TemporaryError):
    """The peer answered that it is out of resources (status A7xx)."""


class Refused(PermanentError):
    """The peer will not take this: association rejected for good, SOP class or status refused."""


class NotDicom(PermanentError):
    """Bytes that cannot be understood as a DICOM data set."""


class Mismatch(PermanentError):
    """A data set that contradicts the request that carried it (SOP class or instance UID)."""


class Conflict(PermanentError):
    """Another instance's UID, or another patient's study: quarantined, never overwritten."""


class UnsuitableInput(PermanentError):
    """A study that cannot be super-resolved: nothing usable in it, or a piece is missing."""


class UnsuitableGeometry(UnsuitableInput):
    """Slices missing, doubled, tilted or unevenly spaced, or grids that do not belong together."""


class BadObject(PermanentError):
    """A result of ours that failed its own check; it is held and never sent."""


class BadConfiguration(PermanentError):
    """A key of the configuration is unknown, missing or impossible."""
