"""The machine and the node on it: versions, models, disk, throughput, workers; refusals; acts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import platform
import shutil
import tomllib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from .access import Admin, Operator, Viewer
from .desk import AtDesk, Desk
from .render import render

router = APIRouter(include_in_schema=False)

_PACKAGES = ("mrsi-sr-node", "torch", "highdicom", "pydicom", "pynetdicom", "numpy", "dbos", "fastapi")
_PAGE = 50


@router.get("/system")
def system(request: Request, desk: AtDesk, person: Viewer) -> HTMLResponse:
    """Everything at a glance."""
    usage = shutil.disk_usage(desk.spool.root)
    return render(
        request,
        "system.html",
        versions=_versions(),
        cards=_cards(desk),
        method=desk.settings.resolve.method,
        disk={
            "folder": str(desk.spool.root),
            "free_gb": usage.free / 1e9,
            "total_gb": usage.total / 1e9,
            "low_water_gb": desk.settings.storage.low_water_mb * 1024**2 / 1e9,
            "low": usage.free < desk.settings.storage.low_water_mb * 1024**2,
        },
        throughput=desk.store.throughput(desk.store.clock()),
        workers=desk.store.workers_known(),
        takeover_s=desk.settings.worker.takeover_s,
    )


@router.get("/system/quarantine")
def quarantine(
    request: Request, desk: AtDesk, person: Operator, page: Annotated[int, Query(ge=1, le=100_000)] = 1
) -> HTMLResponse:
    """What was refused and kept for a person to look at, the newest first."""
    return _listed(request, "quarantine.html", desk.store.quarantined, page)


@router.get("/system/audit")
def audit(
    request: Request, desk: AtDesk, person: Operator, page: Annotated[int, Query(ge=1, le=1000)] = 1
) -> HTMLResponse:
    """What persons did, the newest first."""
    return _listed(request, "audit.html", desk.store.acts_of_persons, page)


@router.get("/system/sign-ins")
def sign_ins(
    request: Request, desk: AtDesk, person: Admin, page: Annotated[int, Query(ge=1, le=1000)] = 1
) -> HTMLResponse:
    """Who signed in or out or was refused, and from where, the newest first."""
    return _listed(request, "sign_ins.html", desk.store.sign_ins, page)


def _listed(
    request: Request, template: str, newest: Callable[[int, int], Sequence[Any]], page: int
) -> HTMLResponse:
    """Page ``page`` of what ``newest`` gives; one row more than is shown tells of a next page."""
    rows = newest(_PAGE + 1, (page - 1) * _PAGE)
    return render(request, template, rows=rows[:_PAGE], page=page, more=len(rows) > _PAGE)


@lru_cache(1)
def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {**found, "Python": platform.python_version(), "system": platform.platform()}


def _cards(desk: Desk) -> list[dict[str, Any]]:
    """Each model's card, and whether its weights are those that the card describes."""
    chosen = desk.settings.resolve.model_dir
    folder = chosen if chosen is not None else Path(str(importlib.resources.files("sr_core") / "weights"))
    cards = []
    for path in sorted(folder.glob("*.card.toml")):
        try:
            card = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError):
            card = {}
        weights = path.with_name(path.name.removesuffix(".card.toml") + ".safetensors")
        training = card.get("training", {})
        cards.append(
            {
                "name": card.get("name", path.name.removesuffix(".card.toml")),
                "sha256": card.get("sha256", ""),
                "intact": weights.exists()
                and _sha256(weights, weights.stat().st_mtime_ns) == card.get("sha256"),
                "intended_use": card.get("intended_use", "the card cannot be read"),
                "limits": card.get("limits", ""),
                "data": training.get("data", ""),
                "commit": training.get("commit", ""),
                "figures": card.get("figures", {}),
            }
        )
    return cards


@lru_cache(32)
def _sha256(path: Path, changed_ns: int) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
