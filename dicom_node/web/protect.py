"""What keeps other people's pages, names and bytes out: Host, Origin, sizes, tokens, headers.

The outermost layer: what goes wrong inside reaches no log with a traceback's words, and no browser either.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node import log
from dicom_node.web_rules import WebRules

from . import visits

_LOG = log.get("web")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SMALL = 256 * 1024  # a form without files
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


def policy(**more: str) -> str:
    """The Content-Security-Policy: nothing but our own files; ``script="'wasm-unsafe-eval'"`` adds a source.

    Keywords are directives without their -src: script, style, img, connect, worker.
    """
    own = dict.fromkeys(("script", "style", "img", "connect", "font", "worker"), "'self'")
    sources = {kind: f"{own.get(kind, '')} {more.get(kind, '')}".strip() for kind in {**own, **more}}
    lines = [f"{kind}-src {allowed}" for kind, allowed in sorted(sources.items())]
    return "; ".join(
        ["default-src 'none'", *lines, "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"]
    )


class Shield:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, rules: WebRules) -> None:
        self._app, self._rules = app, rules
        self._headers = {**HEADERS, "content-security-policy": policy()}
        if rules.certificate:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        try:
            if refused is not None:
                await refused(scope, receive, answer)
            else:
                await self._app(scope, _bounded(receive, self._limit(scope, headers)), answer)
        except Exception as bug:
            _LOG.error("page.failed", method=scope["method"], **log.place_of(bug))
            if not begun:
                await PlainTextResponse("the node's page failed here; its log says where\n", 500)(
                    scope, receive, answer
                )

    def _refused(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return PlainTextResponse("this page has another name: see [web] names\n", 421)
        if scope["method"] not in _SAFE and not self._from_here(headers, hosts[0]):
            return PlainTextResponse("this form was sent by another site\n", 403)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit(scope, headers):
            return PlainTextResponse("this is more than the page takes: see [web] max_upload_mb\n", 413)
        return None

    def _is_ours(self, host: str) -> bool:
        """On loopback, a name that another site has made to point here is none of ours (DNS rebinding)."""
        if not self._rules.loopback and not self._rules.names:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in (*_LOOPBACK, self._rules.host, *(n.lower() for n in self._rules.names))

    def _from_here(self, headers: Headers, host: str) -> bool:
        """What browsers say of where a form came from; programs say nothing."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        named = {n.lower() for n in self._rules.names}
        return parts.netloc.lower() == host.lower() or (parts.hostname or "") in named

    def _limit(self, scope: Scope, headers: Headers) -> int:
        with_files = headers.get("content-type", "").startswith("multipart/") and scope["path"] != "/login"
        return self._rules.max_upload_mb * 1024**2 if with_files else _SMALL


def _bounded(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, "this is more than the page takes")
        return message

    return bounded


async def genuine(request: Request) -> None:
    """Whoever changes anything shows the token of the form that we made; a key to the API needs none."""
    if request.method in _SAFE or request.state.by_key:
        return
    shown: object = request.headers.get("x-csrf-token")
    kind = request.headers.get("content-type", "")
    if shown is None and kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        shown = (await request.form()).get("csrf")
    wanted = visits.csrf_token(request.state.visit)
    if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), wanted.encode()):
        raise HTTPException(403, "this form has lost its token: load the page again, then send it")
