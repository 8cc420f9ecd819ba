"""English words that more than one page needs, or that code chooses. Templates hold their own text once."""

from __future__ import annotations

# Address, name and least role of each page in the navigation; only those that are there are shown.
NAVIGATION: tuple[tuple[str, str, int], ...] = (("/", "Queue", 1),)

STATES = {
    "RECEIVING": "still arriving, or waiting for what is missing",
    "QUEUED": "complete, waiting for a worker",
    "RESOLVING": "a worker makes the results",
    "DELIVERING": "results are on their way",
    "DONE": "every destination has the results",
    "IGNORED": "nothing is made of it",
    "HELD": "stopped until a person releases it",
    "FAILED": "needs a person",
    "PENDING": "about to be sent",
    "SENDING": "being sent now",
    "WAITING": "between two tries",
    "PROVING": "taken; proof that it is kept is awaited",
    "DELIVERED": "taken, and proven where that is asked",
    "CANCELLED": "will not be sent",
    "OPEN": "failed too often in a row; only probes go there",
    "CLOSED": "as usual",
}

ROLES = {
    "viewer": "looks",
    "operator": "acts on studies, deliveries and destinations",
    "admin": "changes rules",
}

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def duration(seconds: float) -> str:
    """In the largest unit that fills: 45 s, 3 min, 5 h, 12 d."""
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{int(seconds // size) if seconds > 0 else -int(-seconds // size)} {unit}"
    return f"{int(seconds)} s"


def age(at: float, now: float) -> str:
    """How long ago, or how long until."""
    return duration(now - at) if at <= now else f"in {duration(at - now)}"


def state(name: str) -> str:
    """A state as people read it: Receiving."""
    return name.capitalize()
