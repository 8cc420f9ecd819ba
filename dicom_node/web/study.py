"""One study: what each series was taken for and why, quality, deliveries, history, and a person's acts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse

from dicom_node.store import Arrived

from . import acts
from .access import Operator, Signed, Viewer
from .desk import AtDesk, Desk
from .identity import identity_of
from .render import render

router = APIRouter(include_in_schema=False)

_EVENTS = 200


def case_or_404(desk: Desk, case: str) -> dict[str, Any]:
    """The case as ``status`` shows it. Raises HTTPException 404 if there is none."""
    found = desk.store.case_status(case)
    if found is None or not found["revisions"]:
        raise HTTPException(404, "no such study is known here")
    return found


def revision_or_404(found: Mapping[str, Any], number: int | None) -> dict[str, Any]:
    """The revision of that number, the newest for None. Raises HTTPException 404 if there is none."""
    for r in found["revisions"]:
        if number is None or r["revision"] == number:
            return dict(r)
    raise HTTPException(404, "this study has no such revision")


def delivery_or_404(found: Mapping[str, Any], delivery: str) -> dict[str, Any]:
    """A delivery of the case. Raises HTTPException 404 if it has no such one."""
    for r in found["revisions"]:
        for d in r["deliveries"]:
            if d["delivery"] == delivery:
                return dict(d)
    raise HTTPException(404, "this study has no such delivery")


def report_of(desk: Desk, revision: Mapping[str, Any]) -> dict[str, Any] | None:
    """What report.json says of the results of a revision; None if there are none, or they have left."""
    if not revision["report"]:
        return None
    try:
        return dict(json.loads(desk.spool.path(revision["report"]).read_text()))
    except (OSError, ValueError):
        return None


@router.get("/studies/{case}")
def study(
    request: Request,
    desk: AtDesk,
    person: Viewer,
    case: str,
    revision: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    everything: bool = False,
) -> HTMLResponse:
    """Its newest revision, or the one asked for; the last events, or all of them."""
    found = case_or_404(desk, case)
    shown = revision_or_404(found, revision)
    newest = found["revisions"][0]
    events, total = desk.store.timeline(case, 100_000 if everything else _EVENTS)
    return render(
        request,
        "study.html",
        case=case,
        found=found,
        shown=shown,
        newest=newest,
        verbs=acts.possible(newest["state"]) if shown["revision"] == newest["revision"] else (),
        identity=identity_of(desk, case),
        series=_series(shown["series"], desk.store.received_series(case)),
        report=report_of(desk, shown),
        deliveries=[{**d, "verbs": acts.possible_for_delivery(d["state"])} for d in shown["deliveries"]],
        events=[{**e, "destination": _destination(e["delivery_id"])} for e in events],
        total=total,
    )


@router.get("/studies/{case}/act/{verb}")
def ask(request: Request, desk: AtDesk, person: Operator, case: str, verb: acts.Verb) -> HTMLResponse:
    """What the act does, and the form that asks for name and reason."""
    found = case_or_404(desk, case)
    state = found["revisions"][0]["state"]
    if verb not in acts.possible(state):
        raise HTTPException(409, f"the study is {state}: there is nothing to {verb}")
    return render(request, "act.html", case=case, found=found, verb=verb, delivery=None)


@router.post("/studies/{case}/act/{verb}")
def do(
    desk: AtDesk,
    signed: Signed,
    case: str,
    verb: acts.Verb,
    patient_safety: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """The act, then the study."""
    case_or_404(desk, case)
    acts.act(desk, verb, case, signed, patient_safety)
    return _to(case)


@router.get("/studies/{case}/deliveries/{delivery}/{verb}")
def ask_of_delivery(
    request: Request, desk: AtDesk, person: Operator, case: str, delivery: str, verb: acts.DeliveryVerb
) -> HTMLResponse:
    """As for a study."""
    found = case_or_404(desk, case)
    chosen = delivery_or_404(found, delivery)
    if verb not in acts.possible_for_delivery(chosen["state"]):
        raise HTTPException(409, f"the delivery is {chosen['state']}: there is nothing to {verb}")
    return render(request, "act.html", case=case, found=found, verb=verb, delivery=chosen)


@router.post("/studies/{case}/deliveries/{delivery}/{verb}")
def do_to_delivery(
    desk: AtDesk, signed: Signed, case: str, delivery: str, verb: acts.DeliveryVerb
) -> RedirectResponse:
    """The act, then the study."""
    delivery_or_404(case_or_404(desk, case), delivery)
    acts.act_on_delivery(desk, verb, delivery, signed)
    return _to(case)


def _to(case: str) -> RedirectResponse:
    return RedirectResponse(f"/studies/{quote(case, safe='')}", 303)


def _destination(delivery_id: str | None) -> str:
    return "" if delivery_id is None else delivery_id.split(":", 3)[-1]


def _series(findings: Sequence[Mapping[str, str]], arrived: Sequence[Arrived]) -> list[dict[str, Any]]:
    """What each series was taken for; those that nobody has judged yet are named as they came."""
    came = {a.series_uid: a for a in arrived}
    rows: list[dict[str, Any]] = [
        {**f, "instances": came[f["uid"]].instances if f["uid"] in came else None} for f in findings
    ]
    judged = {f["uid"] for f in findings}
    for a in arrived:
        if a.series_uid not in judged:
            described = str((json.loads(a.facts) if a.facts else {}).get("SeriesDescription") or "")
            words = {"uid": a.series_uid, "description": described, "role": "", "reason": "not judged yet"}
            rows.append({**words, "instances": a.instances})
    return sorted(rows, key=lambda row: (row["role"], row["description"]))
