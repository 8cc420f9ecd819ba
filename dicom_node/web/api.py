"""The same reads and acts for programs: JSON, with a schema at /api/openapi.json.

A program shows a key (``mrsi-node user key``) as a bearer token. Times are UTC seconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from dicom_node.store import Queued
from dicom_node.study import DeliveryState, State

from . import acts
from .access import Operator, Viewer, sign
from .desk import AtDesk
from .study import case_or_404, delivery_or_404, report_of, revision_or_404


class Problem(BaseModel):
    """What went wrong, in words."""

    detail: str


_ERRORS = {
    400: "the request cannot be read",
    401: "no valid key or session",
    403: "the role does not allow it",
    404: "not known here",
    409: "the state forbids it",
    422: "not understood",
    503: "try again later",
}

router = APIRouter(
    prefix="/api",
    dependencies=[Depends(HTTPBearer(auto_error=False))],
    responses={status: {"model": Problem, "description": words} for status, words in _ERRORS.items()},
)

Case = Annotated[str, Path(max_length=64, description="A study's case, as the list names it.")]
RevisionNumber = Annotated[int | None, Query(ge=1, le=1_000_000, description="Default: the newest.")]


class DeliveryRow(BaseModel):
    delivery: str
    destination: str
    purpose: str
    state: DeliveryState
    reason: str
    next_try_at: float | None


class StudyRow(BaseModel):
    case: str
    revision: int
    patient_id: str
    studies: list[str]
    study_date: str
    state: State
    reason: str
    since: float
    begun_at: float
    awaited: str
    awaited_until: float | None
    withdrawn: bool
    deliveries: list[DeliveryRow]


class StudyList(BaseModel):
    """One page of studies, newest change first; ``total`` of all pages."""

    total: int
    studies: list[StudyRow]


class SeriesDetail(BaseModel):
    uid: str
    description: str
    role: str
    reason: str


class Otherwise(BaseModel):
    """An object that went in another form, or not at all."""

    name: str
    because: str


class DeliveryDetail(DeliveryRow):
    attempt: int
    tries: int
    taken: int
    proven: int
    otherwise: list[Otherwise]


class Withdrawal(BaseModel):
    at: float
    by: str
    because: str
    title: str


class RevisionDetail(BaseModel):
    revision: int
    state: State
    reason: str
    attempt: int
    since: float
    last_received_at: float
    awaited: str
    awaited_until: float | None
    series: list[SeriesDetail]
    deliveries: list[DeliveryDetail]
    withdrawn: list[Withdrawal]


class StudyDetail(BaseModel):
    """All revisions, the newest first; ``acts``: what may be done to it now."""

    case: str
    patient_id: str
    studies: list[str]
    instances: int
    revisions: list[RevisionDetail]
    acts: list[acts.Verb]


class HappenedRow(BaseModel):
    at: float
    revision: int
    delivery_id: str | None
    event: str
    from_state: str
    to_state: str
    reason: str


class DestinationRow(BaseModel):
    """``open``: deliveries that have not ended well, by state."""

    destination: str
    type: str
    held: bool
    failing: bool
    reason: str
    open: dict[DeliveryState, int]


class Act(BaseModel):
    """``by`` counts only where nobody signs in."""

    reason: Annotated[str, Field(max_length=500, examples=["the FLAIR was never acquired"])]
    by: Annotated[str, Field(max_length=64)] = ""
    patient_safety: Annotated[bool, Field(description="For withdraw: not for quality.")] = False


@router.get("/studies", tags=["look"])
def studies(
    desk: AtDesk,
    person: Viewer,
    state: State | None = None,
    q: Annotated[str, Query(max_length=100, description="Found in IDs, descriptions, reasons.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> StudyList:
    """The queue."""
    rows, total = desk.store.queue((state,) if state else (), q, limit, offset)
    return StudyList(total=total, studies=[_row(r) for r in rows])


def _row(r: Queued) -> StudyRow:
    deliveries = [
        DeliveryRow(
            delivery=d.delivery_id,
            destination=d.destination,
            purpose=d.purpose,
            state=d.state,
            reason=d.reason,
            next_try_at=d.next_try_at,
        )
        for d in r.deliveries
    ]
    plain = {k: v for k, v in vars(r).items() if k not in ("key", "deliveries")}
    return StudyRow(case=r.key.case, revision=r.key.revision, deliveries=deliveries, **plain)


@router.get("/studies/{case}", tags=["look"])
def study(desk: AtDesk, person: Viewer, case: Case) -> StudyDetail:
    """One study."""
    found = case_or_404(desk, case)
    return StudyDetail.model_validate({**found, "acts": acts.possible(found["revisions"][0]["state"])})


@router.get("/studies/{case}/events", tags=["look"])
def events(
    desk: AtDesk, person: Viewer, case: Case, limit: Annotated[int, Query(ge=1, le=10_000)] = 200
) -> list[HappenedRow]:
    """Its history, newest first."""
    case_or_404(desk, case)
    return [HappenedRow.model_validate(e) for e in desk.store.timeline(case, limit)[0]]


@router.get("/studies/{case}/report", tags=["look"])
def report(desk: AtDesk, person: Viewer, case: Case, revision: RevisionNumber = None) -> dict[str, Any]:
    """What report.json says of its results."""
    found = report_of(desk, revision_or_404(case_or_404(desk, case), revision))
    if found is None:
        raise HTTPException(404, "there are no results of it, or they have left the spool")
    return found


@router.get("/states", tags=["look"])
def states(desk: AtDesk, person: Viewer) -> dict[State, int]:
    """How many studies there are, by state."""
    return desk.store.count_by_state()


@router.get("/destinations", tags=["look"])
def destinations(desk: AtDesk, person: Viewer) -> list[DestinationRow]:
    """How each destination stands."""
    counts = desk.store.open_deliveries()
    found = []
    for d in desk.settings.destination:
        s = desk.store.standing(d.name)
        said = {"held": s.held, "failing": s.open, "reason": s.held_because or s.reason}
        found.append(DestinationRow(destination=d.name, type=d.type, open=counts.get(d.name, {}), **said))
    return found


@router.post("/studies/{case}/acts/{verb}", tags=["act"])
def act(desk: AtDesk, person: Operator, case: Case, verb: acts.Verb, asked: Act) -> StudyDetail:
    """Force, hold, release, retry, ignore or withdraw a study; how it stands then."""
    case_or_404(desk, case)
    acts.act(desk, verb, case, sign(person, asked.by, asked.reason), asked.patient_safety)
    return study(desk, person, case)


@router.post("/studies/{case}/deliveries/{delivery}/acts/{verb}", tags=["act"])
def act_on_delivery(
    desk: AtDesk,
    person: Operator,
    case: Case,
    delivery: Annotated[str, Path(max_length=200)],
    verb: acts.DeliveryVerb,
    asked: Act,
) -> StudyDetail:
    """Hold, release or retry a delivery; how its study stands then."""
    delivery_or_404(case_or_404(desk, case), delivery)
    acts.act_on_delivery(desk, verb, delivery, sign(person, asked.by, asked.reason))
    return study(desk, person, case)
