"""Ctrl-C and SIGTERM stop the web server within seconds, whenever they come, started as the guide and Procfile say."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.journeys.world import wait_for
from tests.processes import BINARIES, ROOT, as_environment
from tests.servers import free_port
from tests.support import new_sqlite, settings

SECONDS_TO_STOP: Final = 8.0
"""The five seconds after which granian kills a worker, and some for a busy machine."""

SLOW_REQUEST: Final = b"POST /sign-up HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\na"


def command_of_the_guide() -> str:
    text = (ROOT / "docs" / "operator.md").read_text()
    found = re.search(r"^granian (?:.*\\\n)*.*$", text, re.MULTILINE)
    assert found, "the guide does not say how to start granian"
    return found[0].replace("\\\n", "").replace("--port 8000", '--port "$WEB_PORT"')


def command_of_the_procfile() -> str:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return next(line.removeprefix("web: exec ") for line in lines if line.startswith("web: "))


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal with the web server in its foreground, as a person has it."""

    process: subprocess.Popen[bytes]
    keyboard: int
    log: Path
    port: int

    def press_ctrl_c(self) -> None:
        os.write(self.keyboard, b"\x03")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def said(self) -> str:
        return self.log.read_text()

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def terminal_with(command: str, folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """Start it, and leave nothing behind."""
    keyboard, screen = os.openpty()
    port, log = free_port(), folder / "web.log"
    log.write_text("")
    # The first terminal that the leader of a new session opens is the one whose Ctrl-C reaches its processes.
    script = f'exec <"$0" >>"{log}" 2>&1; exec {command}'
    process = subprocess.Popen(
        ["sh", "-c", script, os.ttyname(screen)],
        cwd=ROOT,
        env={**environment, "PATH": f"{BINARIES}:{os.environ['PATH']}", "WEB_PORT": str(port)},
        start_new_session=True,
    )
    try:
        yield Terminal(process, keyboard, log, port)
    finally:
        for member in tree(process):
            member.kill()
        process.wait()
        os.close(keyboard)
        os.close(screen)


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    if process.poll() is not None:
        return []
    parent = psutil.Process(process.pid)
    return [*parent.children(recursive=True), parent]


def as_soon_as_a_worker_is_there(terminal: Terminal, stack: ExitStack) -> None:
    wait_for("it has a worker", lambda: "Spawning worker-1" in terminal.said())


def while_it_loads(terminal: Terminal, stack: ExitStack) -> None:
    as_soon_as_a_worker_is_there(terminal, stack)
    time.sleep(0.4)


def as_soon_as_it_answers(terminal: Terminal, stack: ExitStack) -> None:
    wait_for("it answers", terminal.answers, seconds=60)


def a_while_after(terminal: Terminal, stack: ExitStack) -> None:
    as_soon_as_it_answers(terminal, stack)
    time.sleep(2)


def while_slow_clients_are_connected(terminal: Terminal, stack: ExitStack) -> None:
    as_soon_as_it_answers(terminal, stack)
    for request in (SLOW_REQUEST, b"GET /sign-up HT", b""):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", terminal.port), timeout=10))
        client.sendall(request)
    time.sleep(0.5)


MOMENTS: Final[list[Callable[[Terminal, ExitStack], None]]] = [
    as_soon_as_a_worker_is_there,
    while_it_loads,
    as_soon_as_it_answers,
    a_while_after,
    while_slow_clients_are_connected,
]

HEARD: Final = (while_it_loads, as_soon_as_it_answers, a_while_after)
"""When no worker has a reason to be killed. One that has only just been forked may have to be."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a site with a database."""
    folder = tmp_path_factory.mktemp("site")
    config_file = folder / "config.toml"
    config_file.touch()
    return as_environment(settings(new_sqlite(folder), config_file=config_file))


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
@pytest.mark.parametrize("stop", [Terminal.press_ctrl_c, Terminal.terminate], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("command", [command_of_the_guide(), command_of_the_procfile()], ids=["guide", "procfile"])
def test_the_web_server_stops_within_seconds_of_being_told(
    tmp_path: Path,
    environment: dict[str, str],
    command: str,
    stop: Callable[[Terminal], None],
    moment: Callable[[Terminal, ExitStack], None],
) -> None:
    with terminal_with(command, tmp_path, environment) as terminal, ExitStack() as stack:
        moment(terminal, stack)
        before = tree(terminal.process)
        stop(terminal)
        terminal.process.wait(SECONDS_TO_STOP)
        assert terminal.process.returncode == 0, terminal.said()
        assert not any(process.is_running() for process in before)
        assert moment not in HEARD or "Killing worker" not in terminal.said(), "a worker did not hear it"
        socket.create_server(("127.0.0.1", terminal.port)).close()
