"""Bring a database to this version's schema, and tell whether it is there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from .base import Database

_SCRIPTS = Path(__file__).with_name("migrations")


def _config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Apply every migration that is missing; nothing to do is fine."""
    command.upgrade(_config(database), "head")


def is_current(database: Database) -> bool:
    """Whether the schema is this version's."""
    with database.engine.connect().execution_options(read_only=True) as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory.from_config(_config(database)).get_current_head()
