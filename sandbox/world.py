"""Everything in the sandbox, wired together: platform, company, mailboxes.

Owns the wiring and the life of the threads. Invariant: what `start` started, `stop` ends.
"""

from __future__ import annotations

from flask import current_app

from sandbox.client import Center
from sandbox.company import Company
from sandbox.config import Config
from sandbox.faults import Faults
from sandbox.mailbox import Mailbox
from sandbox.outbox import Outbox
from sandbox.platform import Platform
from sandbox.store import Store

WEBHOOK_PATH = "/webhooks/sandbox"


class Sandbox:
    """The whole pretend world around one preference center."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.database)
        self.center = Center(config.preferences_url, config.preferences_api_key)
        self.mailbox = Mailbox(self.store)
        self.company = Company(self.store, self.center, self.mailbox, config.people, dkim_key=config.dkim_key)
        self.outbox = Outbox(
            self.store,
            config.preferences_url.rstrip("/") + WEBHOOK_PATH,
            config.webhook_secret,
            first_retry_seconds=config.first_retry_seconds,
        )
        self.platform = Platform(self.store, self.outbox, config.signing_secret)

    def start(self) -> None:
        self.outbox.start()

    def stop(self) -> None:
        self.platform.stop()
        self.outbox.stop()

    def close(self) -> None:
        """Close the database, once no request can use it."""
        self.store.close()

    def send_first_newsletter(self) -> None:
        """Send what the settings ask for, unless the mailboxes hold something already."""
        if self.config.first_newsletter and not self.mailbox.counts():
            self.company.send(self.config.first_newsletter)

    def reset(self) -> None:
        """Forget all mails, suppressions and webhooks, and be healthy."""
        self.platform.faults = Faults()
        self.store.clear()


def current_sandbox() -> Sandbox:
    """The sandbox that the running request belongs to."""
    sandbox: Sandbox = current_app.extensions["sandbox"]
    return sandbox
