"""The application: every page's router, behind the gate and the shield."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from dicom_node.config import Settings
from dicom_node.errors import NodeError, TemporaryError
from dicom_node.measures import Measures
from dicom_node.study import IllegalTransition

from . import (
    access,
    api,
    destinations,
    downloads,
    health,
    live,
    passwords,
    people,
    protect,
    queue,
    rules,
    study,
    system,
    viewer,
)
from .desk import Desk
from .render import render

# One module, one page, one router.
ROUTERS: tuple[APIRouter, ...] = (
    people.router,
    queue.router,
    study.router,
    api.router,
    viewer.router,
    downloads.router,
    destinations.router,
    rules.router,
    system.router,
    live.router,
    health.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The page over the store and spool that ``settings`` name, which exist at this version's schema."""
    desk = Desk.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.store.close()

    app = FastAPI(
        title="mrsi-sr-node",
        version=importlib.metadata.version("mrsi-sr-node"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        dependencies=[Depends(protect.genuine)],
        lifespan=lifespan,
    )
    app.state.desk = desk
    app.state.measures = Measures(settings, desk.store, desk.spool)
    app.state.heart = live.Heart(desk.store)
    app.state.tries = passwords.Tries()
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    app.add_exception_handler(NodeError, _in_words)
    app.add_exception_handler(IllegalTransition, _too_late)
    app.add_middleware(access.Gate, desk=desk)
    app.add_middleware(protect.Shield, rules=settings.web)
    return app


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return _said(request, problem.status_code, str(problem.detail), dict(problem.headers or {}))


async def _misunderstood(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    fields = sorted({".".join(str(p) for p in e["loc"][1:]) or str(e["loc"][0]) for e in problem.errors()})
    return _said(request, 422, f"not understood: {', '.join(fields)}")


async def _in_words(request: Request, problem: Exception) -> Response:
    return _said(request, 503 if isinstance(problem, TemporaryError) else 409, str(problem))


async def _too_late(request: Request, _: Exception) -> Response:
    return _said(request, 409, "the study has moved on meanwhile: look again")


def _said(request: Request, status: int, problem: str, headers: dict[str, Any] | None = None) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": problem}, status, headers)
    answer = render(
        request, "error.html", status=status, title=HTTPStatus(status).phrase.capitalize(), problem=problem
    )
    answer.headers.update(headers or {})
    return answer
