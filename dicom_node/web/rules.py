"""Rules for identification: those in force, a tester for files, and a back-test of others before use."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from starlette.responses import HTMLResponse, Response

from dicom_node.config import IdentifyRules
from dicom_node.errors import PermanentError

from .access import Admin, Operator, Viewer
from .backtest import back_test, judge, read_rules, write_rules
from .desk import AtDesk, Desk
from .render import render

router = APIRouter(include_in_schema=False)

_MOST_INSTANCES = 20_000
_MOST_FILES = 500

Text = Annotated[str, Form(max_length=100_000)]


@router.get("/rules")
def rules(request: Request, desk: AtDesk, person: Viewer) -> HTMLResponse:
    """What is in force."""
    return _page(request, desk)


@router.post("/rules/test")
def test(
    request: Request,
    desk: AtDesk,
    person: Operator,
    files: Annotated[list[UploadFile], File(max_length=_MOST_FILES)],
    text: Text = "",
    proposed: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """What dropped files are taken for, by the rules in force or those proposed. Nothing of them is kept."""
    try:
        chosen = _input_rules(desk, read_rules(text)) if proposed else desk.settings.input_rules
        judged = judge((f.file for f in files if f.size), chosen, desk.settings.intake)
    except PermanentError as problem:
        return _page(request, desk, text=text, problem=str(problem), status=422)
    return _page(request, desk, text=text, judged=judged, by_proposed=proposed)


@router.post("/rules/backtest")
def try_out(
    request: Request,
    desk: AtDesk,
    person: Admin,
    text: Text,
    days: Annotated[int, Form(ge=1, le=3650)] = 30,
) -> HTMLResponse:
    """Which series of the last ``days`` would be taken for something else."""
    try:
        proposed = read_rules(text)
    except PermanentError as problem:
        return _page(request, desk, text=text, days=days, problem=str(problem), status=422)
    since = desk.store.clock() - days * 86400.0
    received = desk.store.received_since(since, _MOST_INSTANCES)
    found = back_test(received, desk.settings.input_rules, _input_rules(desk, proposed))
    most = len(received) == _MOST_INSTANCES
    return _page(request, desk, text=text, days=days, found=found, most=_MOST_INSTANCES if most else 0)


@router.post("/rules/toml")
def toml(person: Admin, text: Text) -> Response:
    """Proposed rules, checked, to be put into the configuration."""
    try:
        written = write_rules(read_rules(text))
    except PermanentError as problem:
        raise HTTPException(422, str(problem)) from problem
    headers = {"content-disposition": 'attachment; filename="identify.toml"'}
    return Response(written, media_type="application/toml", headers=headers)


def _input_rules(desk: Desk, proposed: IdentifyRules) -> IdentifyRules:
    """As the node would apply them: knowing its own results."""
    return desk.settings.model_copy(update={"identify": proposed}).input_rules


def _page(request: Request, desk: Desk, *, status: int = 200, **more: Any) -> HTMLResponse:
    in_force = desk.settings.identify
    context = {
        "rules": in_force,
        "in_force": write_rules(in_force),
        "text": "",
        "days": 30,
        "problem": "",
        "judged": None,
        "by_proposed": False,
        "found": None,
        "most": 0,
        "max_upload_mb": desk.settings.web.max_upload_mb,
    }
    return render(request, "rules.html", status=status, **{**context, **more})
