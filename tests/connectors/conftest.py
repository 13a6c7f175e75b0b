"""Fixtures of the connectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preferences.connectors import http
from tests.connectors.fault_runs import Run
from tests.support import close, new_app, new_sqlite


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Makes the run of a kind. Nobody here waits as long for an answer as the worker does; yet long enough on a busy
    machine, where a call that was given up could still happen after the next one."""
    monkeypatch.setattr(http, "TIMEOUT", (2.0, 0.5))
    app = new_app(new_sqlite(tmp_path))
    opened: list[Run] = []

    def begin(kind: str, seed: int = 0, *, can_lift: bool = False) -> Run:
        walk = Run(app, kind, seed)
        walk.fake.__enter__()
        opened.append(walk)
        walk.connect(can_lift=can_lift)
        return walk

    yield begin
    for walk in opened:
        walk.fake.__exit__(None, None, None)
    close(app)
