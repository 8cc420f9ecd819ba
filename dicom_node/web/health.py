"""For monitoring: whether the page lives, whether the node is ready and why not, and what it measures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dicom_node.measures import CONTENT_TYPE, Measures

from .access import Viewer

router = APIRouter(tags=["monitoring"])


@router.get("/livez", response_class=PlainTextResponse)
def livez() -> str:
    """The page's process answers; it says nothing of what it depends on."""
    return "ok\n"


@router.get("/readyz", responses={503: {"description": "Something that the node needs is not there."}})
def readyz(request: Request) -> JSONResponse:
    """Whether all that the node needs is there: 200, or 503. Reasons are for those who may look."""
    checks = _measures(request).checks()
    known = getattr(request.state, "person", None) is not None
    said: dict[str, Any] = {
        c.name: {"ready": c.good} | ({"reason": c.reason} if known else {}) for c in checks
    }
    ready = all(c.good for c in checks)
    return JSONResponse({"ready": ready, "checks": said}, 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, _: Viewer) -> Response:
    """All measures in Prometheus' text format; a scraper signs in with a key: ``mrsi-node user key``."""
    return Response(_measures(request).text(), media_type=CONTENT_TYPE)


def _measures(request: Request) -> Measures:
    found: Measures = request.app.state.measures
    return found
