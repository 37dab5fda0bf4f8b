"""A PostgreSQL server of one's own, from the distribution's programs: in a folder, on a free port, with a password."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

PASSWORD = "the-drills-secret"
NEEDED = ("initdb", "pg_ctl")


class NoPostgresError(Exception):
    """There is no server to start here; the message says why."""


@dataclass
class Postgres:
    """A server that can be stopped and started again."""

    binaries: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://drill:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url.removesuffix("postgres") + name

    def start(self) -> None:
        self._control("start", "-o", f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off")

    def stop(self) -> None:
        """As a crash would: connections are cut off."""
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        _as_server([str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), "-w", *arguments], self.folder)


def find_binaries() -> Path:
    """The folder of the newest server's programs. Raises NoPostgresError."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*versions, *([Path(on_path).resolve().parent] if on_path else [])]:
        if all((folder / name).exists() for name in NEEDED):
            return folder
    raise NoPostgresError("no PostgreSQL server is installed (on Debian: apt-get install postgresql)")


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server with an empty database; gone when the block ends. Raises NoPostgresError."""
    binaries = find_binaries()
    with tempfile.TemporaryDirectory(prefix="prunetune-pg-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD, encoding="ascii")
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "drill", "--no-sync", "-E", "UTF8"]
        _as_server([*initdb, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"], folder)
        server = Postgres(binaries, folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(NoPostgresError):  # a test may have stopped it
                server.stop()


def _as_server(command: list[str], folder: Path) -> None:
    """Run ``command``, which refuses to be run by root, as the user that the package makes for it."""
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with (folder.with_suffix(".log")).open("ab+") as log:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, timeout=60, check=False, **user
            )
        except LookupError as error:
            raise NoPostgresError(f"root cannot run the server, and there is no user postgres ({error})") from None
        log.seek(0)
        said = log.read().decode(errors="replace")
    folder.with_suffix(".log").unlink()
    if done.returncode:
        raise NoPostgresError(f"{Path(command[0]).name} failed: {said.strip()[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
