"""A suppression that somebody has lifted is taken off where it can be read, and nothing else is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.current import services_of
from preferences.domain.records import Act, Address
from preferences.domain.suppressions import lift
from preferences.domain.vocabulary import Actor, Channel, Origin, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import cursors
from preferences.sync.push import Outcome, run_once
from tests.connectors.contract import JANE, NAME, Answer, Asked, as_toml
from tests.connectors.fakes import Change, FakeVendor, json_answer
from tests.connectors.sns import AMAZON
from tests.support import close, email, new_app, new_sqlite

# Each vendor, the list on which its bounces stand, and its words for a bounce and for a wish that must stay.
VENDORS = {
    "sendgrid": ("global", "bounce", "unsubscribe"),
    "mailgun": ("*", "bounce", "unsubscribe"),
    "postmark": ("all", "bounce", "spam"),
    "amazon_ses": ("the account's own list", "BOUNCE", "unsubscribe"),
}

Vendor = tuple[Services, Connector, Any, str]


@pytest.fixture(params=sorted(VENDORS))
def vendor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vendor]:
    kind = request.param
    contract: Any = importlib.import_module(f"tests.connectors.test_{kind}").TestTheContract()
    fake: FakeVendor = importlib.import_module(f"tests.connectors.fake_{kind}").Fake()
    config_file = tmp_path / "connectors.toml"
    with fake, AMAZON:
        config_file.write_text(as_toml(contract.settings(base_url=fake.url)))
        app = new_app(new_sqlite(tmp_path), config_file=config_file)
        services = services_of(app)
        connector = make_connector(services.connectors[NAME])
        connector.calls_per_second = 0.0
        services.database.save(cursors.start, NAME)
        yield services, connector, fake, kind
        close(app)


def tell(services: Services, *acts: Act) -> None:
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def bounce(who: Address, at: datetime, reason: SuppressionReason = SuppressionReason.HARD_BOUNCE) -> Act:
    return Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=who,
        reason=reason,
        origin=f"connector.{NAME}",
        actor=Actor.PROVIDER,
        occurred_at=at,
    )


def lifted(who: Address, at: datetime) -> Act:
    return lift(
        who, SuppressionReason.HARD_BOUNCE, because="She wrote.", actor=Actor.STAFF, origin="command", decided_at=at
    )


def stop(who: Address) -> Act:
    return Act(
        verb=Verb.UNSUBSCRIBE,
        channel=Channel.EMAIL,
        who=who,
        brand="default",
        topic="product-news",
        origin=Origin.PAGE,
        actor=Actor.RECIPIENT,
        occurred_at=datetime.now(UTC),
    )


def work(services: Services, connector: Connector) -> None:
    while run_once(services.database, connector, owner="worker", now=datetime.now(UTC)) is Outcome.DONE:
        pass


def prepared(vendor: Vendor, *, bounced: timedelta) -> tuple[str, str, str]:
    """The vendor holds a bounce of so long ago, and a wish from before."""
    _, _, fake, kind = vendor
    list_ref, word, other = VENDORS[kind]
    fake.at = (datetime.now(UTC) - bounced).timestamp
    fake.happens(Change(JANE, list_ref, word))
    return list_ref, word, other


def test_a_lift_takes_the_bounce_off_at_the_vendor(vendor: Vendor) -> None:
    services, connector, fake, _ = vendor
    list_ref, word, _ = prepared(vendor, bounced=timedelta(hours=2))
    tell(services, bounce(email(JANE), datetime.now(UTC) - timedelta(hours=2)))
    tell(services, lifted(email(JANE), datetime.now(UTC)))
    work(services, connector)
    assert (JANE, list_ref, word) not in fake.rows


def test_a_bounce_that_is_newer_there_stays(vendor: Vendor) -> None:
    services, connector, fake, _ = vendor
    tell(services, bounce(email(JANE), datetime.now(UTC) - timedelta(hours=2)))
    tell(services, lifted(email(JANE), datetime.now(UTC) - timedelta(hours=1)))
    list_ref, word, _ = prepared(vendor, bounced=timedelta(minutes=5))
    work(services, connector)
    assert (JANE, list_ref, word) in fake.rows
    assert services.database.read(cursors.parked, NAME)


def test_a_wish_that_stands_there_stays(vendor: Vendor) -> None:
    services, connector, fake, kind = vendor
    if kind == "postmark":
        pytest.skip("one row for each address, so there is nothing beside it")
    list_ref, word, other = prepared(vendor, bounced=timedelta(hours=2))
    wish = "list:Customers" if kind == "amazon_ses" else list_ref
    fake.happens(Change(JANE, wish, other))
    tell(services, bounce(email(JANE), datetime.now(UTC) - timedelta(hours=2)))
    tell(services, lifted(email(JANE), datetime.now(UTC)))
    work(services, connector)
    assert (JANE, list_ref, word) not in fake.rows
    assert (JANE, wish, other) in fake.rows


def test_nothing_is_taken_off_while_another_suppression_holds(vendor: Vendor) -> None:
    services, connector, fake, _ = vendor
    list_ref, word, _ = prepared(vendor, bounced=timedelta(hours=2))
    at = datetime.now(UTC) - timedelta(hours=2)
    tell(services, bounce(email(JANE), at), bounce(email(JANE), at, SuppressionReason.COMPLAINT))
    tell(services, lifted(email(JANE), datetime.now(UTC)))
    work(services, connector)
    assert (JANE, list_ref, word) in fake.rows


def test_a_key_that_may_not_delete_suppressions_tells_every_opt_out(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, connector, fake, _ = vendor
    prepared(vendor, bounced=timedelta(hours=2))
    answer = fake.answer

    def may_not_delete(asked: Asked) -> Answer:
        is_delete = asked.method == "DELETE" or asked.path.endswith("/delete")
        return json_answer({"message": "forbidden"}, 403) if is_delete else answer(asked)

    monkeypatch.setattr(fake, "answer", may_not_delete)
    tell(services, bounce(email(JANE), datetime.now(UTC) - timedelta(hours=2)))
    tell(services, lifted(email(JANE), datetime.now(UTC)), stop(email("rosa@example.com")))
    work(services, connector)
    tell(services, stop(email("ben@example.com")))
    work(services, connector)
    assert all(fake.holds(f"{name}@example.com", connector.settings.topics["product-news"]) for name in ("rosa", "ben"))
    assert len(services.database.read(cursors.parked, NAME)) == 1
