"""The command line. Exit codes: 0 done, 2 bad input or configuration, 3 try again later, 4 a peer refused."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pydicom
import typer
from rich.console import Console
from sqlalchemy.exc import OperationalError

from . import cli_conformance, cli_hold, cli_torture, config, log
from .config import DicomDestination, Settings
from .errors import BadConfiguration, NodeError, Refused, TemporaryError, UnsuitableInput

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode=None,
)
cli_hold.register(app)
cli_conformance.register(app)
cli_torture.register(app)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default: the one MRSI_NODE_CONFIG names.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


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
    _err.print("error:", style="bold red", end=" ")
    _err.print(problem, markup=False)


def _exit_code(problem: NodeError) -> int:
    if isinstance(problem, TemporaryError):
        return 3
    return 4 if isinstance(problem, Refused) else 2


def _settings(path: Path | None) -> Settings:
    settings = config.load(path)
    log.configure(settings.log.level, settings.log.json_lines)
    return settings


def _until_told() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@app.command()
def serve(config_file: ConfigFile = None) -> None:
    """Run the node: listener, watch folder, housekeeping and one worker, until SIGTERM or Ctrl-C.

    Example: mrsi-node serve --config config/node.toml
    """
    from .service import serve as run

    run(_settings(config_file), _until_told())


@app.command()
def work(
    config_file: ConfigFile = None,
    name: Annotated[str, typer.Option(help="This worker's name, unique and stable across restarts.")] = "",
) -> None:
    """Run one more worker on the same database and spool.

    Example: mrsi-node work --config config/node.toml --name gpu-1
    """
    from .service import work as run

    settings = _settings(config_file)
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
        _print_json(config.as_table(settings))
        return
    where = (
        ", ".join(f"{d.name} ({d.type})" for d in settings.destination) or "none: results stay in the spool"
    )
    _out.print(f"good. AE title {settings.node.ae_title} on {settings.node.host}:{settings.node.port}")
    _out.print(f"method {settings.resolve.method}; destinations: {where}")


@app.command()
def migrate(config_file: ConfigFile = None) -> None:
    """Bring the database to this version's schema, and the workflow engine's to the engine's.

    Example: mrsi-node migrate --config config/node.toml
    """
    from .store import Store
    from .store import migrate as run
    from .workflows import migrate_engine

    storage = _settings(config_file).storage
    run(Store(storage.database_url))
    if storage.engine_database:
        migrate_engine(storage.engine_url)
    _out.print("the schema is this version's")


@app.command()
def status(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Where every study stands, what each series was taken for and why, and what is in quarantine.

    Example: mrsi-node status --json
    """
    from .service import open_existing

    settings = _settings(config_file)
    table = open_existing(settings).status()
    for case in table["cases"]:
        for r in case["revisions"]:
            r["waiting_for"] = _waiting_for(r)
    if as_json:
        _print_json(table)
        return
    for case in table["cases"]:
        _print_case(case)
    for q in table["quarantine"]:
        _out.print(
            f"quarantined: {q['sop_uid'] or 'unnamed'} from {q['source']}: {q['reason']}", markup=False
        )
    for d in table["destinations"]:
        _print_destination(d)
    if not table["cases"]:
        _out.print("no study has come yet")


def _print_case(case: dict[str, Any]) -> None:
    for uid in case["studies"]:
        _out.print(f"study {uid}", style="bold")
    for r in case["revisions"]:
        said = r["reason"] or r["waiting_for"] or ""
        line = f"  revision {r['revision']}: {r['state']} since {_clock(r['since'])}"
        _out.print(line + (f": {said}" if said else ""), markup=False)
        for f in r["series"]:
            _out.print(f"    {f['role']:15} {f['description'] or f['uid']}: {f['reason']}", markup=False)
        for d in r["deliveries"]:
            because = f": {d['reason']}" if d["reason"] else ""
            proven = f", {d['proven']} proven" if d["proven"] else ""
            _out.print(
                f"    delivery {d['delivery']}: {d['state']}, {d['taken']} taken{proven}{because}",
                markup=False,
            )


def _print_destination(d: dict[str, Any]) -> None:
    if d["state"] == "CLOSED":
        return
    said = "held" if d["state"] == "HELD" else f"failed {d['failures']} times in a row, only probes go there"
    _out.print(
        f"destination {d['destination']}: {said} since {_clock(d['since'])}: {d['reason']}", markup=False
    )


def _waiting_for(revision: dict[str, Any]) -> str | None:
    if revision["state"] != "RECEIVING":
        return None
    if revision["awaited_until"] is None:
        return "a first look at what has come"
    return f"{revision['awaited']}, until {_clock(revision['awaited_until'])}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@app.command()
def retry(
    what: Annotated[str, typer.Argument(help="Study Instance UID, case, or delivery as `status` prints it.")],
    config_file: ConfigFile = None,
) -> None:
    """Run an ended study again, or try a given-up delivery again.

    Example: mrsi-node retry 1.2.840.113619.2.1
    """
    from .service import open_existing

    store = open_existing(_settings(config_file))
    if ":" in what:
        store.retry_delivery(what)
        _out.print(f"delivery {what} will be tried again")
        return
    key = store.latest_of_study(what)
    revision = store.revision(key)
    if revision.state not in ("DONE", "FAILED", "IGNORED"):
        raise UnsuitableInput(f"case {key} is {revision.state}; only an ended one is run again")
    store.retry(key, "retried by a person")
    _out.print(f"case {key} is queued again")


