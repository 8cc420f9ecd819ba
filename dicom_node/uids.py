"""UIDs of results: derived, never drawn, so that a re-run names the same objects."""

from __future__ import annotations

import json
import uuid

# Drawn once for this project; another value would rename every result ever made.
_NAMESPACE = uuid.UUID("6f1d3a52-8c04-4e0b-9a57-2f7f4c1d9b36")


def result_uid(role: str, *parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that depends on ``role`` and ``parts`` and on nothing else.

    ``role`` says which object of a study it is ("series PM HGG"); ``parts`` are what went into it:
    source UIDs, model hash, settings hash. Equal arguments give equal UIDs on every machine; the
    boundaries between parts count, so ("a", "bc") and ("ab", "c") differ.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps([role, *parts])).int}"
