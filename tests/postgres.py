"""A throw-away PostgreSQL server: Debian's package, a folder under /tmp, a port on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from dicom_node.demo import free_port
from dicom_node.store import Store, migrate

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda p: int(p.parts[-3]))
_UNPRIVILEGED = ("postgres", "nobody")

needs_postgres = pytest.mark.skipif(
    not _BINARIES, reason="PostgreSQL is not installed (apt-get install postgresql)"
)


class Postgres:
    """One server for a test run; ``database()`` gives an empty database, ``migrated()`` one with our schema.

    The server refuses to run as root: then it runs as an unprivileged user. It syncs nothing: what is
    tested here is processes that die, not power cuts.
    """

    def __init__(self) -> None:
        self._user = _someone() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="mrsi-postgres-"))
        self.port = free_port()
        self._template = ""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "node", "--auth=trust", "-E", "UTF8", "--locale=C", "-N")
        options = f"-p {self.port} -k {self.folder} -c fsync=off -c max_connections=200"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "-t", "120", "start")
        self._admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def url(self, database: str) -> str:
        """As ``[storage] database`` names it."""
        return f"postgresql+psycopg://node@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template1") -> str:
        """The URL of a new database, empty or a copy of ``template``."""
        name = f"t{uuid.uuid4().hex}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def migrated(self) -> str:
        """The URL of a new database with the node's schema: migrated once, copied for each."""
        if not self._template:
            url = self.database()
            store = Store(url)
            migrate(store)
            store.close()
            self._template = url.rsplit("/", 1)[1]
        return self.database(self._template)

    def restart(self) -> None:
        """Every connection breaks, as in an upgrade of the server."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "restart")

    def stop(self) -> None:
        """End the server and remove its folder."""
        self._admin.dispose()
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(_BINARIES[-1].with_name(tool)), *arguments],
            user=self._user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # pg_ctl's child would hold a pipe open for as long as it lives
            stderr=subprocess.DEVNULL,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{tool} ended with {done.returncode}: see {self.folder}"


def _someone() -> str:
    known = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)
