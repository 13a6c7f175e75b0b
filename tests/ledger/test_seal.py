"""The canonical form of an entry is what it was, to the byte, in every version before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from preferences.domain.records import Entry
from preferences.domain.vocabulary import Actor, Basis, Channel, Status, SuppressionReason, Verb
from preferences.ledger.seal import GENESIS, canonical, canonical_template, chain_hash, evidence_digest
from preferences.services import Services
from preferences.store import codec
from preferences.store.tables import ledger_entry

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "seal.json").read_text())
NAMES = {field.name for field in fields(Entry)}


def golden_entries() -> Iterator[tuple[Entry, str, str, str]]:
    """Each entry with the hash of the one before, its canonical form and its hash."""
    previous = GENESIS
    for vector in GOLDEN["entries"]:
        yield entry_of(vector["entry"]), previous, vector["canonical"], vector["hash"]
        previous = vector["hash"]


def entry_of(given: dict[str, Any]) -> Entry:
    """Read by hand, and not by the code under test."""
    words: dict[str, Callable[[Any], Any]] = {
        "verb": Verb,
        "channel": Channel,
        "status": Status,
        "reason": SuppressionReason,
        "basis": Basis,
        "actor": Actor,
        "contact_id": UUID,
        "recorded_at": datetime.fromisoformat,
        "occurred_at": datetime.fromisoformat,
        "until": datetime.fromisoformat,
    }
    read: dict[str, Any] = {name: words[name](value) if name in words else value for name, value in given.items()}
    return Entry(**{**dict.fromkeys(NAMES), "hash": "", **read})


def test_the_golden_vectors_cover_every_word_and_field() -> None:
    entries = [entry for entry, *_ in golden_entries()]
    for name, words in (
        ("verb", Verb),
        ("channel", Channel),
        ("status", Status),
        ("reason", SuppressionReason),
        ("basis", Basis),
        ("actor", Actor),
    ):
        assert {getattr(entry, name) for entry in entries} >= set(words), f"a new {name} needs a vector"
    optional = ("occurred_at", "contact_id", "fingerprint", "origin_ref", "undoes", "until", "per_week", "notice")
    for name in (*optional, "evidence_digest"):
        assert len({getattr(entry, name) is None for entry in entries}) == 2


@pytest.mark.parametrize(("entry", "previous", "text", "sealed"), tuple(golden_entries()))
def test_canonical_form_and_hash_equal_the_golden_vector(entry: Entry, previous: str, text: str, sealed: str) -> None:
    assert canonical(entry) == text.encode()
    assert chain_hash(previous, entry) == hashlib.sha256(f"{previous}{text}".encode()).hexdigest() == sealed


def test_evidence_digests_equal_the_golden_vectors() -> None:
    for vector in GOLDEN["evidence"]:
        assert evidence_digest(vector["salt"], vector["details"]) == vector["digest"]


def test_a_stored_entry_has_the_canonical_form_it_was_written_with(services: Services) -> None:
    writable = [
        replace(entry, hash=sealed)
        for entry, _, text, sealed in golden_entries()
        # PostgreSQL's text holds no null character, its dates begin later, and seq is the key.
        if "\\u0000" not in text and "0001-01-01" not in text and (entry.per_week or 0) < 2**31
    ]
    with services.database.engine.connect() as connection:
        for number, entry in enumerate(writable, 1):
            values = codec.entry_row(entry) | {"seq": number, "origin_ref": entry.origin_ref and f"{number}"}
            connection.execute(insert(ledger_entry), values)
        stored = connection.execute(select(ledger_entry).order_by(ledger_entry.c.seq)).all()
        connection.rollback()
    for entry, row in zip(writable, stored, strict=True):
        read = replace(codec.entry_of(row), seq=entry.seq, origin_ref=entry.origin_ref)
        assert canonical(read) == canonical(entry)
        assert read == entry


def test_the_columns_are_the_fields_of_an_entry_in_order() -> None:
    assert tuple(ledger_entry.c.keys()) == codec.ENTRY_FIELDS


def test_an_entry_survives_its_row_and_its_json() -> None:
    for entry, *_ in golden_entries():
        assert codec.entry_of_values(codec.entry_row(entry)) == entry
        assert codec.entry_of_json(json.loads(json.dumps(codec.entry_json(entry)))) == entry


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001 - the zone is drawn
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
ENTRIES = st.builds(
    Entry,
    seq=st.integers(1, 2**62),
    recorded_at=TIMES,
    occurred_at=st.none() | TIMES,
    verb=st.sampled_from(Verb),
    channel=st.sampled_from(Channel),
    contact_id=st.none() | st.uuids(),
    fingerprint=st.none() | TEXTS,
    brand=TEXTS,
    topic=TEXTS,
    status=st.none() | st.sampled_from(Status),
    reason=st.none() | st.sampled_from(SuppressionReason),
    basis=st.none() | st.sampled_from(Basis),
    origin=TEXTS,
    origin_ref=st.none() | TEXTS,
    actor=st.sampled_from(Actor),
    trusted=st.booleans(),
    changed=st.booleans(),
    undoes=st.none() | st.integers(0, 2**62),
    hash=HEX,
    until=st.none() | TIMES,
    per_week=st.none() | st.integers(0, 100),
    notice=st.none() | HEX,
    evidence_digest=st.none() | HEX,
)


def first_canonical(entry: Entry) -> bytes:
    """As the first version made it."""
    values = {}
    for name, value in codec.entry_row(entry).items():
        if value is None or name == "hash":
            continue
        if isinstance(value, datetime):
            value = value.astimezone(UTC).isoformat(timespec="microseconds")  # noqa: PLW2901
        values[name] = value if isinstance(value, str | int) else str(value)
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@given(ENTRIES)
def test_canonical_form_is_json_with_sorted_keys_and_without_nulls(entry: Entry) -> None:
    assert canonical(entry) == first_canonical(entry)


WORDS = st.text("abcXYZ019_-", max_size=12)


@given(ENTRIES, st.uuids(), WORDS, WORDS, st.datetimes(datetime(1990, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_template_makes_the_canonical_form(entry: Entry, who: UUID, name: str, ref: str, at: datetime) -> None:
    names = ("occurred_at", "contact_id", "fingerprint", "origin_ref", "evidence_digest")
    draft = replace(entry, seq=0, contact_id=UUID(int=0), fingerprint="", origin_ref="")
    before, after = canonical_template(draft, names)
    given = {"contact_id": str(who), "fingerprint": name, "origin_ref": ref, "evidence_digest": name}
    text = f"{before % (given | {'occurred_at': at.isoformat(timespec='microseconds')})}{entry.seq}{after}"
    assert text.encode() == canonical(
        replace(
            entry,
            contact_id=who,
            fingerprint=name,
            origin_ref=ref,
            occurred_at=entry.occurred_at and at,
            evidence_digest=entry.evidence_digest and name,
        )
    )


def test_no_text_of_an_entry_is_taken_for_a_field() -> None:
    for entry, *_ in golden_entries():
        before, after = canonical_template(replace(entry, seq=0), ())
        assert f"{before % {}}{entry.seq}{after}".encode() == canonical(entry)
