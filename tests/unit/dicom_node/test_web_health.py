"""What monitoring asks of the page."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.pages import served

ALERTS = Path(__file__).parents[3] / "deploy" / "alerts.rules.yml"


def test_the_page_lives_whatever_it_depends_on(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        page.store.close()
        assert page.browser().get("/livez").status_code == 200


def test_a_node_without_listener_and_worker_is_not_ready_and_says_why(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        answer = page.browser().get("/readyz")
    assert answer.status_code == 503
    said = answer.json()["checks"]
    assert said["database"]["ready"]
    assert not said["worker"]["ready"]
    assert "nothing is worked on" in said["worker"]["reason"]


def test_strangers_learn_that_the_node_is_not_ready_and_no_more(tmp_path: Path) -> None:
    with served(tmp_path, web={"login": "local"}) as page:
        answer = page.browser().get("/readyz")
        assert page.browser(headers={"accept": "text/plain"}).get("/metrics").status_code == 401
    assert answer.status_code == 503
    assert all(check.keys() == {"ready"} for check in answer.json()["checks"].values())


def test_every_alert_asks_for_something_that_is_measured(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        page.store.sign_on("w1", "incarnation")
        families = list(text_string_to_metric_families(page.browser().get("/metrics").text))
    known = {f.name for f in families} | {s.name for f in families for s in f.samples}
    known |= {"mrsi_tls_certificate_ends_seconds"}  # there with a TLS port
    expressions = re.findall(r"expr: (.*)", ALERTS.read_text())
    asked = {name for e in expressions for name in re.findall(r"\bmrsi_\w+", e)}
    assert len(expressions) > 8
    assert asked <= known
