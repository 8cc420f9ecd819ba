"""Who gets what of the page, and what keeps strangers, other sites and guesses out; really served."""

from __future__ import annotations

import re
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError
from sqlalchemy import select
from structlog.testing import capture_logs

from dicom_node import web
from dicom_node.store import Store
from dicom_node.store import tables as t
from dicom_node.web import access, passwords, people, protect, visits
from dicom_node.web_rules import WebRules
from tests.authority import Authority
from tests.doors import Clock, incoming, open_intake
from tests.pages import Browser, Page, every_route, served

PASSWORD = "a long enough password"


# Where the page may be served at all


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"host": "192.0.2.1"}, "reachable from the network: set login"),
        ({"host": "0.0.0.0", "login": "local"}, "name certificate and key"),
        ({"host": "::", "login": "proxy", "proxy_networks": ["192.0.2.0/24"]}, "name certificate and key"),
        ({"certificate": "page.pem"}, "belong together"),
        ({"login": "proxy", "proxy_viewers": ["*"]}, "proxy_networks"),
        ({"login": "proxy", "proxy_networks": ["0.0.0.0/0"], "proxy_viewers": ["*"]}, "whole internet"),
        ({"login": "proxy", "proxy_networks": ["127.0.0.1"]}, "name the groups"),
        ({"proxy_user_header": "Bad Header:"}, "proxy_user_header"),
    ],
)
def test_a_page_that_strangers_could_reach_or_forge_is_refused_in_words(rules: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WebRules.model_validate(rules)


def test_off_loopback_with_tls_and_login_is_fine_and_a_page_that_is_off_needs_nothing() -> None:
    files = {"certificate": "page.pem", "key": "page.key"}
    assert WebRules.model_validate({"host": "0.0.0.0", "login": "local", **files}).url.startswith("https://")
    assert not WebRules.model_validate({"host": "0.0.0.0", "enabled": False}).enabled


# On loopback, where nobody signs in


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tmp_path_factory.mktemp("page")) as page:
        yield page


