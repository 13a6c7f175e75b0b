"""The machine under the benchmark: cores, web processes, the time and the memory that they use.

Owns starting and stopping web processes. Invariant: whatever is started inside `on_core` stays on that core, with all
that it starts itself.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
PROCFILE_WEB = next(
    line.removeprefix("web: exec ") for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web:")
)
"""How production starts the web process: what is measured is that very command."""

SECONDS_TO_START = 30


def cores() -> tuple[int, set[int]]:
    """The core for the servers, and those for the load: the same one where there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[-1], set(mine[:-1] or mine)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile runs on this core, and so do its children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def granian(app: str, *, port: int, threads: int) -> list[str]:
    """The Procfile's command for another app, port and number of threads."""
    command = re.sub(r"\$\{WEB_PORT[^}]*\}", str(port), PROCFILE_WEB)
    command = re.sub(r"\$\{WEB_THREADS[^}]*\}", str(threads), command).replace("app:app", app)
    return [str(Path(sys.executable).with_name("granian")), *command.split()[1:]]


class Web:
    """A web process and its children, from `with` to its end."""

    def __init__(self, app: str, *, core: int, threads: int, environment: Mapping[str, str], probe: str) -> None:
        self.port = free_port()
        self._core = core
        self._command = granian(app, port=self.port, threads=threads)
        self._environment = {**os.environ, **environment}
        self._probe = probe

    def __enter__(self) -> Web:
        self._log = tempfile.TemporaryFile()
        started = time.perf_counter()
        with on_core(self._core):
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log
            )
        while self.status("GET", self._probe) != 200:
            if self._process.poll() is not None or time.perf_counter() - started > SECONDS_TO_START:
                self._log.seek(0)
                raise RuntimeError(f"the web process did not start:\n{self._log.read().decode(errors='replace')}")
            time.sleep(0.002)
        self.seconds_to_start = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        tree = self.tree()
        self._process.terminate()
        for process in psutil.wait_procs(tree, timeout=10)[1]:
            process.kill()
        self._process.wait()
        self._log.close()

    def status(self, method: str, path: str, body: bytes | None = None) -> int | None:
        """The status of one call, or None where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def tree(self) -> list[psutil.Process]:
        """The main process first, then all below it."""
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """The process that answers: the one of the tree with the most memory of its own."""
        return max(self.tree(), key=pss)


def pss(process: psutil.Process) -> int:
    """Octets of memory, those shared with others counted in part (proportional set size)."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """What they have used so far, with what their children used that have ended."""
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


@dataclass(frozen=True, slots=True)
class CoreTime:
    """What a core did so far, in seconds: `busy` for anybody here, `stolen` for other machines on the same iron."""

    busy: float
    stolen: float

    @classmethod
    def of(cls, core: int) -> CoreTime:
        times = psutil.cpu_times(percpu=True)[core]
        idle = times.idle + times.iowait
        return cls(sum(times[:8]) - idle - times.steal, times.steal)

    def __sub__(self, earlier: CoreTime) -> CoreTime:
        return CoreTime(self.busy - earlier.busy, self.stolen - earlier.stolen)


def import_seconds(environment: Mapping[str, str], core: int) -> float:
    """How long `import app` takes in a fresh interpreter: median of five, after one that may compile."""
    code = "import time; t = time.perf_counter(); import app; print(time.perf_counter() - t)"
    with on_core(core):
        taken = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for _ in range(6)
        ]
    return median(taken[1:])


def flush_micros(folder: Path) -> float:
    """How long the disk takes to make 4 kB durable, in microseconds: median of a hundred."""
    taken = []
    with (folder / "flush").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    (folder / "flush").unlink()
    return median(taken) * 1e6
