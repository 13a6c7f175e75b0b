"""The sandbox's platform holds an opt-out whose report was lost, and a system tells of an opt-in that is older."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from preferences.connectors import make_connector
from preferences.current import services_of
from preferences.domain.vocabulary import KeyScope
from preferences.store import cursors
from preferences.store.api_keys import create_key
from preferences.sync.push import Outcome, run_once
from tests.sandbox.conftest import Client
from tests.sandbox.stub import API_KEY, SIGNING_SECRET, WEBHOOK_SECRET
from tests.support import close, new_app

ADA = "ada@example.com"
NOW = datetime.now(UTC)
LAST_YEAR, OLD, NEW = NOW - timedelta(days=400), NOW - timedelta(days=300), NOW - timedelta(days=30)


class Center:
    """The preference center as its neighbours meet it."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.services = services_of(app)
        self.services.database.save(cursors.start, "sandbox")
        scopes = frozenset({KeyScope.ACTS, KeyScope.RETURNS, KeyScope.DECISIONS})
        key = self.services.database.save(create_key, "shop", NOW, scopes)
        self.headers = {"Authorization": f"Bearer {key}"}

    def tell(self, verb: str, at: datetime) -> None:
        act = {
            "address": ADA,
            "channel": "email",
            "topic": "offers",
            "verb": verb,
            "occurred_at": at.isoformat(),
            "origin_ref": f"{verb}-{at.timestamp()}",
        }
        more = {"basis": "consent", "evidence": {"source": "checkout page"}} if verb == "subscribe" else {}
        answer = self.app.test_client().post("/api/v1/acts", json=[act | more], headers=self.headers)
        assert answer.status_code == 200, answer.text

    def may_send(self) -> bool:
        question = {"channel": "email", "class": "marketing", "topic": "offers", "addresses": [ADA]}
        answer = self.app.test_client().post("/api/v1/decisions", json=question, headers=self.headers)
        return '"allowed":true' in answer.text.replace(" ", "")

    def sync(self) -> None:
        connector = make_connector(self.services.connectors["sandbox"])
        while run_once(self.services.database, connector, owner="me", now=datetime.now(UTC)) is Outcome.DONE:
            pass

    def reconcile(self) -> str:
        result = self.app.test_cli_runner().invoke(args=["reconcile", "sandbox"])
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture(params=[True, False], ids=["search", "list"])
def center_of(request: pytest.FixtureRequest, sandbox: Client, tmp_path: Path, database_url: str) -> Iterator[Center]:
    """Connected to the sandbox, whose own reports go elsewhere and are lost. On both engines."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(
        f'[connectors.sandbox]\nkind = "webhook"\nbase_url = "{sandbox.url}/platform-api"\napi_key = "{API_KEY}"\n'
        f'signing_secrets = ["{SIGNING_SECRET}"]\nwebhook_secrets = ["{WEBHOOK_SECRET}"]\n'
        f"[connectors.sandbox.options]\nsearch = {str(request.param).lower()}\n"
        '[connectors.sandbox.topics]\n"product-news" = "product-news"\n"offers" = "offers"\n"*" = "global"\n'
    )
    app = new_app(database_url, config_file=config_file)
    yield Center(app)
    close(app)


def test_a_first_opt_in_leaves_a_newer_opt_out_that_a_comparison_records(center_of: Center, sandbox: Client) -> None:
    sandbox.post("/api/events", kind="unsubscribe", address=ADA, list="offers", occurred_at=NEW.isoformat())
    center_of.tell("subscribe", OLD)
    center_of.sync()
    center_of.reconcile()
    assert sandbox.listed() == {(ADA, "offers", "unsubscribe")}
    assert not center_of.may_send()


def test_a_return_leaves_a_newer_opt_out_and_the_comparison_brings_it_here(center_of: Center, sandbox: Client) -> None:
    center_of.tell("unsubscribe", LAST_YEAR)
    center_of.sync()
    assert sandbox.listed() == {(ADA, "offers", "unsubscribe")}
    sandbox.post("/api/events", kind="unsubscribe", address=ADA, list="offers", occurred_at=NEW.isoformat())
    center_of.tell("subscribe", OLD)
    assert center_of.may_send()
    center_of.sync()
    center_of.reconcile()
    assert sandbox.listed() == {(ADA, "offers", "unsubscribe")}
    assert not center_of.may_send()


def test_a_return_that_is_newer_than_what_the_platform_holds_lifts_it(center_of: Center, sandbox: Client) -> None:
    center_of.tell("unsubscribe", LAST_YEAR)
    center_of.sync()
    sandbox.post("/api/events", kind="unsubscribe", address=ADA, list="offers", occurred_at=OLD.isoformat())
    center_of.tell("subscribe", NEW)
    center_of.sync()
    assert sandbox.listed() == set()
    assert "Both sides agree" in center_of.reconcile()
    assert center_of.may_send()
