"""Who asks, and what they may: roles, the gate that nobody passes unknown, and what pages depend on.

Whoever is not known is turned away before a body is read, save at the few addresses in PUBLIC.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Form, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.web_rules import WebRules

from . import visits
from .desk import Desk

# Served to anybody: signing in, what it looks like, and whether the node lives.
PUBLIC = frozenset({"/login", "/livez", "/readyz"})
STATIC = "/static/"

# Requests that no person makes keep no session alive: the stream of changes, and a page that asks for its
# live block alone after one.
LIVE = "x-live"
_BY_ITSELF = frozenset({"/live"})
_LONGEST_NAME = 64
_LONGEST_REASON = 500


class Role(IntEnum):
    """What a person may: look; act on studies, deliveries and destinations; change rules."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """Raises KeyError if there is no such role."""
        return cls[word.upper()]


@dataclass(frozen=True)
class Person:
    """Who asks. ``name`` is empty where nobody signs in: then each act asks for it."""

    name: str
    role: Role


@dataclass(frozen=True)
class Signature:
    """Who acts, and why: both are kept in the history."""

    by: str
    because: str


class Gate:
    """Finds out who asks. ``scope["state"]`` gets person, visit (the cookie's value) and by_key."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app, self._desk, self._rules = app, desk, desk.settings.web
        self._cookie = visits.cookie_name(self._rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(STATIC):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        shown = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        state: dict[str, Any] = scope.setdefault("state", {})
        state["visit"] = shown if visits.is_one(shown) else visits.new()
        key = _bearer(headers)
        state["by_key"] = bool(key)
        person = await self._person(scope, headers, state["visit"], key)
        state["person"] = person
        if person is None and scope["path"] not in PUBLIC:
            await _turned_away(scope, headers)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and state["visit"] != shown and not state["by_key"]:
                MutableHeaders(scope=message).append(
                    "set-cookie", visits.cookie(self._rules, self._cookie, state["visit"])
                )
            await send(message)

        await self._app(scope, receive, answer)

    async def _person(self, scope: Scope, headers: Headers, visit: str, key: str) -> Person | None:
        if self._rules.login == "none":
            return Person("", Role.ADMIN)
        if self._rules.login == "proxy":
            return _named_by_proxy(scope, headers, self._rules)
        store, rules = self._desk.store, self._rules
        if key:
            found = await run_in_threadpool(store.person_of_key, visits.digest("key", key))
        else:
            found = await run_in_threadpool(
                store.person_of_session,
                visits.digest("session", visit),
                longest_s=rules.session_hours * 3600,
                idle_s=rules.idle_minutes * 60,
                looks=scope["path"] not in _BY_ITSELF and LIVE not in headers,
            )
        return None if found is None else Person(found.name, Role.of(found.role))


def _bearer(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def _named_by_proxy(scope: Scope, headers: Headers, rules: WebRules) -> Person | None:
    """Whom the reverse proxy names, with the highest role of their groups. Nobody else's word counts."""
    if not _calls_from(scope, rules):
        return None
    names = headers.getlist(rules.proxy_user_header)
    name = "".join(c for c in _utf8(names[0]) if c.isprintable())[:_LONGEST_NAME] if len(names) == 1 else ""
    if not name.strip():
        return None
    said = (g.strip() for value in headers.getlist(rules.proxy_groups_header) for g in value.split(","))
    groups = {_utf8(g) for g in said if g} | {"*"}
    ranks = (
        (Role.ADMIN, rules.proxy_admins),
        (Role.OPERATOR, rules.proxy_operators),
        (Role.VIEWER, rules.proxy_viewers),
    )
    role = next((role for role, wanted in ranks if groups & set(wanted)), None)
    return None if role is None else Person(name.strip(), role)


def _calls_from(scope: Scope, rules: WebRules) -> bool:
    try:
        address = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in rules.proxy_networks)


def _utf8(header: str) -> str:
    return header.encode("latin-1").decode("utf-8", "replace")


def _turned_away(scope: Scope, headers: Headers) -> Response:
    """A person is sent to sign in, a program gets 401."""
    path = scope["path"]
    asks_for_a_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    if not asks_for_a_page or path.startswith("/api/"):
        return PlainTextResponse("sign in first\n", 401, {"WWW-Authenticate": "Bearer"})
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse(f"/login?next={quote(path + ('?' + query if query else ''), safe='')}", 303)


async def _viewer(request: Request) -> Person:
    return _at_least(Role.VIEWER, request)


async def _operator(request: Request) -> Person:
    return _at_least(Role.OPERATOR, request)


async def _admin(request: Request) -> Person:
    return _at_least(Role.ADMIN, request)


def _at_least(role: Role, request: Request) -> Person:
    person: Person | None = getattr(request.state, "person", None)
    if person is None:
        raise HTTPException(401, "sign in first")
    if person.role < role:
        raise HTTPException(403, f"this needs the role {role.word}; {person.name} is {person.role.word}")
    return person


# What a page depends on: one of these on every route.
Viewer = Annotated[Person, Depends(_viewer)]
Operator = Annotated[Person, Depends(_operator)]
Admin = Annotated[Person, Depends(_admin)]


def sign(person: Person, by: str, because: str) -> Signature:
    """Who signed in signs, else ``by`` does. Raises HTTPException 422 if name or reason is missing."""
    name, reason = person.name or _line(by), _line(because)
    if not name or len(name) > _LONGEST_NAME:
        raise HTTPException(422, f"say who acts, by name, in at most {_LONGEST_NAME} characters")
    if not reason or len(reason) > _LONGEST_REASON:
        raise HTTPException(422, f"say why, in at most {_LONGEST_REASON} characters")
    return Signature(name, reason)


def _line(text: str) -> str:
    """One line of what can be printed: it goes into histories, notes and terminals."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


async def _signed(
    person: Operator, by: Annotated[str, Form()] = "", reason: Annotated[str, Form()] = ""
) -> Signature:
    return sign(person, by, reason)


# An operator's form, signed: with name (where nobody signs in) and reason.
Signed = Annotated[Signature, Depends(_signed)]
