"""Everything that the page and its API serve, called with all that their schema allows (schemathesis).

No answer is a failure of the node's (5xx), and none goes to somebody without the role for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi.openapi.utils import get_openapi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from dicom_node.web import access, visits
from tests.doors import incoming, open_intake
from tests.pages import Page, every_route, served

# One that never ends, two that a key cannot use, one that says 503 for want of a listener and a worker.
LEFT_OUT = {"/live", "/login", "/logout", "/readyz"}
# Told to sign in, no such method at all, or too much before anybody is asked who they are.
NOBODY = (303, 401, 405, 413)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("fuzzed")
    destinations = [{"type": "folder", "name": "research", "folder": folder / "out"}]
    with served(folder, web={"login": "local"}, destination=destinations) as page:
        for role in access.Role:
            page.store.add_person(role.word, role.word, "no password")
            page.store.add_key(role.word, visits.digest("key", role.word))
        intake = open_intake(folder)
        for n in range(3):
            uids = {"StudyInstanceUID": f"1.2.{n}", "SOPInstanceUID": f"1.2.{n}.1"}
            intake.accept(incoming(PatientID=f"P{n}", **uids), source="SCANNER")
        yield page


@pytest.fixture(scope="module")
def everything(page: Page) -> Any:
    """The schema of the API and of every page; cases that are there are among what is tried."""
    routes = [r for r in every_route() if r.path not in LEFT_OUT]
    known = [r.key.case for r in page.store.queue()[0]]
    with pytest.MonkeyPatch.context() as patch:
        for route in routes:
            patch.setattr(route, "include_in_schema", True)
        schema = get_openapi(title="page", version="1", routes=routes)
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "case":
                    parameter["schema"] = {"anyOf": [{"enum": known}, {"type": "string", "maxLength": 64}]}
    return schemathesis.openapi.from_dict(json.loads(json.dumps(schema)))


def test_nothing_fails_and_nothing_goes_to_somebody_without_the_role(everything: Any, page: Page) -> None:
    base, tried = page.url.rstrip("/"), 0

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def nobody_gets_too_much(data: Any) -> None:
        case = data.draw(st.one_of(*(operation.as_strategy(generation_mode=m) for m in GenerationMode)))

        def called(key: str) -> Any:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return case.call(base_url=base, headers=headers, allow_redirects=False)

        if case.path not in access.PUBLIC:
            assert called("").status_code in NOBODY
            assert called("a key of nobody").status_code in NOBODY
        viewer = called("viewer")
        assert viewer.status_code < 500
        if case.method not in ("GET", "HEAD"):
            assert viewer.status_code >= 400, "a viewer has changed something"
        checks = [not_a_server_error]
        if case.path.startswith("/api/"):
            checks += [status_code_conformance, response_schema_conformance]
        case.validate_response(called("admin"), checks=checks)

    for found in everything.get_all_operations():
        operation = found.ok()
        nobody_gets_too_much()
        tried += 1
    assert tried > 12


def test_a_program_looks_and_acts_with_its_key_and_with_no_cookie(page: Page) -> None:
    def asked(method: str, path: str, key: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.request(method, page.url + path, headers=headers, timeout=30, trust_env=False, **more)

    listed = asked("GET", "api/studies?limit=1", "viewer").json()
    assert listed["total"] == 3
    act = f"api/studies/{listed['studies'][0]['case']}/acts"
    found = asked("GET", f"api/studies/{listed['studies'][0]['case']}", "viewer").json()
    verb = next(v for v in ("hold", "release", "retry") if v in found["acts"])
    reason = {"reason": "told by a program"}
    assert asked("POST", f"{act}/{verb}", "viewer", json=reason).status_code == 403
    assert asked("POST", f"{act}/{verb}", "operator", json={"reason": " "}).status_code == 422
    done = asked("POST", f"{act}/{verb}", "operator", json=reason)
    assert done.status_code == 200
    assert "by operator: told by a program" in done.json()["revisions"][0]["reason"]
    again = asked("POST", f"{act}/force", "operator", json=reason)
    assert (again.status_code, "set-cookie" in again.headers) == (409, False)
    assert asked("GET", "api/openapi.json", "viewer").json()["paths"].keys() >= {
        "/api/studies",
        "/api/states",
    }
    assert httpx.get(page.url + "api/openapi.json", timeout=30, trust_env=False).status_code == 401