@app.command()
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
    from .service import open_existing, open_spool

    settings = _settings(config_file)
    store = open_existing(settings)
    if not check:
        if study is None:
            raise UnsuitableInput("name a study for its receipt, or ask for --verify")
        found = ledger.receipt(store, study)
        _print_json(found) if as_json else _print_receipt(found)
        return
    verified = ledger.verify(store, open_spool(settings), head)
    if as_json:
        _print_json(asdict(verified))
    else:
        _out.print(f"{verified.entries} entries recomputed, {verified.files} files read again")
        _out.print(f"head {verified.head}: file it elsewhere, and give it to --head next time")
    if verified.problems:
        raise UnsuitableInput("custody is broken: " + "; ".join(verified.problems))


def _print_receipt(found: dict[str, Any]) -> None:
    for uid in found["studies"]:
        _out.print(f"study {uid}", style="bold")
    for kind in ("received", "corrected", "made", "delivered", "removed"):
        entries = found[kind]
        if entries:
            size = sum(e.get("size", 0) for e in entries)
            _out.print(
                f"{kind}: {len(entries)}"
                + (f", {size} bytes" if size else "")
                + f", last {entries[-1]['at']}"
            )
        for e in entries:
            more = ", ".join(
                f"{k} {v}" for k, v in e.items() if k in ("source", "destination", "status", "proof") and v
            )
            _out.print(f"  {e['subject']}  sha256 {e['sha256']}  {more}".rstrip(), markup=False)
    _out.print(f"head {found['head']}")


@app.command()
def echo(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    config_file: ConfigFile = None,
) -> None:
    """Ask a destination for a DICOM echo.

    Example: mrsi-node echo PACS
    """
    from . import dispatch

    settings = _settings(config_file)
    dispatch.echo(_dicom(settings, destination), settings.node)
    _out.print(f"{destination} answers")


@app.command()
def send(
    destination: Annotated[str, typer.Argument(help="A destination's name in the configuration.")],
    paths: Annotated[list[Path], typer.Argument(exists=True, help="DICOM files or folders of them.")],
    config_file: ConfigFile = None,
) -> None:
    """Send DICOM files to a destination.

    Example: mrsi-node send PACS results/
    """
    from . import dispatch

    settings = _settings(config_file)
    files = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob("*"))) if f.is_file()]
    files = [f for f in files if pydicom.misc.is_dicom(f)]
    if not files:
        raise UnsuitableInput("no DICOM file among these paths")
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1

    dispatch.send_paths(_dicom(settings, destination), files, settings.node, count)
    _out.print(f"{destination} took {sent} of {len(files)} files")


def _dicom(settings: Settings, name: str) -> DicomDestination:
    destination = settings.destination_named(name)
    if not isinstance(destination, DicomDestination):
        raise BadConfiguration(f"{name} is of type {destination.type}, not a DICOM peer")
    return destination


@app.command()
def process(
    case: Annotated[Path, typer.Argument(help="A folder with DICOM series, or a NIfTI case.")],
    out: Annotated[Path, typer.Option("--out", help="Where dicom/, nifti/ and report.json are written.")],
    method: Annotated[str, typer.Option(help="For instance bicubic, unet+fnlm+dc.")] = "",
    config_file: ConfigFile = None,
) -> None:
    """Super-resolve one case from disk, without any network or database.

    Example: mrsi-node process case/ --out out/ --method unet+fnlm+dc
    """
    from .process import identify_case, make_results, open_folder

    settings = _settings(config_file)
    if method:
        settings = settings.model_copy(
            update={"resolve": settings.resolve.model_copy(update={"method": method})}
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UnsuitableInput(f"{out} is not an empty folder: name a new one, so that no results mix")
    files = open_folder(case)
    identified = identify_case(files, settings.input_rules)
    if identified.nothing is not None:
        for f in identified.findings:
            _err.print(f"  {f.description or f.series_uid}: {f.role}: {f.reason}")
        raise UnsuitableInput(identified.nothing)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "results"
        folder.mkdir()
        with _err.status("starting") as spinner:
            results = make_results(files, identified, settings, folder, spinner.update)
        if out.exists():
            out.rmdir()
        shutil.move(folder, out)
    report = results.report
    for warning in report["warnings"]:
        _err.print(f"warning: {warning}")
    _out.print(
        f"{len(report['maps'])} maps by {report['method']} in {report['timings_s']['total']:.1f} s: {out}"
    )


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="A new folder for the case and its truth/.")],
    labels: Annotated[Path | None, typer.Option(help="NIfTI label map (FreeSurfer labels).")] = None,
    template: Annotated[str, typer.Option(help="Template brain; icbm152 needs the demo extra.")] = "icbm152",
    seed: Annotated[int, typer.Option(help="Same seed, same case.")] = 0,
    lesion: Annotated[str, typer.Option(help="Regime: match, mismatch or none.")] = "mismatch",
    form: Annotated[str, typer.Option("--format", help="dicom or nifti.")] = "dicom",
    maps: Annotated[str, typer.Option(help="Metabolites: the seven usual ones, or all twenty.")] = "usual",
) -> None:
    """Write a simulated glioma study as a site would export it, with the truth beside it.

    Example: mrsi-node simulate case/ --template icbm152 --seed 1 --format dicom
    """
    from .simulate import write_case

    began = time.monotonic()
    write_case(out, labels=labels, template=template, seed=seed, lesion=lesion, form=form, maps=maps)
    _out.print(f"{out} in {time.monotonic() - began:.1f} s")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder for everything the demo makes.")] = Path(
        "results"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same study.")] = 1,
) -> None:
    """Simulate a study, send it to a node on loopback, and show what comes out.

    Example: mrsi-node demo results/
    """
    from .demo import run

    run(folder, seed)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
