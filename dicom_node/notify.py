"""Messages to people: what failed, waits for them, or came right again, by e-mail and webhook.

Each channel is told everything in order and at least once, however long it was away; what is older than a
week by then is only counted. A message says which study by the node's own case id: it holds nothing of the
patient, and no word that a person or a header wrote unless ``with_reasons`` allows it.
"""

from __future__ import annotations

import json
import smtplib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from typing import Protocol

import urllib3
from urllib3.exceptions import HTTPError

from . import feeds, log
from .config import Settings
from .errors import PeerUnreachable, Refused
from .measures import Measures
from .secret import read_secret
from .store import Happening, Store
from .study import State
from .telling import About, EmailRules, NotifyRules, WebhookRules
from .tls import trusting

_LOG = log.get("notify")

_TIMEOUT_S = 20.0
_WEEK_S = 7 * 86400.0

_STUDIES: dict[str, tuple[About, str]] = {
    State.FAILED: ("failed", "failed"),
    State.HELD: ("held", "waits for a person"),
    State.DONE: ("done", "is done"),
}


@dataclass(frozen=True)
class Notice:
    """One line for a person. ``link`` is empty without a page."""

    at: float
    about: About
    words: str
    reason: str = ""
    link: str = ""

    def line(self) -> str:
        """As it stands in a message."""
        said = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%SZ}  {self.words}"
        return "\n    ".join(part for part in (said, self.reason, self.link) if part)


def notice_of(happening: Happening, rules: NotifyRules) -> Notice | None:
    """What a person is told of it; None where nobody needs to be."""
    about, words, path = _words(happening)
    if about is None:
        return None
    return Notice(
        happening.at,
        about,
        words,
        happening.reason if rules.with_reasons else "",
        rules.page_url.rstrip("/") + path if rules.page_url else "",
    )


def _words(happening: Happening) -> tuple[About | None, str, str]:
    h = happening
    if h.about == "destination":
        return "destination", f"destination {h.subject}: {h.event}", "/destinations"
    if h.about == "quarantine":
        return "quarantine", "a received file was refused and put into quarantine", "/system"
    if h.about in ("delivery", "sign-in"):
        return None, "", ""  # the study of a delivery follows it; sign-ins are for the audit repository
    case = h.subject.split("/")[0]
    if h.event == "withdrawn":
        return "withdrawn", f"results of study {h.subject} were withdrawn", f"/studies/{case}"
    about, words = _STUDIES.get(h.state, (None, ""))
    return about, f"study {h.subject} {words}", f"/studies/{case}"


class Channel(Protocol):
    """A way to people. ``about``: what they asked to be told."""

    name: str
    about: tuple[About, ...]

    def send(self, subject: str, notices: Sequence[Notice]) -> None:
        """Raises PeerUnreachable if it may go later, else Refused or BadConfiguration."""


class Email:
    """One message for all recipients; handed to a mail server, which takes it or does not."""

    name = "email"

    def __init__(self, rules: EmailRules) -> None:
        self._rules = rules
        self.about = rules.about

    def send(self, subject: str, notices: Sequence[Notice]) -> None:
        """As Channel.send."""
        message = EmailMessage()
        message["Subject"] = f"[mrsi-node] {subject}"
        message["From"] = self._rules.sender
        message["To"] = ", ".join(self._rules.recipients)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._rules.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message.set_content("\n".join(n.line() for n in notices) + "\n")
        try:
            with self._connected() as server:
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as e:
            raise Refused(f"email: the mail server refuses every recipient: {_codes(e)}") from e
        except (OSError, smtplib.SMTPException) as e:
            raise PeerUnreachable(f"email: the mail server does not take it: {type(e).__name__}") from e

    def _connected(self) -> smtplib.SMTP:
        rules = self._rules
        context = trusting("email", rules.ca_file)
        if rules.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                rules.host, rules.port, timeout=_TIMEOUT_S, context=context
            )
        else:
            server = smtplib.SMTP(rules.host, rules.port, timeout=_TIMEOUT_S)
            if rules.security == "starttls":
                server.starttls(context=context)
        if rules.user:
            server.login(rules.user, read_secret("email", rules.password_env, rules.password_file))
        return server


