"""Everything, running: web and worker as processes, and the sandbox as the company, its platform and the mailboxes.

Owns wiring them together, and asking both sides what they hold. Knows nothing of pytest.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import requests

from preferences.connectors import make_connector
from preferences.current import services_of
from preferences.domain.errors import TryLater
from preferences.domain.vocabulary import BLANKET, Status
from preferences.services import Services
from preferences.store import contact_state, cursors, feed
from preferences.store.api_keys import create_key
from preferences.store.contacts import find_or_create
from preferences.sync import reconcile as comparison
from sandbox.app import SandboxServer
from sandbox.config import Config, Person, name_from
from sandbox.mailbox import Answer, one_click
from tests.processes import Installation
from tests.servers import free_port
from tests.support import close, email, link_for, new_app

NAME: Final = "sandbox"
API_KEY: Final = "key-of-the-platform"
LISTS: Final = {"product-news": "product-news", "offers": "offers", BLANKET: "global"}
"""The explicit mapping: the sandbox names its lists as we name the topics, and "global" is for everything."""
MAX_FAILURES: Final = 20.0

CONNECTORS: Final = """
[connectors.sandbox]
kind = "webhook"
base_url = "{url}/platform-api"
api_key = "{api_key}"
signing_secrets = ["{signing_secret}"]
webhook_secrets = ["{webhook_secret}"]
[connectors.sandbox.topics]
{topics}
"""

Row = tuple[str, str]
"""An address, and a list on which it gets nothing."""


def secret(word: str) -> str:
    return "whsec_" + base64.b64encode(word.ljust(32, ".").encode()).decode()


def wait_for(what: str, condition: Callable[[], object], seconds: float = MAX_FAILURES) -> None:
    """Return as soon as it holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
        time.sleep(0.01)


