"""Signing in and out, and changing one's own password."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from dicom_node import log
from dicom_node.errors import UnsuitableInput

from . import passwords, visits, words
from .access import Viewer
from .desk import AtDesk, Desk
from .render import render

router = APIRouter(include_in_schema=False)

_LOG = log.get("web")

_Password = Annotated[str, Form(max_length=1000)]


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
    password: _Password,
    next: Annotated[str, Form()] = "/",
) -> Response:
    """A new visit begins: what an attacker may have put into the browser before is worth nothing."""
    if desk.settings.web.login != "local":
        return RedirectResponse("/", 303)
    refused = _refused(request, desk, name, password, words.WRONG_SIGN_IN)
    if refused is not None:
        return refused.shown(request, "login.html", next=_ours(next), known=True)
    _begin_visit(request, desk, name)
    _LOG.info("login.done", by=name, address=_address(request))
    return RedirectResponse(_ours(next), 303)


@router.post("/logout")
def sign_out(request: Request, desk: AtDesk, person: Viewer) -> Response:
    """The session ends in the store; the cookie is worth nothing any more."""
    desk.store.end_session(visits.digest("session", request.state.visit), _address(request))
    request.state.visit = visits.new()
    _LOG.info("logout.done", by=person.name)
    return RedirectResponse("/login", 303)


@router.get("/password")
async def ask_for_another(request: Request, desk: AtDesk, person: Viewer) -> Response:
    """The form with which a person changes their own password."""
    _has_password(request, desk)
    return render(request, "password.html", problem="", done=False, shortest=passwords.SHORTEST)


@router.post("/password")
def change_password(
    request: Request, desk: AtDesk, person: Viewer, old: _Password, new: _Password, again: _Password
) -> Response:
    """Whoever is signed in by the old password is not any more, save the one who has just changed it."""
    _has_password(request, desk)
    refused = _refused(request, desk, person.name, old, words.WRONG_OLD_PASSWORD)
    if refused is None and new != again:
        refused = _Refused(422, words.PASSWORDS_DIFFER)
    if refused is None:
        try:
            desk.store.set_password(person.name, passwords.hashed(new), _address(request))
        except UnsuitableInput as problem:
            refused = _Refused(422, str(problem))
    if refused is not None:
        return refused.shown(request, "password.html", done=False, shortest=passwords.SHORTEST)
    _begin_visit(request, desk, person.name)
    _LOG.info("password.changed", by=person.name, address=_address(request))
    return render(request, "password.html", problem="", done=True)


def _has_password(request: Request, desk: Desk) -> None:
    """Raises HTTPException where no password is kept here, or none was shown to come in."""
    if desk.settings.web.login != "local":
        raise HTTPException(404, words.NO_PASSWORDS)
    if request.state.by_key:
        raise HTTPException(403, words.NO_PASSWORD_BY_KEY)


@dataclass(frozen=True)
class _Refused:
    """A password that was not taken, in words for who typed it; ``wait_s``: until one may be tried again."""

    status: int
    problem: str
    wait_s: int = 0

    def shown(self, request: Request, template: str, **context: Any) -> Response:
        answer = render(request, template, status=self.status, problem=self.problem, **context)
        if self.wait_s:
            answer.headers["retry-after"] = str(self.wait_s)
        return answer


def _refused(request: Request, desk: Desk, name: str, password: str, wrong: str) -> _Refused | None:
    """None if the password is the person's and may be tried now; who fails is counted."""
    tries: passwords.Tries = request.app.state.tries
    address = _address(request)
    wait = tries.wait_s(name, address)
    if wait > 0:
        _LOG.warning("login.refused", address=address)
        return _Refused(429, words.too_many_tries(wait), math.ceil(wait))
    if not passwords.is_right(password, desk.store.password_of(name)):
        tries.failed(name, address)
        desk.store.refuse_sign_in(name, address, locked=tries.wait_s(name, address) > 0)
        _LOG.warning("login.failed", address=address)  # what was typed as a name may be a password
        return _Refused(403, wrong)
    tries.succeeded(name, address)
    return None


def _begin_visit(request: Request, desk: Desk, name: str) -> None:
    request.state.visit = visits.new()
    longest_s = desk.settings.web.session_hours * 3600
    session = visits.digest("session", request.state.visit)
    desk.store.begin_session(name, session, longest_s, _address(request))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _ours(address: str) -> str:
    """``address`` if it is a path on this page, else the first page: nobody is sent elsewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    plain = not parts.scheme and not parts.netloc and "\\" not in address and address.isprintable()
    return address if plain and address.startswith("/") and not address.startswith("//") else "/"