def _codes(refusal: smtplib.SMTPRecipientsRefused) -> str:
    return ", ".join(sorted({str(code) for code, _ in refusal.recipients.values()}))


class Webhook:
    """A JSON document by POST; any status 2xx takes it."""

    name = "webhook"

    def __init__(self, rules: WebhookRules) -> None:
        self._rules = rules
        self.about = rules.about

    def send(self, subject: str, notices: Sequence[Notice]) -> None:
        """As Channel.send."""
        rules = self._rules
        token = read_secret("webhook", rules.token_env, rules.token_file)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        # "text" is what chat services show; "notices" is for programs.
        document = {
            "text": "\n".join([subject, *(n.line() for n in notices)]),
            "notices": [vars(n) for n in notices],
        }
        pool = urllib3.PoolManager(
            retries=False, timeout=_TIMEOUT_S, ssl_context=trusting("webhook", rules.ca_file)
        )
        try:
            answer = pool.request(
                "POST", rules.url, body=json.dumps(document).encode(), headers=headers, redirect=False
            )
        except HTTPError as e:
            raise PeerUnreachable(f"webhook: cannot be reached: {type(e).__name__}") from e
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise PeerUnreachable(f"webhook: answered HTTP {answer.status}: it cannot now")
        if not 200 <= answer.status < 300:
            raise Refused(f"webhook: answered HTTP {answer.status}: check url and token")


class Notifier:
    """Tells every channel what happened since it was told last, and what is wrong with the node itself."""

    def __init__(
        self, store: Store, rules: NotifyRules, measures: Measures, channels: Sequence[Channel]
    ) -> None:
        self._store = store
        self._rules = rules
        self._measures = measures
        self._channels = channels
        self._wrong: dict[str, dict[str, str]] = {c.name: {} for c in channels}

    def tell(self) -> None:
        """One round over all channels; one that does not answer keeps none of the others waiting for long."""
        for channel in self._channels:
            feeds.tell(self._store, channel.name, partial(self._tell, channel), _LOG)

    def _tell(self, channel: Channel, happened: Sequence[Happening]) -> None:
        notices, old = [], 0
        for happening in happened:
            notice = notice_of(happening, self._rules)
            if notice is None or notice.about not in channel.about:
                continue
            if notice.at < self._store.clock() - _WEEK_S:
                old += 1
            else:
                notices.append(notice)
        if old:
            notices.append(Notice(self._store.clock(), "node", f"{old} older notices are left out"))
        wrong = self._about_the_node() if "node" in channel.about else {}
        notices.extend(self._changes(self._wrong[channel.name], wrong))
        if notices:
            channel.send(_subject(notices), notices)
            _LOG.info("notify.told", channel=channel.name, notices=len(notices))
        self._wrong[channel.name] = wrong

    def _about_the_node(self) -> dict[str, str]:
        return {c.name: c.reason for c in self._measures.checks() if not c.good}

    def _changes(self, before: dict[str, str], now: dict[str, str]) -> list[Notice]:
        at = self._store.clock()
        link = self._rules.page_url.rstrip("/") + "/system" if self._rules.page_url else ""
        worse = [Notice(at, "node", f"{name}: {now[name]}", link=link) for name in now.keys() - before.keys()]
        better = [Notice(at, "node", f"{name}: well again", link=link) for name in before.keys() - now.keys()]
        return worse + better


def _subject(notices: Sequence[Notice]) -> str:
    if len(notices) == 1:
        return notices[0].words
    kinds = sorted({n.about for n in notices})
    return f"{len(notices)} notices: {', '.join(kinds)}"


def channels(rules: NotifyRules) -> list[Channel]:
    """Those that are configured."""
    found: list[Channel] = []
    if rules.email is not None:
        found.append(Email(rules.email))
    if rules.webhook is not None:
        found.append(Webhook(rules.webhook))
    return found


def run(settings: Settings, store: Store, measures: Measures, stop: threading.Event) -> None:
    """Tell people every ``poll_s`` seconds until ``stop`` is set."""
    notifier = Notifier(store, settings.notify, measures, channels(settings.notify))
    feeds.every(settings.notify.poll_s, notifier.tell, _LOG, stop)
