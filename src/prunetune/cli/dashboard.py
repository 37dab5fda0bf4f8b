"""``prunetune dashboard``: optuna-dashboard, another project's page of live charts, on the studies of a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prunetune._utils.interrupts import answered
from prunetune.errors import InputError
from prunetune.record.folder import MARKER, read_tables, study_file, study_url

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

HOST: Final = "127.0.0.1"


class _Threads(ThreadingMixIn, WSGIServer):
    """A thread for each request, none of which keeps the process alive."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Requests are not printed."""

    def log_message(self, format: str, *args: Any) -> None:
        return


def storage_of(folder: Path, storage: str | None) -> str:
    """The URL of the studies of the run in ``folder``, which may be going on. Raises InputError if there are none."""
    if storage is not None:
        return storage
    if not (folder / MARKER).exists():
        raise InputError(f"{folder} is not a run folder; give the folder that `prunetune run` wrote, runs/demo say")
    if study_file(folder).exists():
        return study_url(folder)
    kept = (read_tables(folder / "config.json") or {}).get("search", {}).get("storage")
    if not isinstance(kept, str) or "***" in kept:
        raise InputError(f"there is no study in {folder} yet; give the URL of its storage as --study")
    return kept


class Dashboard:
    """A web server with the dashboard of one storage, on this machine only; ``port`` 0 takes one that is free.

    Raises InputError if optuna-dashboard is not installed or the port is taken.
    """

    def __init__(self, storage: BaseStorage, port: int) -> None:
        check_installed()
        from optuna_dashboard import wsgi

        try:
            self._server = make_server(HOST, port, wsgi(storage), _Threads, _Quiet)
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self._server.server_port}/dashboard/"

    def serve(self) -> None:
        """Serve until Ctrl-C or SIGTERM, which is how it ends; the port is free afterwards."""
        try:
            self._server.serve_forever()
        except KeyboardInterrupt as interrupt:
            answered(interrupt)
        finally:
            self._server.server_close()


def check_installed() -> None:
    """Raise InputError unless optuna-dashboard is there."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError("the dashboard needs the package optuna-dashboard: pip install 'prunetune[dashboard]'")
