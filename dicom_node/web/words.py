"""English words that more than one page needs, or that code chooses. Templates hold their own text once."""

from __future__ import annotations

import math

# Address, name and least role of each page in the navigation; only those that are there are shown.
NAVIGATION: tuple[tuple[str, str, int], ...] = (
    ("/", "Queue", 1),
    ("/destinations", "Destinations", 1),
    ("/rules", "Rules", 1),
    ("/system", "System", 1),
)

STATES = {
    "RECEIVING": "still arriving, or waiting for what is missing",
    "QUEUED": "complete, waiting for a worker",
    "RESOLVING": "a worker makes the results",
    "DELIVERING": "results, or notes that reject them, are on their way",
    "DONE": "every destination has what it was to get",
    "IGNORED": "nothing is made of it",
    "HELD": "stopped until a person releases it",
    "FAILED": "needs a person",
    "PENDING": "about to be sent",
    "SENDING": "being sent now",
    "STOPPING": "held; what is being sent now ends first",
    "WAITING": "between two tries",
    "PROVING": "taken; proof that it is kept is awaited",
    "DELIVERED": "taken, and proven where that is asked",
    "CANCELLED": "will not be sent",
    "OPEN": "failed too often in a row; only probes go there",
    "CLOSED": "as usual",
}

# A circuit's states are an electrician's words.
_CIRCUITS = {"OPEN": "Failing", "CLOSED": "As usual"}

# What each act on a study does, for the person who is about to do it.
ACTS = {
    "force": "It is queued now, with what has come so far; nothing more is waited for.",
    "hold": "Nothing is made of it until somebody releases it. What comes late joins it.",
    "release": "It is queued again, with everything that has come until now.",
    "retry": "It is run again from the start, with the settings and models of now.",
    "ignore": "Nothing is made of it, nor of what still comes for it, until somebody retries it.",
    "withdraw": "Every destination that has any of its results gets a note that rejects them; nothing more "
    "of them is sent. What a PACS then hides or deletes is its own affair.",
}

ACTS_ON_DELIVERY = {
    "hold": "Nothing more of it is sent until somebody releases it; a try under way ends first.",
    "release": "It goes on, with its whole time before it is given up.",
    "retry": "It is tried again, everything counted anew.",
}

# What a delivery brings.
PURPOSES = {"results": "results", "withdrawal": "note of withdrawal", "reason": "why there is no result"}

# What became of somebody at the door, or of who may pass it.
SIGN_INS = {
    "login": "signed in",
    "logout": "signed out",
    "refused": "wrong password",
    "locked": "wrong password, once too often: must wait",
    "changed": "added, removed, or given another role, password or key",
}

# Where somebody signs in, or changes their own password.
WRONG_SIGN_IN = "this name and password do not belong together"
WRONG_OLD_PASSWORD = "this is not your password"
PASSWORDS_DIFFER = "the two new passwords differ"
NO_PASSWORDS = "this page keeps no passwords"
NO_PASSWORD_BY_KEY = "a key changes no password: sign in with the old one"

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


def too_many_tries(wait_s: float) -> str:
    """What somebody is told who may try again in ``wait_s``."""
    return f"too many wrong passwords: try again in {math.ceil(wait_s / 60)} min"


def state(name: str) -> str:
    """A state as people read it: Receiving."""
    return _CIRCUITS.get(name, name.capitalize())
