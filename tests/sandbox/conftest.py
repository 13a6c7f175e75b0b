"""A running sandbox beside a stand-in for the preference center."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from sandbox.app import SandboxServer
from sandbox.config import Config, Person
from tests.sandbox import stub
from tests.servers import free_port

PEOPLE = (
    Person("Ada Brook", "ada@example.com"),
    Person("Ben Osei", "ben@example.org"),
    Person("Zoë Łukasik", "zoe@example.net"),
)


def config_for(url: str, **others: Any) -> Config:
    """Settings that fit the stand-in."""
    return Config(
        **{
            "preferences_url": url,
            "preferences_api_key": stub.PREFERENCES_API_KEY,
            "api_key": stub.API_KEY,
            "signing_secret": stub.SIGNING_SECRET,
            "webhook_secret": stub.WEBHOOK_SECRET,
            "people": PEOPLE,
            "first_retry_seconds": 0.05,
            **others,
        }
    )


class Client:
    """The sandbox's JSON, in short."""

    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.url = server.url

    def get(self, path: str) -> Any:
        return requests.get(self.url + path, timeout=10).json()

    def post(self, path: str, **body: Any) -> Any:
        answer = requests.post(self.url + path, json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listed(self) -> set[tuple[str, str, str]]:
        """The suppression list: address, list and kind of each row."""
        rows = self.get("/api/suppressions")["suppressions"]
        return {(row["address"], row["list"], row["kind"]) for row in rows}


@pytest.fixture
def center() -> Iterator[stub.StubCenter]:
    with stub.StubCenter() as center:
        yield center


@pytest.fixture
def sandbox(center: stub.StubCenter) -> Iterator[Client]:
    with SandboxServer(config_for(center.url), free_port()) as server:
        yield Client(server)
