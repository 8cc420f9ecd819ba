"""Templates to pages. Everything is escaped; times, ages and states are written one way."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from dicom_node.study import AWAITS_RELEASE

from . import visits, words
from .access import LIVE, Role
from .desk import Desk

_HERE = Path(__file__).parent
_VERSION = importlib.metadata.version("mrsi-sr-node")


def clock(at: float | None) -> str:
    """UTC, to the second; empty if there is no time."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def iso(at: float) -> str:
    """As <time datetime=…> and JSON want it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(date: str) -> str:
    """DICOM's YYYYMMDD with dashes; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdecimal() else date


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clock=clock, iso=iso, day=day, age=words.age, long=words.duration)
    environment.globals.update(
        words=words, version=_VERSION, Role=Role, AWAITS_RELEASE=AWAITS_RELEASE, nav=words.NAVIGATION
    )
    return environment


_TEMPLATES = _environment()


def render(
    request: Request, name: str, *, status: int = 200, policy: str | None = None, **context: Any
) -> HTMLResponse:
    """The page ``name`` for whoever asks; only its block ``live`` if that is all that is asked for.

    ``policy``: a Content-Security-Policy of its own (protect.policy). Every template has person, csrf,
    now (UTC seconds), path and words.
    """
    desk: Desk = request.app.state.desk
    values = {
        "person": getattr(request.state, "person", None),
        "csrf": visits.csrf_token(getattr(request.state, "visit", "")),
        "login": desk.settings.web.login,
        "path": request.url.path,
        "now": desk.store.clock(),
        **context,
    }
    template = _TEMPLATES.get_template(name)
    headers = {"vary": LIVE}
    if policy is not None:
        headers["content-security-policy"] = policy
    if request.headers.get(LIVE) and "live" in template.blocks:
        page = "".join(template.blocks["live"](template.new_context(values)))
    else:
        page = template.render(values)
    return HTMLResponse(page, status, headers)