def test_a_name_that_another_site_makes_point_here_is_none_of_ours(page: Page) -> None:
    port = page.settings.web.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[::1", ""):
        assert page.browser().get("/", headers={"host": host}).status_code in (400, 421), host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert page.browser().get("/", headers={"host": host}).status_code == 200, host


def test_a_form_without_our_token_or_from_another_site_does_nothing(page: Page, tmp_path: Path) -> None:
    intake = open_intake(page.settings.storage.folder)
    intake.accept(incoming(), source="SCANNER")
    case = intake.store.queue()[0][0].key.case
    hold, form = f"/studies/{case}/act/hold", {"by": "Dr Roe", "reason": "wrong patient"}
    browser = page.browser()
    token = browser.token(hold)
    foreign = [
        ({}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": visits.csrf_token(visits.new())}, {}),
        ({"csrf": token}, {"origin": "http://evil.example"}),
        ({"csrf": token}, {"origin": f"http://127.0.0.1:{page.settings.web.port + 1}"}),
        ({"csrf": token}, {"origin": "null"}),
        ({"csrf": token}, {"sec-fetch-site": "cross-site"}),
        ({"csrf": token}, {"sec-fetch-site": "same-site"}),
    ]
    for more, headers in foreign:
        assert browser.post(hold, data={**form, **more}, headers=headers).status_code == 403, (more, headers)
    assert intake.store.count_by_state()["HELD"] == 0
    assert page.browser().post(hold, data={**form, "csrf": token}).status_code == 403, "another browser"
    own = {"origin": page.url.rstrip("/"), "sec-fetch-site": "same-origin"}
    assert browser.post(hold, data={**form, "csrf": token}, headers=own).status_code == 303
    assert intake.store.count_by_state()["HELD"] == 1
    (event,) = (e for e in intake.store.history(case) if e["event"] == "held")
    assert event["reason"] == "held by Dr Roe: wrong patient"


def test_an_act_without_name_or_reason_is_not_done(page: Page) -> None:
    intake = open_intake(page.settings.storage.folder)
    intake.accept(incoming(StudyInstanceUID="1.2.3", PatientID="P7", SOPInstanceUID="1.2.3.4"), source="S")
    (row,), _ = intake.store.queue(text="P7")
    hold = f"/studies/{row.key.case}/act/hold"
    for form in (
        {"by": "Dr Roe"},
        {"reason": "x"},
        {"by": " \t", "reason": "x"},
        {"by": "x", "reason": "y" * 501},
    ):
        assert page.browser().fill(hold, form).status_code == 422, form
    assert page.browser().fill(hold, {"by": "Dr\nRoe\x1b[1m", "reason": "a\r\nb"}).status_code == 303
    (held,) = (e for e in intake.store.history(row.key.case) if e["event"] == "held")
    assert held["reason"] == "held by Dr Roe [1m: a b", "one line, that steers no terminal"


def test_where_nobody_signs_in_there_is_no_password_to_change(page: Page) -> None:
    assert page.browser().get("/password").status_code == 404
    assert "/password" not in page.browser().get("/").text


@pytest.mark.parametrize(
    "path", ["/", "/static/page.css", "/nothing", "/studies/none", "/?page=0", "/live/x"]
)
def test_every_answer_carries_the_headers_that_keep_it_in_its_frame(page: Page, path: str) -> None:
    answer = page.browser().get(path)
    for name, value in protect.HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "server" not in answer.headers


def test_no_template_holds_a_script_or_style_that_the_policy_would_stop() -> None:
    for template in (Path(web.__file__).parent / "templates").glob("*.html"):
        text = template.read_text()
        assert "style=" not in text and "<style" not in text and " onclick" not in text, template.name
        assert text.count("<script") == len(re.findall(r'<script (type="module" )?src="/static/', text)), (
            template.name
        )
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, template.name


def test_more_than_a_form_is_refused_however_its_length_is_told(page: Page) -> None:
    big = b"x" * (300 * 1024)
    browser = page.browser()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert browser.post("/logout", content=big, headers=kind).status_code == 413
    assert browser.post("/logout", content=iter([big]), headers=kind).status_code == 413


def test_a_bug_shows_and_logs_where_it_is_and_not_what_it_saw(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        with page.store.engine.begin() as tx:
            tx.exec_driver_sql("ALTER TABLE revisions RENAME TO elsewhere")
        with capture_logs() as events:
            answer = page.browser().get("/?q=Doe^Jane")
        assert answer.status_code == 500
        assert "revisions" not in answer.text and "Doe" not in answer.text
        (event,) = (e for e in events if e["event"] == "page.failed")
        assert event["error"] == "OperationalError" and "Doe" not in str(events)


# With people who sign in


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tmp_path_factory.mktemp("local"), web={"login": "local"}) as page:
        for role in access.Role:
            page.store.add_person(role.word, role.word, passwords.hashed(PASSWORD))
        yield page


def signed_in(page: Page, name: str) -> Browser:
    browser = page.browser()
    assert browser.sign_in(name, PASSWORD).status_code == 303
    return browser


def roles_of(route: APIRoute) -> set[str]:
    found, todo = set(), [route.dependant]
    while todo:
        dependant = todo.pop()
        todo += dependant.dependencies
        found.add(getattr(dependant.call, "__name__", ""))
    return found & {"_viewer", "_operator", "_admin"}


def test_every_route_asks_for_a_role_or_is_known_to_be_for_anybody() -> None:
    for route in every_route():
        assert roles_of(route) or route.path in access.PUBLIC, route.path
        if route.methods - {"GET", "HEAD"} and route.path not in {*access.PUBLIC, "/logout", "/password"}:
            assert roles_of(route) & {"_operator", "_admin"}, f"a viewer could change something: {route.path}"


def test_a_stranger_gets_nothing_but_the_way_in(local: Page) -> None:
    paths = {route.path: route.methods for route in every_route()}
    for path, methods in {**paths, "/nothing": {"GET"}, "/api/openapi.json": {"GET"}}.items():
        if path in access.PUBLIC:
            continue
        for method in methods:
            answer = local.browser().request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code in (303, 401), (method, path)
            assert answer.headers.get("location", "/login").startswith("/login"), path
            assert "patient" not in answer.text.lower()


def test_a_viewer_looks_and_acts_on_nothing(local: Page) -> None:
    intake = open_intake(local.settings.storage.folder)
    intake.accept(incoming(), source="SCANNER")
    case = intake.store.queue()[0][0].key.case
    viewer, operator = signed_in(local, "viewer"), signed_in(local, "operator")
    assert viewer.get(f"/studies/{case}").status_code == 200
    assert "/act/" not in viewer.get(f"/studies/{case}").text + viewer.get("/").text
    assert "/act/hold" in operator.get(f"/studies/{case}").text
    token = visits.csrf_token(next(iter(viewer.cookies.values())))
    for path in (f"/studies/{case}/act/hold", f"/studies/{case}/deliveries/x/hold"):
        assert viewer.get(path).status_code == 403
        assert viewer.post(path, data={"csrf": token, "reason": "x"}).status_code == 403
    assert intake.store.count_by_state()["RECEIVING"] == 1
    assert (
        operator.fill(f"/studies/{case}/act/hold", {"by": "Somebody Else", "reason": "x"}).status_code == 303
    )
    (held,) = (e for e in intake.store.history(case) if e["event"] == "held")
    assert held["reason"] == "held by operator: x", "whoever signed in signs, whatever the form says"


def test_signing_in_begins_a_new_visit_and_signing_out_ends_it(local: Page) -> None:
    browser = local.browser()
    browser.get("/login")
    before = dict(browser.cookies)
    assert browser.sign_in("viewer", "wrong password").status_code == 403
    assert browser.get("/").status_code == 303
    answer = browser.sign_in("viewer", PASSWORD)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert dict(browser.cookies) != before, "a cookie that was there before is worth nothing"
    assert browser.get("/").status_code == 200
    stolen = local.browser(cookies=dict(browser.cookies))
    assert stolen.get("/").status_code == 200
    token = visits.csrf_token(next(iter(browser.cookies.values())))
    assert browser.post("/logout", data={"csrf": token}).status_code == 303
    assert browser.get("/").status_code == 303
    assert stolen.get("/").status_code == 303, "the session ended in the store, not in one browser"


def test_a_person_changes_their_own_password_and_other_sessions_of_theirs_end(local: Page) -> None:
    local.store.add_person("Roe", "viewer", passwords.hashed(PASSWORD))
    local.store.add_key("Roe", visits.digest("key", "a key"))
    browser, elsewhere, other = (signed_in(local, name) for name in ("Roe", "Roe", "viewer"))
    assert 'href="/password"' in browser.get("/").text
    new = "another long password"
    form = {"old": PASSWORD, "new": new, "again": new}
    for wrong, status, said in (
        ({"old": "a wrong password"}, 403, "not your password"),
        ({"again": new + "!"}, 422, "two new passwords differ"),
        ({"new": "short", "again": "short"}, 422, "12 to 200"),
    ):
        answer = browser.fill("/password", {**form, **wrong})
        assert (answer.status_code, said in answer.text) == (status, True), wrong
    assert browser.post("/password", data=form).status_code == 403, "without the form's token"
    by_key = {"authorization": "Bearer a key"}
    assert local.browser().post("/password", data=form, headers=by_key).status_code == 403
    assert passwords.is_right(PASSWORD, local.store.password_of("Roe")), "nothing of all this has changed it"
    before = dict(browser.cookies)
    with capture_logs() as events:
        answer = browser.fill("/password", form)
    assert answer.status_code == 200 and "Your password is changed" in answer.text
    assert new not in str(events) and PASSWORD not in str(events)
    assert dict(browser.cookies) != before and browser.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 303
    assert other.get("/").status_code == 200, "nobody else's session ends"
    assert local.store.person_of_key(visits.digest("key", "a key")) is not None
    assert local.browser().sign_in("Roe", PASSWORD).status_code == 403
    assert local.browser().sign_in("Roe", new).status_code == 303


def test_what_a_page_asks_by_itself_keeps_no_session_alive(local: Page) -> None:
    browser = signed_in(local, "viewer")
    (cookie,) = browser.cookies.values()
    mine = (t.sessions.c.sha256 == visits.digest("session", cookie),)
    with local.store._write() as tx:
        tx.execute(t.sessions.update().where(*mine).values(seen_at=t.sessions.c.seen_at - 1000))

    def seen_ago() -> float:
        with local.store._read() as tx:
            return time.time() - float(tx.execute(select(t.sessions.c.seen_at).where(*mine)).scalar_one())

    assert browser.get("/", headers={"x-live": "1"}).status_code == 200
    with browser.stream("GET", "/live") as stream:
        assert next(stream.iter_lines()) == "event: hello"
    assert seen_ago() > 900
    browser.get("/")
    assert seen_ago() < 900


def test_somebody_unknown_takes_as_long_as_a_wrong_password() -> None:
    kept = passwords.hashed(PASSWORD)

    def took(against: str | None) -> float:
        began = time.perf_counter()
        assert not passwords.is_right("a wrong password", against)
        return time.perf_counter() - began

    known, unknown = (min(took(against) for _ in range(3)) for against in (kept, None))
    assert unknown > known / 3


def test_neither_password_nor_cookie_is_kept_or_logged(local: Page) -> None:
    with capture_logs() as events:
        browser = signed_in(local, "viewer")
        browser.sign_in("viewer", "some wrong password")
    (cookie,) = browser.cookies.values()
    said = str(events)
    assert PASSWORD not in said and "some wrong" not in said and cookie not in said
    kept = Path(local.settings.storage.folder, "node.sqlite").read_bytes()
    kept += Path(local.settings.storage.folder, "node.sqlite-wal").read_bytes()
    assert PASSWORD.encode() not in kept and cookie.encode() not in kept
    assert str(local.store.password_of("viewer")).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/studies/1?revision=2", "/studies/1?revision=2"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("\t//evil.example", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_after_signing_in_nobody_is_sent_to_another_site(asked: str, sent: str) -> None:
    assert people._ours(asked) == sent


def test_after_so_many_wrong_passwords_even_the_right_one_must_wait(tmp_path: Path) -> None:
    with served(tmp_path, web={"login": "local"}) as page:
        page.store.add_person("viewer", "viewer", passwords.hashed(PASSWORD))
        browser, marks = page.browser(), page.store.claim_feed("audit", 1.0)
        assert [browser.sign_in("viewer", "wrong").status_code for _ in range(5)] == [403] * 5
        assert marks is not None
        assert [h.event for h in page.store.happenings(marks)[0]] == ["refused"] * 4 + ["locked"]
        answer = browser.sign_in("viewer", PASSWORD)
        assert answer.status_code == 429 and 0 < int(answer.headers["retry-after"]) <= 900
        page.store.add_person("Roe", "viewer", passwords.hashed(PASSWORD))
        thief = signed_in(page, "Roe")
        new = {"new": "another long password", "again": "another long password"}
        tried = [thief.fill("/password", {"old": "wrong", **new}).status_code for _ in range(5)]
        assert tried == [403] * 5
        answer = thief.fill("/password", {"old": PASSWORD, **new})
        assert answer.status_code == 429, "who has stolen a session guesses no faster"


def test_guesses_are_counted_by_person_and_by_address_and_forgotten_in_time() -> None:
    clock = Clock()
    tries = passwords.Tries(clock)
    for n in range(20):
        assert tries.wait_s("a", "10.0.0.1") == 0 or n >= 5
        tries.failed(f"name {n}", "10.0.0.1")
    assert tries.wait_s("anybody", "10.0.0.1") > 0, "one address tries many names"
    assert tries.wait_s("anybody", "10.0.0.2") == 0
    for n in range(50):
        tries.failed("victim", f"10.0.1.{n}")
    assert tries.wait_s("victim", "10.9.9.9") > 0, "many addresses try one name"
    clock.now += passwords.Tries.WITHIN_S + 1
    assert tries.wait_s("victim", "10.0.0.1") == 0
    for n in range(11_000):
        tries.failed(f"{n}", f"{n}")
    assert len(tries._failed) == 10_000, "guesses fill no memory"


def test_who_signs_in_or_out_or_is_refused_is_kept_for_the_audit(local: Page) -> None:
    marks = local.store.claim_feed("audit", 60)
    assert marks is not None
    browser = local.browser()
    browser.sign_in("viewer", "wrong")
    browser.sign_in("my password in the wrong field", "wrong")
    browser.sign_in("viewer", PASSWORD)
    token = visits.csrf_token(next(iter(browser.cookies.values())))
    for _ in range(2):
        browser.post("/logout", data={"csrf": token})
    happened, _ = local.store.happenings(marks)
    assert {(h.about, h.reason) for h in happened} == {("sign-in", "127.0.0.1")}
    assert [(h.subject, h.event) for h in happened] == [
        ("viewer", "refused"),
        ("", "refused"),
        ("viewer", "login"),
        ("viewer", "logout"),
    ]
    shown = signed_in(local, "admin").get("/system/sign-ins").text
    assert all(words in shown for words in ("(nobody known)", "wrong password", "signed out", "127.0.0.1"))
    assert "wrong field" not in shown
    assert signed_in(local, "operator").get("/system/sign-ins").status_code == 403


def test_sign_ins_are_kept_for_a_season_and_each_is_told_once(database_url: str) -> None:
    store = Store(database_url, clock := Clock())
    store.add_person("Roe", "viewer", "hash")
    marks = store.claim_feed("audit", 1.0)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert marks is not None
        store.refuse_sign_in("Roe", address, locked=False)
        (only,), marks = store.happenings(marks)
        assert only.reason == address, "one that was there before is gone, and this one is told all the same"
        clock.now += 91 * 86400
    with store._read() as tx:
        assert len(tx.execute(select(t.sign_ins)).all()) == 1
    store.close()


def test_a_session_ends_when_it_is_old_or_idle_or_its_person_is_gone(database_url: str) -> None:
    clock = Clock()
    store = Store(database_url, clock)
    store.add_person("Roe", "operator", "hash")
    rules = {"longest_s": 100.0, "idle_s": 40.0}

    def who(look: bool = True) -> str | None:
        found = store.person_of_session("a" * 64, **rules, looks=look)
        return None if found is None else found.role

    assert who() is None
    store.begin_session("Roe", "a" * 64, 100, "192.0.2.1")
    store.set_role("Roe", "viewer")
    assert who() == "viewer", "from the next request on"
    for _ in range(2):
        clock.now += 30
        assert who() == "viewer"
    clock.now += 30
    assert who(look=False) == "viewer"
    clock.now += 20
    assert who() is None, "what the page asks by itself keeps no session alive"
    store.begin_session("Roe", "b" * 64, 100, "192.0.2.1")
    assert store.person_of_session("b" * 64, **rules) is not None
    store.set_password("Roe", "another hash")
    assert store.person_of_session("b" * 64, **rules) is None
    store.begin_session("Roe", "c" * 64, 100, "192.0.2.1")
    store.add_key("Roe", "d" * 64)
    assert store.person_of_key("d" * 64) is not None
    store.remove_person("Roe")
    assert store.person_of_session("c" * 64, **rules) is None and store.person_of_key("d" * 64) is None
    assert store.people() == []


# Behind a reverse proxy that has authenticated the person


def test_a_proxy_is_believed_from_its_own_address_alone(tmp_path: Path) -> None:
    rules = {
        "login": "proxy",
        "proxy_networks": ["127.0.0.1/32"],
        "proxy_viewers": ["*"],
        "proxy_operators": ["mr-staff", "physik-größe"],
        "names": ["mrsi.example"],
    }
    with served(tmp_path, web=rules) as page:

        def asked(*headers: tuple[str, str]) -> httpx.Response:
            return page.browser().get("/", headers=[("host", "mrsi.example"), *headers])

        user, groups = "x-forwarded-user", "x-forwarded-groups"
        assert asked().status_code == 303
        assert "roe <small>(viewer)" in asked((user, "roe")).text
        assert "roe <small>(operator)" in asked((user, "roe"), (groups, "other, mr-staff")).text
        assert asked((user, "roe"), (user, "admin")).status_code == 303, "two names are none"
        assert asked((user, "")).status_code == 303
        hostile = "&lt;script&gt;alert(1)&lt;/script&gt; <small>(viewer)"
        assert hostile in asked((user, "<script>alert(1)</script>")).text
    elsewhere = {**rules, "proxy_networks": ["192.0.2.7/32"]}
    with served(tmp_path, web=elsewhere) as page:
        answer = page.browser().get("/", headers={user: "roe", groups: "mr-staff"})
        assert answer.status_code == 303


def test_groups_are_read_as_utf_8_and_a_person_without_one_has_no_role(tmp_path: Path) -> None:
    rules = WebRules.model_validate(
        {"login": "proxy", "proxy_networks": ["127.0.0.1/32"], "proxy_admins": ["größe"]}
    )
    headers = [(b"x-forwarded-user", b"roe"), (b"x-forwarded-groups", "größe".encode())]
    scope = {"client": ("::ffff:127.0.0.1", 1)}
    found = access._named_by_proxy(scope, access.Headers(raw=headers), rules)
    assert found == access.Person("roe", access.Role.ADMIN)
    assert access._named_by_proxy(scope, access.Headers(raw=headers[:1]), rules) is None


# Over TLS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_over_tls_cookies_are_for_this_host_and_a_renewed_certificate_is_shown_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("page")
    monkeypatch.setattr("dicom_node.tls._LOOK_S", 0.0)
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    with served(tmp_path, web={"certificate": certificate, "key": key, "login": "local"}) as page:
        answer = page.browser(verify=trust).get("/login")
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert (
            answer.headers["set-cookie"].startswith("__Host-") and "; Secure" in answer.headers["set-cookie"]
        )

        def shown() -> int:
            with page.browser(verify=trust).stream("GET", "/login") as answer:
                tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
                return int(tls.getpeercert()["serialNumber"], 16)

        before = shown()
        authority.issue("page")
        assert shown() != before
        with pytest.raises(httpx.HTTPError):
            httpx.get(page.url.replace("https", "http"), timeout=10, trust_env=False)
