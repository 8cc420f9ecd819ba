"""Bring a database to this version's schema, and tell whether it is there.

Alembic is imported only where there is something to do: every process asks, and hardly ever must it act.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, MetaData, String, Table, inspect, select

from dicom_node.errors import UnsuitableInput

from .base import Database

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = Path(__file__).with_name("migrations")

# Alembic's own table: one row, the revision that the schema is at.
_version = Table("alembic_version", MetaData(), Column("version_num", String(32)))


def _config(database: Database) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Apply every migration that is missing; nothing to do is fine."""
    if is_current(database):
        return
    from alembic import command

    command.upgrade(_config(database), "head")


def go_back(database: Database, to: str) -> None:
    """Undo every migration after revision ``to``, for an older version of the node.

    What only later versions keep is lost: take a backup first. Raises UnsuitableInput if there is no such
    revision, or the schema is not this version's.
    """
    known = sorted(script.name.split("_")[0] for script in _SCRIPTS.glob("versions/[0-9]*_*.py"))
    if to not in known:
        raise UnsuitableInput(f"no schema {to!r}; there are: {', '.join(known)}")
    if not is_current(database):
        raise UnsuitableInput("the schema is not this version's: the version that made it must go back")
    from alembic import command

    command.downgrade(_config(database), to)


def is_current(database: Database) -> bool:
    """Whether the schema is this version's."""
    with database.engine.connect().execution_options(read_only=True) as connection:
        if not inspect(connection).has_table(_version.name):
            return False
        return connection.execute(select(_version.c.version_num)).scalars().all() == [newest()]


def newest() -> str:
    """This version's revision: scripts are named by their revision, which are numbered in order."""
    return max(script.name.split("_")[0] for script in (_SCRIPTS / "versions").glob("[0-9]*_*.py"))
