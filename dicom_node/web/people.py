"""Signing in and out."""

from __future__ import annotations

import math
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from dicom_node import log

from . import passwords, visits
from .access import Viewer
from .desk import AtDesk
from .render import render

router = APIRouter(include_in_schema=False)

_LOG = log.get("web")


@router.get("/login")
async def ask(request: Request, desk: AtDesk, next: str = "/") -> Response:
    """The form; whoever needs none goes on."""
    if desk.settings.web.login != "local":
        if request.state.person is None:
            return render(request, "login.html", status=403, next="/", problem="", known=False)
        return RedirectResponse("/", 303)
    return render(request, "login.html", next=_ours(next), problem="", known=True)


@router.post("/login")
def sign_in(
    request: Request,
    desk: AtDesk,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """A new visit begins: what an attacker may have put into the browser before is worth nothing."""
    if desk.settings.web.login != "local":
        return RedirectResponse("/", 303)
    tries: passwords.Tries = request.app.state.tries
    address = request.client.host if request.client else ""
    wait = tries.wait_s(name, address)
    if wait > 0:
        _LOG.warning("login.refused", address=address)
        problem = f"too many wrong passwords: try again in {math.ceil(wait / 60)} min"
        answer = render(request, "login.html", status=429, next=_ours(next), problem=problem, known=True)
        answer.headers["retry-after"] = str(math.ceil(wait))
        return answer
    if not passwords.is_right(password, desk.store.password_of(name)):
        tries.failed(name, address)
        _LOG.warning("login.failed", address=address)  # what was typed as a name may be a password
        problem = "this name and password do not belong together"
        return render(request, "login.html", status=403, next=_ours(next), problem=problem, known=True)
    tries.succeeded(name, address)
    request.state.visit = visits.new()
    longest_s = desk.settings.web.session_hours * 3600
    desk.store.begin_session(name, visits.digest("session", request.state.visit), longest_s)
    _LOG.info("login.done", by=name, address=address)
    return RedirectResponse(_ours(next), 303)


@router.post("/logout")
def sign_out(request: Request, desk: AtDesk, person: Viewer) -> Response:
    """The session ends in the store; the cookie is worth nothing any more."""
    desk.store.end_session(visits.digest("session", request.state.visit))
    request.state.visit = visits.new()
    _LOG.info("logout.done", by=person.name)
    return RedirectResponse("/login", 303)


def _ours(address: str) -> str:
    """``address`` if it is a path on this page, else the first page: nobody is sent elsewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    plain = not parts.scheme and not parts.netloc and "\\" not in address and address.isprintable()
    return address if plain and address.startswith("/") and not address.startswith("//") else "/"
