"""The command line. Exit codes: 0 done, 2 bad input or configuration, 3 try again later, 4 a peer refused."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from . import (
    cli_backup,
    cli_cases,
    cli_cohort,
    cli_conformance,
    cli_custody,
    cli_health,
    cli_hold,
    cli_network,
    cli_people,
    cli_status,
    cli_torture,
    config,
)
from .cli_common import AsJson, ConfigFile, err, load_settings, out, print_json, told
from .errors import NodeError, Refused, TemporaryError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; problems a person can solve are one message, not a traceback."""
    try:
        app()
    except NodeError as problem:
        _tell(str(problem))
        sys.exit(_exit_code(problem))
    except OSError as problem:
        _tell(f"{problem.filename or ''}: {problem.strerror}".removeprefix(": "))
        sys.exit(3)
    except OperationalError as problem:
        _tell(f"the database does not answer: {problem.orig}")
        sys.exit(3)


def _tell(problem: str) -> None:
    err.print("error:", style="bold red", end=" ")
    err.print(problem)


def _exit_code(problem: NodeError) -> int:
    if isinstance(problem, TemporaryError):
        return 3
    return 4 if isinstance(problem, Refused) else 2


def _until_told() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@app.command()
def serve(config_file: ConfigFile = None) -> None:
    """Run the node: listener, watch folder, housekeeping, page and one worker, until SIGTERM or Ctrl-C.

    Example: mrsi-node serve --config config/node.toml
    """
    from .service import serve as run

    settings = load_settings(config_file)
    if settings.web.enabled:
        err.print(f"the node's page: {settings.web.url}")
    run(settings, _until_told())


@app.command()
def work(
    config_file: ConfigFile = None,
    name: Annotated[str, typer.Option(help="This worker's name, unique and stable across restarts.")] = "",
) -> None:
    """Run one more worker on the same database and spool.

    Example: mrsi-node work --config config/node.toml --name gpu-1
    """
    from .service import work as run

    settings = load_settings(config_file)
    if name:
        settings = config.with_worker_name(settings, name)
    run(settings, _until_told())


@app.command()
def check_config(
    path: Annotated[Path | None, typer.Argument(help="Configuration file.")] = None, as_json: AsJson = False
) -> None:
    """Check a configuration file and print what it resolves to.

    Example: mrsi-node check-config config/node.toml
    """
    settings = config.load(path)
    if as_json:
        print_json(config.as_table(settings))
        return
    where = (
        ", ".join(f"{d.name} ({d.type})" for d in settings.destination) or "none: results stay in the spool"
    )
    out.print(f"good. AE title {settings.node.ae_title} on {settings.node.host}:{settings.node.port}")
    out.print(f"method {settings.resolve.method}; destinations: {where}")


@app.command()
def migrate(
    config_file: ConfigFile = None,
    to: Annotated[
        str, typer.Option(help="Go back to an older version's schema, with the node stopped and backed up.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Bring the database to this version's schema, and the workflow engine's to the engine's.

    Example: mrsi-node migrate --config config/node.toml
    Example: mrsi-node migrate --to 0007
    """
    from .store import Store, go_back, newest
    from .store import migrate as run
    from .workflows import migrate_engine

    storage = load_settings(config_file).storage
    if to:
        go_back(Store(storage.database_url), to)
        told(as_json, f"the schema is {to}: start only the version that it belongs to", schema=to)
        return
    run(Store(storage.database_url))
    if storage.engine_database:
        migrate_engine(storage.engine_url)
    told(as_json, f"the schema is this version's: {newest()}", schema=newest())


for verbs in (
    cli_status,
    cli_conformance,
    cli_hold,
    cli_custody,
    cli_backup,
    cli_health,
    cli_network,
    cli_cases,
    cli_people,
    cli_cohort,
    cli_torture,
):
    verbs.register(app)


if __name__ == "__main__":
    main()
