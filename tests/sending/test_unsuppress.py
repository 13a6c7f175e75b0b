"""Lifting a suppression: by the command or by a call, one reason at a time, and never more than that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Entry
from preferences.domain.suppressions import NOT_LIFTED, lift
from preferences.domain.vocabulary import Actor, Channel, KeyScope, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger.verify import verify
from preferences.services import Services
from preferences.store import feed
from preferences.store.api_keys import create_key
from tests.support import add_contact, email, link_for

JANE = "jane.doe@example.com"
LIFTABLE = sorted(set(SuppressionReason) - set(NOT_LIFTED))
WHY = "Her mailbox was full; she wrote to us."


def suppress(services: Services, *reasons: SuppressionReason, ago: timedelta = timedelta(hours=1)) -> list[Entry]:
    acts = [
        Act(
            verb=Verb.SUPPRESS,
            channel=Channel.EMAIL,
            who=email(JANE),
            reason=reason,
            origin="connector.shop",
            actor=Actor.PROVIDER,
            occurred_at=datetime.now(UTC) - ago,
        )
        for reason in reasons
    ]
    return services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def unsuppress(app: Flask, reason: str, because: str = WHY) -> Result:
    arguments = ["unsuppress", JANE, "--reason", reason, "--because", because]
    return app.test_cli_runner().invoke(args=arguments)


def headers_for(services: Services, *scopes: KeyScope) -> dict[str, str]:
    wanted = {*scopes, KeyScope.ACTS, KeyScope.DECISIONS}
    return {"Authorization": f"Bearer {services.database.save(create_key, 'desk', datetime.now(UTC), wanted)}"}


def told_lift(**changes: Any) -> dict[str, Any]:
    return {
        "address": JANE,
        "verb": "lift",
        "reason": "hard_bounce",
        "origin_ref": "ticket-7",
        "occurred_at": datetime.now(UTC).isoformat(),
        "evidence": {"because": WHY},
    } | changes


def tell(client: FlaskClient, headers: dict[str, str], *acts: dict[str, Any]) -> TestResponse:
    return client.post("/api/v1/acts", json=list(acts), headers=headers)


def reason_now(app: Flask, message_class: str = "marketing") -> str:
    """What the decision says, on the way that sending systems ask."""
    services, topic = services_of(app), "receipts" if message_class == "transactional" else "product-news"
    key = services.database.save(create_key, f"asks-{datetime.now(UTC).timestamp()}", datetime.now(UTC))
    asked = {"channel": "email", "class": message_class, "topic": topic, "addresses": [JANE]}
    answer = app.test_client().post("/api/v1/decisions", json=asked, headers={"Authorization": f"Bearer {key}"})
    assert answer.json is not None
    return str(answer.json["decisions"][0]["reason"])


@pytest.mark.parametrize("reason", LIFTABLE)
def test_the_command_lifts_what_it_names(app: Flask, services: Services, reason: SuppressionReason) -> None:
    suppress(services, reason)
    assert reason_now(app) == reason
    result = unsuppress(app, reason)
    assert result.exit_code == 0, result.output
    assert f"Lifted {reason}" in result.output
    assert JANE not in result.output
    assert reason_now(app) == "ok"
    assert reason_now(app, "transactional") == "ok"
    assert services.database.snapshot(verify, lambda _rows: None).problems == []


def test_a_lift_stands_in_the_ledger_with_who_and_why(app: Flask, services: Services) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE)
    unsuppress(app, "hard_bounce")
    entry = services.database.read(feed.entries_after, 1, 10)[0]
    assert (entry.verb, entry.actor, entry.origin, entry.changed) == (Verb.LIFT, Actor.STAFF, "command", True)
    lines = app.test_cli_runner().invoke(args=["explain", JANE]).output
    assert WHY in lines


@pytest.mark.parametrize("reason", [SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT])
def test_lifting_one_reason_lifts_no_other(app: Flask, services: Services, reason: SuppressionReason) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT)
    (other,) = {SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT} - {reason}
    result = unsuppress(app, reason)
    assert f"Still suppressed for {other}" in result.output
    assert reason_now(app) == other


def test_lifting_a_suppression_lifts_no_opt_out(app: Flask, services: Services) -> None:
    app.test_client().post(link_for(services, add_contact(services)))
    suppress(services, SuppressionReason.COMPLAINT)
    unsuppress(app, "complaint")
    assert reason_now(app) == "unsubscribed_all"


def test_a_newer_bounce_suppresses_again_and_an_older_one_does_not(app: Flask, services: Services) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE)
    unsuppress(app, "hard_bounce")
    suppress(services, SuppressionReason.HARD_BOUNCE, ago=timedelta(minutes=30))
    assert reason_now(app) == "ok"
    suppress(services, SuppressionReason.HARD_BOUNCE, ago=timedelta())
    assert reason_now(app) == "hard_bounce"
    assert unsuppress(app, "hard_bounce").exit_code == 0
    assert reason_now(app) == "ok"


@pytest.mark.parametrize("reason", sorted(NOT_LIFTED))
def test_what_nobody_may_lift_is_refused_with_the_reason_why(
    app: Flask, services: Services, client: FlaskClient, reason: SuppressionReason
) -> None:
    suppress(services, reason)
    result = unsuppress(app, reason)
    assert result.exit_code == 1
    assert NOT_LIFTED[reason] in result.stderr
    answer = tell(client, headers_for(services, KeyScope.UNSUPPRESS), told_lift(reason=reason))
    assert answer.status_code == 422
    assert NOT_LIFTED[reason] in answer.text
    assert reason_now(app) == reason


def test_what_is_not_suppressed_is_not_lifted(app: Flask, services: Services) -> None:
    suppress(services, SuppressionReason.COMPLAINT)
    before = services.database.read(feed.head_seq)
    result = unsuppress(app, "hard_bounce")
    assert result.exit_code == 1
    assert "it is for complaint" in result.stderr
    assert services.database.read(feed.head_seq) == before


@pytest.mark.parametrize("because", ["", "  "])
def test_a_lift_says_why(app: Flask, services: Services, client: FlaskClient, because: str) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE)
    assert unsuppress(app, "hard_bounce", because).exit_code == 1
    answer = tell(client, headers_for(services, KeyScope.UNSUPPRESS), told_lift(evidence={"because": because}))
    assert answer.status_code == 422
    assert reason_now(app) == "hard_bounce"


@pytest.mark.parametrize("reason", LIFTABLE)
def test_a_call_lifts_what_it_names_and_counts_once(
    app: Flask, services: Services, client: FlaskClient, reason: SuppressionReason
) -> None:
    suppress(services, reason)
    headers, told = headers_for(services, KeyScope.UNSUPPRESS), told_lift(reason=reason)
    answers = [tell(client, headers, told), tell(client, headers, told)]
    found = [answer.json["entries"][0] for answer in answers if answer.json]
    assert [(one["changed"], one["repeated"]) for one in found] == [(True, False), (True, True)]
    assert reason_now(app) == "ok"


def test_a_call_that_is_older_than_the_bounce_lifts_nothing(
    app: Flask, services: Services, client: FlaskClient
) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE, ago=timedelta(hours=1))
    old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    answer = tell(client, headers_for(services, KeyScope.UNSUPPRESS), told_lift(occurred_at=old))
    assert answer.json is not None
    assert answer.json["entries"][0]["changed"] is False
    assert reason_now(app) == "hard_bounce"


def test_a_key_lifts_only_when_it_was_given_that_by_name(app: Flask, services: Services, client: FlaskClient) -> None:
    suppress(services, SuppressionReason.HARD_BOUNCE)
    usual = services.database.save(create_key, "usual", datetime.now(UTC))
    for headers in ({"Authorization": f"Bearer {usual}"}, headers_for(services)):
        answer = tell(client, headers, told_lift())
        assert answer.status_code == 403
        assert "unsuppress" in answer.text
    assert reason_now(app) == "hard_bounce"


def test_a_lift_without_an_instant_is_refused(services: Services, client: FlaskClient) -> None:
    answer = tell(client, headers_for(services, KeyScope.UNSUPPRESS), told_lift(occurred_at=None))
    assert answer.status_code == 422
    assert "occurred_at" in answer.text


def test_the_rule_itself_refuses_what_no_door_may_lift() -> None:
    for reason in NOT_LIFTED:
        with pytest.raises(NotAllowed, match=str(reason)):
            lift(email(JANE), reason, because=WHY, actor=Actor.STAFF, origin="command", decided_at=datetime.now(UTC))
