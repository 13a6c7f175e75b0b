"""The real thing for tests and benchmarks: granian and `flask worker` as processes, as they run in production.

Owns starting, stopping and killing them, and looking at or taking away their database from outside. Knows nothing of
pytest, so that the benchmark can use it too. Invariant: nothing outlives its `with` block.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
from flask import Flask
from sqlalchemy import create_engine, inspect, text

from preferences.config import Settings
from preferences.current import services_of
from preferences.store.engine import engine_url
from tests.servers import free_port
from tests.support import settings

ROOT: Final = Path(__file__).parent.parent
BINARIES: Final = Path(sys.executable).parent
SECONDS_TO_START: Final = 30
SECONDS_TO_STOP: Final = 20
CONNECTIONS: Final = ("--backlog", "2048", "--backpressure", "8192", "--http1-header-read-timeout", "10000")
"""As the guide starts it: idle connections take no place from those that ask for something, and are closed soon."""

STOPPING: Final = ("--workers-kill-timeout", "5")
"""As the guide starts it: a worker that has not ended by then is killed."""

KEPT_FROM_OUTSIDE: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""All that a process gets of our own environment: a setting of the developer's shell must not change a test."""


class Process:
    """One program, with its children, its output in a file, and a question that it answers when it has started.

    `start` comes back when `is_ready` says yes. The same one may be started again after `stop` or `kill`.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, is_ready: Callable[[], bool]
    ) -> None:
        self.log = log
        self._command = command
        self._environment = _complete(environment)
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready. Output is added to what the log holds already."""
        with self.log.open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches the tests first and they stop it.
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._is_ready():
                return
            time.sleep(0.05)
        last_lines = "\n".join(self.output().splitlines()[-15:])
        self.kill()
        raise RuntimeError(f"{self._command[0]} did not start within {SECONDS_TO_START} s:\n{last_lines}")

    def stop(self) -> None:
        """Ask it to leave in good order, as an operator does, and wait; kill what does not."""
        tree = self._tree()
        if tree:
            tree[0].send_signal(signal.SIGTERM)
            _wait_until_dead(tree)
        self.kill()

    def press_ctrl_c(self) -> None:
        """SIGINT for the program and all its children at once, as from a terminal, and wait; kill what does not end."""
        tree = self._tree()
        if tree:
            os.killpg(tree[0].pid, signal.SIGINT)
            _wait_until_dead(tree)
        self.kill()

    def kill(self) -> None:
        """`kill -9` for the program and all its children at once."""
        tree = self._tree()
        for process in tree:
            process.kill()
        _wait_until_dead(tree)
        if self._process:
            self._process.wait(SECONDS_TO_STOP)

    def pids(self) -> list[int]:
        """The program and its children as they are now, the program first; empty when it does not run."""
        return [process.pid for process in self._tree()]

    def output(self) -> str:
        """Everything that it has written, to standard output and to standard error, since its first start."""
        return self.log.read_text(errors="replace")

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


def _complete(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT_FROM_OUTSIDE if name in os.environ} | dict(environment)


def _wait_until_dead(tree: Sequence[psutil.Process]) -> None:
    """Dead, though perhaps not yet collected by its parent: that can take an orphan a second, and harms nobody."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while any(_is_alive(process) for process in tree) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Installation:
    """A web process and a worker on one migrated database, with the keys of `tests.support.settings`.

    `connectors` is the text of the configuration file; `environment` is added to what both processes see. Neither
    runs yet: `with Installation(folder, url) as site: site.web.start()`. The port stays the same over any number of
    starts, so links stay good.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        connectors: str = "",
        threads: str = "32",
        host: str = "127.0.0.1",
        public_url: str = "",
        **environment: str,
    ) -> None:
        self.port = free_port()
        self.url = public_url or f"http://127.0.0.1:{self.port}"
        config_file = folder / "config.toml"
        config_file.write_text(connectors)
        self.settings = settings(database_url, public_url=self.url, config_file=config_file)
        self.environment = as_environment(self.settings) | environment
        self.web = Process(
            [
                *(str(BINARIES / "granian"), "--interface", "wsgi", "--no-ws", "--http", "1"),
                *("--host", host, "--port", str(self.port), *CONNECTIONS, *STOPPING),
                *("--workers", "1", "--blocking-threads", threads, "app:app"),
            ],
            self.environment,
            folder / "web.log",
            is_ready=self.is_ready,
        )
        self.worker = Process(
            [sys.executable, "-u", "-m", "flask", "worker"],
            self.environment,
            folder / "worker.log",
            is_ready=lambda: "worker started" in self.worker.output(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.web.kill()
        self.worker.kill()

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection of its own to the web process. The caller closes it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        connection = self.connect(timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command, such as `flask("ledger", "verify")`, in this installation."""
        command = [sys.executable, "-m", "flask", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=_complete(self.environment), capture_output=True, text=True, check=False
        )


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables."""
    values = settings.model_dump(mode="json")
    return {name.upper(): ",".join(value) if isinstance(value, list) else str(value) for name, value in values.items()}


def contents(database_url: str) -> dict[str, list[str]]:
    """Every row of every table, as text in a fixed order: what two moments are compared by."""
    engine = create_engine(engine_url(database_url))
    try:
        with engine.connect() as connection:
            return {
                table: sorted(repr(tuple(row)) for row in connection.execute(text(f"SELECT * FROM {table}")))
                for table in sorted(inspect(connection).get_table_names())
            }
    finally:
        engine.dispose()


@contextmanager
def database_away(app: Flask) -> Iterator[None]:
    """The SQLite database of this application is gone for a while, as when its disk is; then it is back."""
    services = services_of(app)
    folder = Path(services.settings.database_url.removeprefix("sqlite:///")).parent
    services.database.engine.dispose()
    elsewhere = folder.rename(folder.with_name(f"{folder.name}-away"))
    try:
        yield
    finally:
        elsewhere.rename(folder)
