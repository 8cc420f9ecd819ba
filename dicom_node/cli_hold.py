"""Verbs of the command line that a person decides with: retry, force, hold, release, ignore, withdraw."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_common import AsJson, ConfigFile, open_node, told
from .errors import UnsuitableInput
from .study import AWAITS_RELEASE, CaseKey

Study = Annotated[str, typer.Argument(help="Study Instance UID, or case as `status --json` prints it.")]
Target = Annotated[
    str,
    typer.Argument(
        help="Study Instance UID or case, delivery as `status` prints it, or a destination's name."
    ),
]
Reason = Annotated[str, typer.Option("--reason", "--because", help="Why: it is kept in the history.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``."""
    for verb in (retry, force, hold, release, ignore, withdraw):
        app.command()(verb)


def retry(
    what: Annotated[str, typer.Argument(help="Study Instance UID, case, or delivery as `status` prints it.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run an ended study again, or try a given-up delivery again.

    Example: mrsi-node retry 1.2.840.113619.2.1
    """
    _, store = open_node(config_file)
    if ":" in what:
        store.retry_delivery(what)
        told(as_json, f"delivery {what} will be tried again", delivery=what)
        return
    key = store.latest_of_study(what)
    store.retry(key, "retried by a person")
    _say(as_json, key, "is queued again")


def force(study: Study, reason: Reason, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Queue a study now that is still waited for.

    Example: mrsi-node force 1.2.840.113619.2.1 --reason "the FLAIR was never acquired"
    """
    _say(as_json, open_node(config_file)[1].force(study, f"forced by a person: {reason}"), "is queued")


def hold(what: Target, reason: Reason, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Keep a study from being worked on, or results from being sent, until they are released.

    Example: mrsi-node hold 1.2.840.113619.2.1 --reason "wrong patient position, physicist looks"
    Example: mrsi-node hold PACS --reason "migration until Monday"
    """
    settings, store = open_node(config_file)
    if ":" in what:
        store.hold_delivery(what, f"held by a person: {reason}")
        told(as_json, f"delivery {what} is held until it is released", delivery=what)
    elif what in {d.name for d in settings.destination}:
        store.hold_destination(what, f"held by a person: {reason}")
        told(as_json, f"nothing goes to {what} until it is released", destination=what)
    else:
        _say(as_json, store.hold(what, f"held by a person: {reason}"), "is held until it is released")


def release(
    what: Target,
    reason: Reason,
    destination: Annotated[
        str, typer.Option(help="Send a study's results there that wait for their release.")
    ] = "",
    by: Annotated[str, typer.Option(help="Who releases results: a physicist or radiologist, by name.")] = "",
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a held study, delivery or destination go on, or results that wait for someone to look at them.

    Example: mrsi-node release 1.2.840.113619.2.1 --reason "checked"
    Example: mrsi-node release 1.2.840.113619.2.1 --destination PACS --by "Dr Roe" --because "plausible"
    """
    settings, store = open_node(config_file)
    if destination:
        settings.destination_named(destination)
        delivery = store.release_results(what, destination, _signed(by, reason))
        told(as_json, f"delivery {delivery} is released", delivery=delivery)
    elif ":" in what:
        waits = store.delivery(what).reason == AWAITS_RELEASE
        store.release_delivery(what, _signed(by, reason) if waits else f"released by a person: {reason}")
        told(as_json, f"delivery {what} is released", delivery=what)
    elif what in {d.name for d in settings.destination}:
        store.release_destination(what, f"released by a person: {reason}")
        told(as_json, f"{what} is released", destination=what)
    else:
        _say(as_json, store.release(what, f"released by a person: {reason}"), "is queued")


def ignore(study: Study, reason: Reason, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Never work on a study, nor on what still comes for it; `retry` takes that back.

    Example: mrsi-node ignore 1.2.840.113619.2.1 --reason "phantom"
    """
    key = open_node(config_file)[1].ignore_study(study, f"ignored by a person: {reason}")
    _say(as_json, key, "is ignored, with what still comes for it")


def withdraw(
    study: Study,
    reason: Reason,
    by: Annotated[str, typer.Option(help="Who withdraws the results, by name.")],
    patient_safety: Annotated[
        bool, typer.Option(help="Reject them for patient safety, not for quality.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take back a study's results: every destination that has any gets a note that rejects them.

    Example: mrsi-node withdraw 1.2.840.113619.2.1 --because "anatomy of another visit" --by "Dr Roe"
    """
    from .service import open_spool
    from .withdraw import withdraw as run

    settings, store = open_node(config_file)
    done = run(
        settings, store, open_spool(settings), study, by=by, because=reason, patient_safety=patient_safety
    )
    words = [f"{n} objects at {name} are rejected: a note is on its way" for name, n in done.objects.items()]
    told(
        as_json,
        "\n".join(words) or "nothing had been sent, and nothing will be",
        study=study,
        rejected=dict(done.objects),
    )


def _signed(by: str, reason: str) -> str:
    if not by.strip():
        raise UnsuitableInput("a physicist or radiologist releases these results: say who, with --by")
    return f"released by {by}: {reason}"


def _say(as_json: bool, key: CaseKey, what: str) -> None:
    told(as_json, f"case {key} {what}", case=key.case, revision=key.revision)
