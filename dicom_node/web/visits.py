"""The browser's cookie: one random number, of which the node keeps hashes only."""

from __future__ import annotations

import hashlib
import re
import secrets

from dicom_node.web_rules import WebRules

_ONE = re.compile(r"[A-Za-z0-9_-]{43}")


def new() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def is_one(text: str) -> bool:
    return _ONE.fullmatch(text) is not None


def digest(purpose: str, secret: str) -> str:
    """sha256 in hex. One purpose's digest tells nothing of another's, and none of the secret."""
    return hashlib.sha256(f"{purpose}:{secret}".encode()).hexdigest()


def csrf_token(visit: str) -> str:
    """What a form must carry besides the cookie: who cannot read the cookie cannot make it."""
    return digest("csrf", visit)


def cookie_name(rules: WebRules) -> str:
    """With TLS, a name that browsers take from this very host over TLS only; ports share their cookies."""
    return f"{'__Host-' if rules.certificate else ''}mrsi_visit_{rules.port}"


def cookie(rules: WebRules, name: str, visit: str) -> str:
    """The Set-Cookie header: for this browser session, unseen by scripts."""
    secure = "; Secure" if rules.certificate else ""
    return f"{name}={visit}; Path=/; HttpOnly; SameSite=Lax{secure}"
