"""A receipt of a consent: complete by ISO/IEC TS 27560, true to the entry, and silent about what is not on record."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from preferences.domain.notices import KeptNotice, Notice
from preferences.domain.receipts import Consent, document, is_consent
from preferences.domain.records import Entry
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Actor, Basis, Channel, Origin, Status, Verb
from tests.support import BRAND

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "consent-receipt.schema.json").read_text())
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ENTRY = Entry(
    seq=7,
    recorded_at=NOON,
    occurred_at=NOON,
    verb=Verb.SUBSCRIBE,
    channel=Channel.EMAIL,
    contact_id=UUID(int=1),
    fingerprint=None,
    brand="default",
    topic="offers",
    status=Status.SUBSCRIBED,
    reason=None,
    basis=Basis.CONSENT,
    origin=Origin.ACCOUNT,
    origin_ref=None,
    actor=Actor.RECIPIENT,
    trusted=True,
    changed=True,
    undoes=None,
    hash="ab" * 32,
)
CONSENT = Consent(
    entry=ENTRY,
    later=(),
    brand=BRAND,
    purpose="Offers. Reduced prices",
    notice=KeptNotice(notice=Notice("default/email.offers.status", "es", "Sí a las ofertas."), version=3),
    recipients=("shop-mailer",),
    home="https://preferences.example.test",
    withdrawal_url="https://preferences.example.test/u/token",
)
LATER = (
    replace(ENTRY, seq=8, verb=Verb.UNSUBSCRIBE, status=Status.UNSUBSCRIBED, occurred_at=NOON + timedelta(days=1)),
    replace(ENTRY, seq=9, verb=Verb.UNDO, status=Status.SUBSCRIBED, occurred_at=NOON + timedelta(days=2)),
)

KINDS: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int}
KNOWN = {
    *("$schema", "title", "description", "type", "additionalProperties", "required", "properties", "items"),
    *("minItems", "minLength", "minimum", "pattern", "const", "enum", "oneOf"),
}


def faults(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """Where a value breaks the schema. Knows the words of JSON Schema that ours uses, and no others."""
    assert schema.keys() <= KNOWN
    if "oneOf" in schema:
        fitting = [one for one in schema["oneOf"] if not faults(value, one, place)]
        return [] if len(fitting) == 1 else [f"{place}: fits {len(fitting)} of the kinds"]
    if "type" in schema and not isinstance(value, KINDS[schema["type"]]):
        return [f"{place}: not of type {schema['type']}"]
    found = [f"{place}: not {schema['const']}"] if "const" in schema and value != schema["const"] else []
    found += [f"{place}: none of the words"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, str):
        found += [f"{place}: empty"] if len(value) < schema.get("minLength", 0) else []
        found += [] if re.search(schema.get("pattern", ""), value) else [f"{place}: not like the pattern"]
    if isinstance(value, list):
        found += [f"{place}: too few"] if len(value) < schema.get("minItems", 0) else []
        found += [one for at, item in enumerate(value) for one in faults(item, schema["items"], f"{place}/{at}")]
    if isinstance(value, dict):
        names = schema["properties"]
        found += [f"{place}/{name}: missing" for name in schema["required"] if name not in value]
        found += [f"{place}/{name}: unknown" for name in value if name not in names]
        found += [one for name in names.keys() & value for one in faults(value[name], names[name], f"{place}/{name}")]
    return found


@pytest.mark.parametrize(
    "consent",
    [
        CONSENT,
        replace(CONSENT, later=LATER),
        replace(CONSENT, notice=None, recipients=()),
        replace(CONSENT, brand=replace(BRAND, postal_address="", contact_email="")),
        *(replace(CONSENT, entry=replace(ENTRY, channel=channel)) for channel in Channel),
        *(replace(CONSENT, entry=replace(ENTRY, origin=origin)) for origin in (*Origin, "connector.shop-mailer")),
        *(replace(CONSENT, entry=replace(ENTRY, actor=actor, occurred_at=None)) for actor in Actor),
    ],
)
def test_every_receipt_follows_the_schema(consent: Consent) -> None:
    receipt = document(consent)
    assert faults(json.loads(json.dumps(receipt)), SCHEMA) == []


@pytest.mark.parametrize(
    "place",
    [
        *(("header", name) for name in SCHEMA["properties"]["header"]["required"]),
        *(("pii_processing", name) for name in SCHEMA["properties"]["pii_processing"]["required"]),
    ],
)
def test_the_schema_misses_whatever_is_left_out_or_empty(place: tuple[str, str]) -> None:
    section, name = place
    receipt = document(CONSENT)
    receipt[section][name] = type(receipt[section][name])()
    assert any(f"/{section}/{name}" in fault for fault in faults(receipt, SCHEMA))
    del receipt[section][name]
    assert faults(receipt, SCHEMA) == [f"/{section}/{name}: missing"]


def test_the_fields_that_the_standard_demands_are_all_there() -> None:
    receipt = document(CONSENT)
    assert receipt["header"] == {
        "schema_version": "ISO/IEC TS 27560:2023, consent receipt 1",
        "record_id": ENTRY.hash,
        "receipt_id": reference_of(ENTRY.hash),
        "pii_principal_id": str(ENTRY.contact_id),
    }
    processing = receipt["pii_processing"]
    assert processing["privacy_notice"]["text"] == "Sí a las ofertas."
    assert (processing["privacy_notice"]["version"], processing["language"]) == (3, "es")
    assert processing["recipients"] == ["shop-mailer"]
    assert processing["withdrawal_method"]["url"] == CONSENT.withdrawal_url
    assert [one["party_id"] for one in receipt["party_identification"]] == processing["pii_controllers"]
    assert [one["event_time"] for one in receipt["events"]] == ["2026-06-01T12:00:00+00:00"]


def test_what_became_of_a_consent_stands_in_its_receipt() -> None:
    assert CONSENT.stands
    withdrawn = replace(CONSENT, later=LATER[:1])
    assert not withdrawn.stands
    assert replace(CONSENT, later=LATER).stands, "it was undone"
    states = [one["event_state"] for one in document(replace(CONSENT, later=LATER))["events"]]
    assert states == ["consent given", "consent withdrawn", "consent given"]


def test_what_is_not_on_record_is_not_made_up() -> None:
    processing = document(replace(CONSENT, notice=None, recipients=()))["pii_processing"]
    assert processing["privacy_notice"] == {"on_record": False}
    assert processing["language"] == "und"
    assert processing["recipients"] == ["nobody besides the controller"]


def test_a_yes_whose_time_nobody_said_is_dated_by_when_we_learned_of_it() -> None:
    consent = replace(CONSENT, entry=replace(ENTRY, occurred_at=None))
    assert consent.given_at == NOON
    assert document(consent)["events"][0]["event_time"] == "2026-06-01T12:00:00+00:00"


@pytest.mark.parametrize(
    "change",
    [
        {"verb": Verb.UNSUBSCRIBE, "status": Status.UNSUBSCRIBED},
        {"verb": Verb.UNDO},
        {"basis": Basis.SOFT_OPT_IN},
        {"basis": None},
        {"contact_id": None},
    ],
)
def test_nothing_else_is_taken_for_a_consent(change: dict[str, Any]) -> None:
    assert is_consent(ENTRY)
    assert not is_consent(replace(ENTRY, **change))
