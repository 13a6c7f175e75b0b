"""The load: one run of wrk, and what it says.

Owns finding wrk and reading its figures. wrk leaves a request that is under way at the end of a run uncounted, so a
server may have done a few more than it says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
MISSING = "The benchmark needs wrk: install the package `wrk` (Debian, Ubuntu, Fedora, Homebrew), then try again."


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for: a method (`FORM` is the page's own form) and a file with a path a line."""

    port: int
    method: str
    paths: Path


@dataclass(frozen=True, slots=True)
class Load:
    """One run. Times in milliseconds; `refused` are answers of 400 and more, `broken` calls without an answer."""

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    broken: int


def ensure_wrk() -> bool:
    """Whether there is a wrk now; root gets it from apt where that is the machine's way."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing wrk first, which makes the load ...", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "wrk"]):
            subprocess.run(["apt-get", "-q", "-q", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
    return shutil.which("wrk") is not None


def run(target: Target, *, connections: int, seconds: int, skip: int = 0) -> Load:
    """Call the target over so many connections for so long, beginning `skip` lines down its file."""
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--timeout", "10s", "--script", str(SCRIPT), f"http://127.0.0.1:{target.port}/", "--"),
        *(target.method, str(target.paths), str(skip)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("figures ")), None)
    if line is None:
        raise RuntimeError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    requests, micros, p50, p99, refused, broken = map(int, line.split()[1:])
    return Load(requests, micros / 1e6, p50 / 1e3, p99 / 1e3, refused, broken)
