"""Destinations: whether they answer, what they keep, change and refuse, and a person's hold upon them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse

from dicom_node.config import Destination

from .access import Operator, Signed, Viewer
from .desk import AtDesk, Desk
from .errands import Errands
from .render import render

router = APIRouter(include_in_schema=False)

_EVENTS = 20  # of each destination

Name = Annotated[str, Form(max_length=200)]


@router.get("/destinations")
def destinations(request: Request, desk: AtDesk, person: Viewer) -> HTMLResponse:
    """All that are configured, in their order."""
    errands, waiting = _errands(request).all(), desk.store.open_deliveries()
    shown = [_shown(desk, d) | {"errand": errands.get(d.name)} for d in desk.settings.destination]
    return render(
        request,
        "destinations.html",
        destinations=shown,
        open_deliveries=waiting,
        running=any(not e.ended for e in errands.values()),
    )


@router.post("/destinations/echo")
def echo(request: Request, desk: AtDesk, person: Operator, destination: Name) -> RedirectResponse:
    """Asked in the background."""
    _errands(request).start(desk, "echo", destination, person.name)
    return _to(destination)


@router.post("/destinations/rehearse")
def rehearse(request: Request, desk: AtDesk, person: Operator, destination: Name) -> RedirectResponse:
    """In the background; what the destination refuses replaces what was known of it."""
    _errands(request).start(desk, "rehearsal", destination, person.name)
    return _to(destination)


@router.post("/destinations/{verb}")
def hold_or_release(
    desk: AtDesk, signed: Signed, verb: Literal["hold", "release"], destination: Name
) -> RedirectResponse:
    """Nothing goes there until it is released; or goes there again."""
    name = desk.settings.destination_named(destination).name
    if verb == "hold":
        desk.store.hold_destination(name, f"held by {signed.by}: {signed.because}")
    else:
        desk.store.release_destination(name, f"released by {signed.by}: {signed.because}")
    return _to(name)


def _shown(desk: Desk, d: Destination) -> dict[str, Any]:
    standing = desk.store.standing(d.name)
    refused = desk.store.refused_forms(d.name)
    return {
        "name": d.name,
        "type": d.type,
        "where": _where(d),
        "gets": ", ".join(getattr(d, "send", ())) or "DICOM, NIfTI, report",
        "proof": d.proof,
        "waits_for_release": d.wait_for_release,
        "standing": standing,
        "state": "HELD" if standing.held else "OPEN" if standing.open else "CLOSED",
        "refused": [(str(rung), because) for rung, because in refused.items()],
        "events": desk.store.last_of_destination(d.name, _EVENTS),
    }


def _where(d: Destination) -> str:
    if d.type == "dicom":
        return f"{d.ae_title} at {d.host}:{d.port}"
    return d.url if d.type == "dicomweb" else str(d.folder)


def _errands(request: Request) -> Errands:
    """Of this process; made when first asked for."""
    state = request.app.state
    if not hasattr(state, "errands"):
        state.errands = Errands()
    errands: Errands = state.errands
    return errands


def _to(destination: str) -> RedirectResponse:
    return RedirectResponse(f"/destinations#{quote(destination, safe='')}", 303)
