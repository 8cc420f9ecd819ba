"""Verbs of the command line about people who may sign in to the page: user add, list, role, password, …"""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer
from rich.prompt import Prompt

from .cli_common import AsJson, ConfigFile, err, load_settings, out, print_json, told
from .errors import UnsuitableInput
from .store import Store

Name = Annotated[str, typer.Argument(help="The person's name, as they sign in and as the history shows it.")]
RoleName = Annotated[
    str,
    typer.Option("--role", help="viewer: looks; operator: also acts on studies; admin: also changes rules."),
]
FromStdin = Annotated[bool, typer.Option("--stdin", help="Read the password from standard input, one line.")]

user = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help='People who may sign in to the page ([web] login = "local").',
)


def register(app: typer.Typer) -> None:
    """Add the verbs to ``app``, under ``user``."""
    for verb in (add, role, password, remove, key):
        user.command()(verb)
    user.command("list")(list_people)
    app.add_typer(user, name="user")


def add(
    name: Name,
    role: RoleName = "viewer",
    stdin: FromStdin = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a person sign in; asks for their password twice.

    Example: mrsi-node user add "Dr Roe" --role operator
    """
    from .web.passwords import hashed

    if not name.isprintable() or name != " ".join(name.split()) or not 1 <= len(name) <= 64:
        raise UnsuitableInput("a name has 1 to 64 printable characters, and single spaces within at most")
    _known(role)
    store = _store(config_file)
    if any(p.name == name for p in store.people()):
        raise UnsuitableInput(f"{name} is known already")
    store.add_person(name, role, hashed(_asked(stdin)))
    told(as_json, f"{name} may sign in as {role}", name=name, role=role)


def list_people(config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Who may sign in, with which role.

    Example: mrsi-node user list
    """
    people = _store(config_file).people()
    if as_json:
        print_json([{"name": p.name, "role": p.role, "since": p.since} for p in people])
        return
    for p in people:
        out.print(f"{p.role:8} {p.name}")
    if not people:
        out.print("nobody yet: mrsi-node user add NAME --role operator")


def role(
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, operator or admin.")],
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a person another role, from their next click on.

    Example: mrsi-node user role "Dr Roe" admin
    """
    _known(role)
    _store(config_file).set_role(name, role)
    told(as_json, f"{name} is {role}", name=name, role=role)


def password(
    name: Name, stdin: FromStdin = False, config_file: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Give a person another password; whoever is signed in by the old one is not any more.

    Example: mrsi-node user password "Dr Roe"
    """
    from .web.passwords import hashed

    store = _store(config_file)
    if store.password_of(name) is None:
        raise UnsuitableInput(f"nobody here is called {name} (see: mrsi-node user list)")
    store.set_password(name, hashed(_asked(stdin)))
    told(as_json, f"{name} has a new password", name=name)


def remove(name: Name, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """A person may sign in no more; their sessions and keys end at once.

    Example: mrsi-node user remove "Dr Roe"
    """
    _store(config_file).remove_person(name)
    told(as_json, f"{name} may sign in no more", name=name)


def key(
    name: Name,
    forget: Annotated[bool, typer.Option(help="Make none: end all keys of this person.")] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key to the page's API, for a program that acts as this person; it is shown this once.

    Example: mrsi-node user key monitoring
    """
    from .web.visits import digest

    store = _store(config_file)
    if forget:
        ended = store.remove_keys(name)
        told(as_json, f"{ended} keys of {name} are worth nothing any more", name=name, ended=ended)
        return
    made = secrets.token_urlsafe(32)
    store.add_key(name, digest("key", made))
    err.print("keep it secret; it is sent as: Authorization: Bearer KEY")
    print_json({"name": name, "key": made}) if as_json else out.print(made)


def _store(config_file: ConfigFile) -> Store:
    from .service import open_store

    return open_store(load_settings(config_file))


def _known(role: str) -> None:
    from .web.access import Role

    if role not in {r.word for r in Role}:
        raise UnsuitableInput(f"there is no role {role}: viewer, operator or admin")


def _asked(stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    first = Prompt.ask("password", password=True, console=err)
    if Prompt.ask("the same again", password=True, console=err) != first:
        raise UnsuitableInput("the two passwords differ")
    return first
