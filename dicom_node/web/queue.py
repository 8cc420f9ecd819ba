"""The queue: every study by what has happened to it last, what it waits for, and how its deliveries stand."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from dicom_node.study import State

from . import acts
from .access import Viewer
from .desk import AtDesk
from .render import render

router = APIRouter(include_in_schema=False)

PAGE = 50


@router.get("/")
def queue(
    request: Request,
    desk: AtDesk,
    person: Viewer,
    state: Annotated[str, Query(max_length=16)] = "",
    q: Annotated[str, Query(max_length=100)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """Filtered by ``state`` and text ``q``; unknown states show everything."""
    chosen = (State(state),) if state in set(State) else ()
    rows, total = desk.store.queue(chosen, q, PAGE, (page - 1) * PAGE)
    standings = {s.name: s for s in desk.store.standings()}
    pages = max(1, -(-total // PAGE))

    def address(number: int) -> str:
        asked = {"state": chosen[0] if chosen else "", "q": q, "page": number if number > 1 else ""}
        return "/?" + urlencode({k: v for k, v in asked.items() if v})

    return render(
        request,
        "queue.html",
        rows=rows,
        total=total,
        first=(page - 1) * PAGE + 1,
        previous=address(page - 1) if page > 1 else None,
        following=address(page + 1) if page < pages else None,
        chosen=chosen[0] if chosen else "",
        q=q,
        counts=desk.store.count_by_state(),
        destinations=[d.name for d in desk.settings.destination],
        open_deliveries=desk.store.open_deliveries(),
        standings=standings,
        possible=acts.possible,
    )
