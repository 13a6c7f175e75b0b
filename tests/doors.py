"""Every door through which an opt-out comes in, as whoever uses it calls it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from flask import Flask
from standardwebhooks.webhooks import Webhook
from werkzeug.test import TestResponse

from preferences.connectors.base import Listed
from preferences.current import services_of
from preferences.domain.acts import EventKind
from preferences.domain.permission import Decision, may_send
from preferences.domain.records import Entry, Preference
from preferences.domain.vocabulary import BLANKET, Channel, KeyScope, MessageClass
from preferences.store import contact_state, feed
from preferences.store.api_keys import create_key
from preferences.store.contact_state import ChannelKey
from preferences.store.decision_facts import facts_for
from preferences.sync.reconcile import reconcile
from preferences.web.shared.limits import limiter
from tests.connectors.fake import FakeConnector, FakeProvider
from tests.support import TOPICS, add_contact, email, link_for, manage_link_for, new_app

ADDRESS: Final = "jane.doe@example.com"
SECRET: Final = "whsec_" + base64.b64encode(b"the secret of the shop's platform").decode()
LISTS: Final = {"product-news": "list-17", "offers": "list-18", BLANKET: "global"}
CONFIG: Final = f"""
[connectors.mailer]
kind = "webhook"
base_url = "https://mailer.example.test"
webhook_secrets = ["{SECRET}"]
[connectors.mailer.topics]
{"".join(f'"{topic}" = "{list_ref}"' + chr(10) for topic, list_ref in LISTS.items())}
"""
BROWSER: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


def open_app(database_url: str, folder: Path) -> Flask:
    """The application with a connector, so that every door is open."""
    config_file = folder / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(database_url, config_file=config_file)
    with app.app_context():
        limiter.reset()
    return app


@dataclass
class Doors:
    """One contact's opt-outs, through each door; and what came of them."""

    app: Flask
    folder: Path

    def __post_init__(self) -> None:
        self.services = services_of(self.app)
        self.client = self.app.test_client()
        self.contact_id = add_contact(self.services, email(ADDRESS))
        scopes = frozenset({KeyScope.ACTS, KeyScope.RETURNS})
        key = self.services.database.save(create_key, "shop", datetime.now(UTC), scopes)
        self.key = {"Authorization": f"Bearer {key}"}

    # The doors. Each stops `product-news`, or everything.

    def one_click(self, topic: str = BLANKET, at: datetime | None = None) -> None:
        """Stops what the brand's setting says, which is everything."""
        assert self.client.post(link_for(self.services, self.contact_id, topic)).status_code == 200

    def page(self, topic: str = BLANKET, at: datetime | None = None, press: str = "") -> TestResponse:
        intent = "all" if topic == BLANKET else "topic"
        path = link_for(self.services, self.contact_id, "product-news")
        answer = self.client.post(path, data={"intent": intent, "press": press}, headers=BROWSER)
        assert answer.status_code == 200
        return answer

    def address_box(self, topic: str = BLANKET, at: datetime | None = None) -> None:
        assert self.client.post("/optout", data={"address": ADDRESS}).status_code == 200

    def preferences_page(self, topic: str = BLANKET, at: datetime | None = None) -> None:
        path = manage_link_for(self.services, self.contact_id)
        assert self.client.post(path, data={"intent": "all"}).status_code == 200

    def api(self, topic: str = BLANKET, at: datetime | None = None, ref: str = "", **more: Any) -> dict[str, Any]:
        told = {"address": ADDRESS, "verb": "unsubscribe", "topic": topic, "origin_ref": ref or secrets.token_hex(8)}
        when = {"occurred_at": at.isoformat()} if at else {}
        answer = self.tell(**(told | when | more))
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        (entry,) = answer.json["entries"]
        return dict(entry)

    def tell(self, **act: Any) -> TestResponse:
        """One act, told by a system whose word may turn a no into a yes."""
        return self.client.post("/api/v1/acts", json=[act], headers=self.key)

    def command(self, topic: str = BLANKET, at: datetime | str | None = None, status: str = "unsubscribed") -> str:
        """`flask import` of a file of one row."""
        path = self.folder / "rows.csv"
        when = at.isoformat() if isinstance(at, datetime) else at or ""
        path.write_text(f"address,topic,status,occurred_at,source\n{ADDRESS},{topic},{status},{when},shop\n")
        result = self.app.test_cli_runner().invoke(args=["import", str(path)])
        assert result.exit_code == 0, result.output
        return result.output

    def webhook(
        self,
        topic: str = BLANKET,
        at: datetime | str | None = None,
        kind: str = "unsubscribe",
        message_id: str = "",
    ) -> None:
        """A report of the provider, by Standard Webhooks."""
        now = datetime.now(UTC)
        when = at.isoformat() if isinstance(at, datetime) else at or now.isoformat()
        data = {"channel": "email", "address": ADDRESS, "list": LISTS[topic]}
        body = json.dumps({"type": kind, "timestamp": when, "data": data})
        message_id = message_id or f"msg_{secrets.token_hex(8)}"
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(message_id, now, body),
        }
        assert self.client.post("/webhooks/mailer", data=body, headers=headers).status_code == 200

    def reconcile(self, topic: str = BLANKET, at: datetime | None = None) -> None:
        """A comparison that finds the opt-out on the provider's list."""
        provider = FakeProvider()
        provider.add(Listed(address=email(ADDRESS), list_ref=LISTS[topic], kind=EventKind.UNSUBSCRIBE, occurred_at=at))
        reconcile(
            self.services.database,
            FakeConnector(provider, LISTS, name="mailer"),
            owner="worker-1",
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
            progress=lambda _rows: None,
        )

    # What came of it.

    def returns(self, topic: str = "product-news", at: datetime | None = None, trusted: bool = True) -> dict[str, Any]:
        """The person's own yes to a topic, told by a key that may, or by a file."""
        when = at or datetime.now(UTC)
        if not trusted:
            self.command(topic, when, status="subscribed")
            return {}
        return self.api(topic, when, verb="subscribe", basis="consent", evidence={"source": "checkout"})

    def undo(self, token: str, topic: str = "product-news") -> int:
        """What the undo of the done page answers."""
        return self.client.post(f"{link_for(self.services, self.contact_id)}/undo", data={"undo": token}).status_code

    def decision(self, topic: str = "product-news") -> Decision:
        about = next(known for known in TOPICS if known.slug == topic)
        found = self.services.database.read(
            facts_for,
            [email(ADDRESS)],
            channel=Channel.EMAIL,
            about=about,
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
        )
        return may_send(MessageClass.MARKETING, found[email(ADDRESS)])

    @property
    def is_stopped(self) -> bool:
        """Whether product news may not be sent."""
        return not self.decision().allowed

    @property
    def choices(self) -> dict[str, Preference]:
        """What is in force, by topic."""
        (wishes,) = self.services.database.read(
            contact_state.channel_preferences, [ChannelKey(self.contact_id, Channel.EMAIL, "default")]
        )
        return dict(wishes.preferences)

    @property
    def entries(self) -> list[Entry]:
        return self.services.database.read(feed.entries_after, 0, 1_000)

    @property
    def newest(self) -> Entry:
        return self.entries[-1]


Door = Callable[..., Any]
OPT_OUT_DOORS: Final[dict[str, Door]] = {
    "one-click": Doors.one_click,
    "the page": Doors.page,
    "the address box": Doors.address_box,
    "the preferences page": Doors.preferences_page,
    "the API": Doors.api,
    "an import": Doors.command,
    "a webhook": Doors.webhook,
}
"""The doors that an opt-out can come through while another one holds: a comparison finds only what is not held."""

DATED_DOORS: Final[dict[str, Door]] = {
    "the API": Doors.api,
    "an import": Doors.command,
    "a webhook": Doors.webhook,
    "a comparison": Doors.reconcile,
}
"""The doors of those who say when it happened."""
