"""What has changed, told to every open page as it happens (server-sent events).

However many pages are open, the store is asked twice a second. A page that is told fetches its live block.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from dicom_node.errors import TemporaryError
from dicom_node.store import Pulse, Store

from .access import Viewer

router = APIRouter(include_in_schema=False)

_LOOK_S = 0.5
_SIGN_OF_LIFE_S = 15.0
# Then the browser asks anew, and is known or not known anew.
_LONGEST_S = 300.0
_MOST_WATCHERS = 100
_MANY = 100


class Heart:
    """The store's pulse, felt once for all who watch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._felt: Pulse | None = None
        self._at = float("-inf")
        self.watchers = 0
        self.stopped = False

    async def pulse(self) -> Pulse:
        """At most half a second old. Raises TemporaryError if the database does not answer."""
        async with self._turn:
            if self._felt is None or time.monotonic() - self._at >= _LOOK_S:
                self._felt = await run_in_threadpool(self._store.pulse)
                self._at = time.monotonic()
            return self._felt

    async def changed_since(self, event: int) -> list[str] | None:
        """Cases with news after ``event``; None: too many to name."""
        cases = await run_in_threadpool(self._store.changed_since, event, _MANY)
        return cases if len(cases) < _MANY else None

    def stop(self) -> None:
        """Every stream ends within half a second."""
        self.stopped = True


@router.get("/live")
async def live(request: Request, person: Viewer) -> StreamingResponse:
    """``hello`` at once, then ``change`` with {"cases": [ids] or null} whenever something has."""
    heart: Heart = request.app.state.heart
    if heart.watchers >= _MOST_WATCHERS:
        raise HTTPException(503, "too many pages are open")
    return StreamingResponse(_stream(request, heart), media_type="text/event-stream")


async def _stream(request: Request, heart: Heart) -> AsyncIterator[str]:
    heart.watchers += 1
    try:
        seen = await heart.pulse()
        yield _told("hello", {})
        begun = said = time.monotonic()
        while not heart.stopped and time.monotonic() - begun < _LONGEST_S:
            await asyncio.sleep(_LOOK_S)
            if await request.is_disconnected():
                return
            try:
                now = await heart.pulse()
                if now != seen:
                    yield _told("change", {"cases": await heart.changed_since(seen.event)})
                    seen, said = now, time.monotonic()
            except TemporaryError:
                continue  # what changed meanwhile is told when the database is back
            if time.monotonic() - said > _SIGN_OF_LIFE_S:
                yield ": still here\n\n"
                said = time.monotonic()
    finally:
        heart.watchers -= 1


def _told(event: str, data: object) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
