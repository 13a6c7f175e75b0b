"""Fixtures of the tests of `sync`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from flask import Flask

from preferences.current import services_of
from preferences.services import Services
from tests.sync.desk import (
    Desk,
)


@pytest.fixture
def desk(services: Services) -> Desk:
    """On both engines."""
    return Desk(services)


@pytest.fixture
def sqlite_desk(sqlite_app: Flask) -> Desk:
    return Desk(services_of(sqlite_app))


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """The time, to be moved by hand."""
    with time_machine.travel(datetime.now(UTC), tick=True) as traveller:
        yield traveller
