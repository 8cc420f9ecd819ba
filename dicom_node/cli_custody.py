"""The verb of the command line that prints what was received, made, delivered and removed, and proves it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from .cli_common import AsJson, ConfigFile, open_node, out, print_json
from .errors import UnsuitableInput


def register(app: typer.Typer) -> None:
    """Add the verb to ``app``."""
    app.command()(custody)


def custody(
    study: Annotated[
        str | None, typer.Argument(help="Study Instance UID, or case: print its receipt.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--verify", help="Re-check the whole ledger and every file.")
    ] = False,
    head: Annotated[str, typer.Option(help="With --verify: a digest filed earlier, to be found again.")] = "",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What was received, made, delivered and removed, from a ledger chained by hashes; or its proof.

    Example: mrsi-node custody 1.2.840.113619.2.1
    Example: mrsi-node custody --verify
    """
    from . import custody as ledger
    from .service import open_spool

    settings, store = open_node(config_file)
    if not check:
        if study is None:
            raise UnsuitableInput("name a study for its receipt, or ask for --verify")
        found = ledger.receipt(store, study)
        print_json(found) if as_json else _print_receipt(found)
        return
    verified = ledger.verify(store, open_spool(settings), head)
    if as_json:
        print_json(asdict(verified))
    else:
        out.print(f"{verified.entries} entries recomputed, {verified.files} files read again")
        out.print(f"head {verified.head}: file it elsewhere, and give it to --head next time")
    if verified.problems:
        raise UnsuitableInput("custody is broken: " + "; ".join(verified.problems))


def _print_receipt(found: dict[str, Any]) -> None:
    for uid in found["studies"]:
        out.print(f"study {uid}", style="bold")
    for kind in ("received", "corrected", "made", "delivered", "withdrawn", "removed"):
        entries = found[kind]
        if entries:
            size = sum(e.get("size", 0) for e in entries)
            out.print(
                f"{kind}: {len(entries)}"
                + (f", {size} bytes" if size else "")
                + f", last {entries[-1]['at']}"
            )
        for e in entries:
            more = ", ".join(
                f"{k} {v}" for k, v in e.items() if k in ("source", "destination", "status", "proof") and v
            )
            out.print(f"  {e['subject']}  sha256 {e['sha256']}  {more}".rstrip())
    out.print(f"head {found['head']}")