class World:
    """A site with its worker and a sandbox beside it. `people` are the company's customers.

    `with` starts all three. `site` is a look at the same database from the side, and signs the same links.
    """

    def __init__(self, folder: Path, database_url: str, people: Sequence[str], **environment: str) -> None:
        self.people = [email(address) for address in people]
        port = free_port()
        secrets: dict[str, Any] = {"signing_secret": secret("signing"), "webhook_secret": secret("webhook")}
        connectors = CONNECTORS.format(
            url=f"http://127.0.0.1:{port}",
            api_key=API_KEY,
            topics="\n".join(f'"{topic}" = "{list_name}"' for topic, list_name in LISTS.items()),
            **secrets,
        )
        self.installation = Installation(folder, database_url, connectors=connectors, **environment)
        self.app = new_app(
            database_url, public_url=self.installation.url, config_file=self.installation.settings.config_file
        )
        config = Config(
            preferences_url=self.installation.url,
            preferences_api_key=self.services.database.save(create_key, "company", datetime.now(UTC)),
            api_key=API_KEY,
            people=tuple(Person(name_from(person.value), person.value) for person in self.people),
            first_retry_seconds=0.1,
            **secrets,
        )
        self.connector = make_connector(self.services.connectors[NAME])
        self.server = SandboxServer(config, port)
        self.sandbox = self.server.sandbox

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(close, self.app)
            stack.enter_context(self.server)
            stack.enter_context(self.installation)
            self.installation.web.start()
            self.installation.worker.start()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def services(self) -> Services:
        return services_of(self.app)

    # Here.

    def contacts(self, addresses: Sequence[str]) -> dict[str, UUID]:
        """The contact of each address, made where there is none yet."""
        found = self.services.database.write(
            find_or_create, [email(address) for address in addresses], self.services.fingerprints, datetime.now(UTC)
        )
        return {address.value: where.contact_id for address, where in found.items() if where.contact_id}

    def link(self, address: str, topic: str = "product-news") -> str:
        """The path of the unsubscribe link in a mail to this address."""
        return link_for(self.services, self.contacts([address])[address], topic)

    def post(self, path: str, body: str = "List-Unsubscribe=One-Click", accept: str = "*/*") -> tuple[int, str]:
        """A post, as a mail program or a page's form sends it: the status and the text of the answer."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": accept}
        with closing(self.installation.connect()) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def click(self, address: str, topic: str = "product-news") -> None:
        """One click in a mail program, acknowledged."""
        status, _ = self.post(self.link(address, topic))
        assert status == 200

    def decisions(self, address: str) -> dict[str, bool]:
        """For each message class, whether the company may write to this address."""
        topics = {"marketing": "product-news", "transactional": "receipts", "notice": "receipts"}
        center = self.sandbox.center
        return {kind: center.decide(kind, topic, [address])[address].allowed for kind, topic in topics.items()}

    def projection(self) -> set[Row]:
        """Whom the platform must send nothing, and on which list: read from what we hold."""
        rows: set[Row] = set()
        after: UUID | None = None
        while ids := self.services.database.read(feed.opted_out_contacts, after, 1_000):
            for state in self.services.database.read(contact_state.address_states, ids):
                stopped = {
                    topic for (_, topic), held in state.preferences.items() if held.status is Status.UNSUBSCRIBED
                }
                if state.suppressions:
                    stopped.add(BLANKET)
                rows |= {(state.address.value, LISTS[topic]) for topic in stopped}
            after = ids[-1]
        return rows

    # There.

    def platform_list(self) -> set[Row]:
        """Whom the platform sends nothing, and on which of the lists that we know: as its own page shows it."""
        rows = requests.get(f"{self.server.url}/api/suppressions", timeout=30).json()["suppressions"]
        return {(row["address"], row["list"]) for row in rows if row["list"] in LISTS.values()}

    def set_faults(self, **faults: Any) -> None:
        """Switch faults of the platform on and off."""
        answer = requests.post(f"{self.server.url}/api/faults", json=faults, timeout=30)
        assert answer.status_code == 200, answer.text

    def happens(self, kind: str, address: str, list_name: str = "global") -> str:
        """Something happens at the platform itself: the id of the webhook that reports it."""
        body = {"kind": kind, "address": address, "list": list_name}
        answer = requests.post(f"{self.server.url}/api/events", json=body, timeout=30)
        return str(answer.json()["id"])

    def webhooks(self) -> dict[str, dict[str, Any]]:
        """What the platform reported, by id."""
        many = requests.get(f"{self.server.url}/api/webhooks", timeout=30).json()["webhooks"]
        return {row["id"]: row for row in many}

    def mails(self, address: str, topic: str) -> int:
        """How many mails about this topic have arrived."""
        return sum(mail.topic == topic for mail in self.sandbox.mailbox.mails(address))

    def press_unsubscribe(self, address: str) -> Answer:
        """Press the mail program's own button on the newest mail."""
        return one_click(self.sandbox.mailbox.mails(address)[0])

    @property
    def is_told(self) -> bool:
        """Whether the worker has passed over all that we hold."""
        cursor = self.services.database.read(cursors.find_cursor, NAME)
        return cursor is not None and cursor.position == self.services.database.read(feed.head_seq)

    # Both.

    def quiet(self) -> None:
        """The platform is well again, and nothing is on its way to us any more."""
        off = {"down": False, "slow_seconds": 0, "busy_seconds": 0, "lossy": False, "repeating": False}
        self.set_faults(**off, reordering=False, reject=[])
        wait_for(
            "the platform's webhooks have arrived",
            lambda: all(webhook["state"] != "waiting" for webhook in self.webhooks().values()),
        )

    def reconcile(self) -> comparison.Drift:
        """One comparison beside the running worker. Tried again while that one is at it."""
        deadline = time.monotonic() + MAX_FAILURES
        while True:
            try:
                return comparison.reconcile(
                    self.services.database,
                    self.connector,
                    owner="the test",
                    fingerprints=self.services.fingerprints,
                    now=datetime.now(UTC),
                    progress=lambda _rows: None,
                )
            except TryLater:
                self.services.database.save(cursors.resume, NAME)
                assert time.monotonic() < deadline, "no comparison went through"
                time.sleep(0.1)

    def assert_same_on_both_sides(self) -> None:
        there, here = self.platform_list(), self.projection()
        assert there == here, f"only there: {there - here}; only here: {here - there}"
        assert comparison.compare(self.services.database, self.connector, lambda _rows: None).count == 0
