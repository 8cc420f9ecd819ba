"""Verbs of the command line that say where everything stands: status, destinations."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import typer

from .cli_common import AsJson, ConfigFile, open_node, out, print_json
from .config import Destination


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (status, destinations):
        app.command()(verb)


def status(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Where every study stands, what each series was taken for and why, and what is in quarantine.

    Example: mrsi-node status --json
    """
    table = open_node(config_file)[1].status()
    for case in table["cases"]:
        for r in case["revisions"]:
            r["waiting_for"] = _waiting_for(r)
    if as_json:
        print_json(table)
        return
    for case in table["cases"]:
        _print_case(case)
    for q in table["quarantine"]:
        out.print(f"quarantined: {q['sop_uid'] or 'unnamed'} from {q['source']}: {q['reason']}")
    for d in table["destinations"]:
        _print_destination(d)
    for w in table["workers"]:
        _print_worker(w)
    if not table["workers"]:
        out.print("no worker is running: nothing is worked on or sent")
    if not table["cases"]:
        out.print("no study has come yet")


def _print_case(case: dict[str, Any]) -> None:
    for uid in case["studies"]:
        out.print(f"study {uid}", style="bold")
    for r in case["revisions"]:
        said = r["reason"] or r["waiting_for"] or ""
        line = f"  revision {r['revision']}: {r['state']} since {_clock(r['since'])}"
        out.print(line + (f": {said}" if said else ""))
        for w in r["withdrawn"]:
            out.print(f"    withdrawn {_clock(w['at'])} by {w['by']}: {w['because']}")
        for f in r["series"]:
            name = " ".join(f["description"].split()) or f["uid"]  # on one line, whatever it says
            out.print(f"    {f['role']:15} {name}: {f['reason']}")
        for d in r["deliveries"]:
            because = f": {d['reason']}" if d["reason"] else ""
            proven = f", {d['proven']} proven" if d["proven"] else ""
            what = "" if d["purpose"] == "results" else f" of a note ({d['purpose']})"
            out.print(
                f"    delivery{what} {d['delivery']}: {d['state']}, {d['taken']} taken{proven}{because}",
            )
            for words, count in Counter(o["because"] for o in d["otherwise"]).items():
                named = next(o["name"] for o in d["otherwise"] if o["because"] == words)
                out.print(f"      {named if count == 1 else f'{count} objects'} {words}")


def destinations(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every destination: what goes there, how it stands, and which forms of objects it refuses.

    Example: mrsi-node destinations --json
    """
    settings, store = open_node(config_file)
    known = {d["destination"]: d for d in store.status()["destinations"]}
    table = [{**_configured(d), **_known(known.get(d.name))} for d in settings.destination]
    if as_json:
        print_json(table)
        return
    for d in table:
        sends = f", gets {', '.join(d['send'])}" if d["send"] else ""
        out.print(f"{d['destination']} ({d['type']}){sends}, proof {d['proof']}", style="bold")
        if d["wait_for_release"]:
            out.print("  results wait for their release")
        if d["state"] != "CLOSED":
            out.print(f"  {d['state']} since {_clock(d['since'])}: {d['reason']}")
        for r in d["refuses"]:
            out.print(f"  refuses {r['form']} since {_clock(r['since'])}: {r['because']}")


def _configured(d: Destination) -> dict[str, Any]:
    return {
        "destination": d.name,
        "type": d.type,
        "send": list(getattr(d, "send", ())),
        "may_lack": list(getattr(d, "may_lack", ())),
        "proof": d.proof,
        "wait_for_release": d.wait_for_release,
    }


def _known(d: dict[str, Any] | None) -> dict[str, Any]:
    if d is None:
        return {"state": "CLOSED", "failures": 0, "reason": "", "since": None, "refuses": []}
    return {k: d[k] for k in ("state", "failures", "reason", "since", "refuses")}


def _print_destination(d: dict[str, Any]) -> None:
    for r in d["refuses"]:
        out.print(f"destination {d['destination']} refuses {r['form']}: {r['because']}")
    if d["state"] == "CLOSED":
        return
    said = "held" if d["state"] == "HELD" else f"failed {d['failures']} times in a row, only probes go there"
    out.print(f"destination {d['destination']}: {said} since {_clock(d['since'])}: {d['reason']}")


def _print_worker(w: dict[str, Any]) -> None:
    taken = w["taken_over_at"]
    over = f", taken over by {w['taken_over_by']} at {_clock(taken)}" if taken else ""
    out.print(f"worker {w['name']}: last seen {_clock(w['seen_at'])}{over}")


def _waiting_for(revision: dict[str, Any]) -> str | None:
    if revision["state"] != "RECEIVING":
        return None
    if revision["awaited_until"] is None:
        return "a first look at what has come"
    return f"{revision['awaited']}, until {_clock(revision['awaited_until'])}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
