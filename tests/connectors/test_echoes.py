"""What we tell a vendor comes back from it as a report: kept as evidence, it changes nothing and is told to nobody."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from preferences.connectors import make_connector
from preferences.current import services_of
from preferences.domain import acts
from preferences.domain.vocabulary import BLANKET, Channel, Origin
from preferences.ledger import record as ledger
from preferences.store import cursors
from preferences.store.tables import ledger_entry
from preferences.sync.push import Outcome, run_once
from tests.connectors.contract import JANE, NAME, as_toml
from tests.connectors.sns import AMAZON
from tests.support import add_contact, close, email, new_app, new_sqlite

# Each vendor's report of what our own push did there.
ECHOES = {
    "amazon_ses": "subscription-unsubscribe-all.json",
    "brevo": "unsubscribed.json",
    "klaviyo": "manually-suppressed.json",
    "mailchimp": "unsubscribe-of-everything.txt",
    "resend": "contact-unsubscribed.json",
    "sparkpost": "list-unsubscribe.json",
}


@pytest.mark.parametrize("kind", sorted(ECHOES))
def test_an_echo_of_our_own_push_changes_nothing_and_is_passed_on_to_nobody(kind: str, tmp_path: Path) -> None:
    contract: Any = importlib.import_module(f"tests.connectors.test_{kind}").TestTheContract()
    fake = importlib.import_module(f"tests.connectors.fake_{kind}").Fake()
    config_file = tmp_path / "connectors.toml"
    with fake, AMAZON:
        config_file.write_text(as_toml(contract.settings(base_url=fake.url)))
        app = new_app(new_sqlite(tmp_path), config_file=config_file)
        services = services_of(app)
        database, connector = services.database, make_connector(services.connectors[NAME])
        connector.calls_per_second = 0.0
        database.save(cursors.start, NAME)
        stop = acts.unsubscribe(
            add_contact(services, email(JANE)),
            Channel.EMAIL,
            brand="default",
            topic=BLANKET,
            origin=Origin.PAGE,
            now=datetime.now(UTC),
            evidence={},
        )
        database.write(ledger.record, [stop], fingerprints=services.fingerprints, now=datetime.now(UTC))
        assert run_once(database, connector, owner="worker", now=datetime.now(UTC)) is Outcome.DONE
        told = len(fake.asked)
        assert told

        echo = contract.travelling(contract.payloads[ECHOES[kind]])
        assert contract.post(app.test_client(), echo, contract.sign(echo)) == 200
        rows = select(ledger_entry.c.origin, ledger_entry.c.changed).order_by(ledger_entry.c.seq)
        assert [tuple(row) for row in database.read(lambda read: read.execute(rows).all())] == [
            ("page", True),
            (f"connector.{NAME}", False),
        ]
        while run_once(database, connector, owner="worker", now=datetime.now(UTC)) is Outcome.DONE:
            pass
        assert len(fake.asked) == told
        close(app)
