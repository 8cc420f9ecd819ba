"""Structured events with keys; never patient data."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog

# A key of these names never reaches a log line, whoever passes it by mistake.
_PATIENT_KEYS = frozenset({"patient_name", "patient_id", "patient", "birth_date", "accession_number"})


def _without_patient(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key in _PATIENT_KEYS & event.keys():
        event[key] = "[withheld]"
    return event


def configure(level: str = "INFO", json: bool = True) -> None:
    """Send events to stderr, one line each: JSON for machines, key=value for people."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_patient,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get(room: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of one room; events are named ``thing.happened``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return logger


def place_of(bug: BaseException) -> dict[str, str]:
    """What may be logged of an unexpected error: its type and where. Its message may quote a data set."""
    return {"error": type(bug).__name__, "where": "".join(traceback.format_tb(bug.__traceback__))}
