"""Many acts at once are the same acts: the short way writes what the long way would have written."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from preferences.current import services_of
from preferences.domain.records import Entry
from preferences.domain.vocabulary import Channel, Verb
from preferences.ledger import bulk, verify
from preferences.ledger.bulk import FileRow
from preferences.services import Services
from preferences.store import feed
from preferences.store.tables import address, contact_flag, evidence, preference, suppression
from preferences.store.transactions import Read, Write
from tests.profiles import scaled
from tests.support import add_contact, close, email, new_app, new_postgresql, new_sqlite

NOW = datetime(2026, 6, 1, 12, 30, 15, 123, tzinfo=UTC)
TIMES = (None, *((NOW + timedelta(days=days)).isoformat(timespec="microseconds") for days in (-30, -1, 0, 2)))
PEOPLE = ("jane@example.com", "john@example.com", "ann@example.com", "o'hara+news@example.com")
WISHES = (("offers", "subscribe", "consent"), ("offers", "unsubscribe", None), ("*", "unsubscribe", None))
REASONS = ("hard_bounce", "complaint", "legal")

rounds = itertools.count()


def told(
    services: Services,
    value: str,
    what: tuple[str, str, str | None] | str | None,
    when: str | None,
    note: str,
    flags: str | None = None,
) -> FileRow:
    one = email(value)
    row = FileRow(services.fingerprints.of(one), Channel.EMAIL.value, one.value, flags=flags)
    if what is None:
        return row
    ref = hashlib.sha256(repr((value, what, when, note)).encode()).hexdigest()
    proofs = None if not note else f'{{"source": "{note}"}}'
    if isinstance(what, str):
        return row._replace(verb="suppress", reason=what, occurred_at=when, ref=ref, evidence=proofs)
    topic, verb, basis = what
    when = when or TIMES[1] if verb == Verb.SUBSCRIBE else when
    return row._replace(
        verb=verb, brand="default", topic=topic, basis=basis, occurred_at=when, ref=ref, evidence=proofs
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from(PEOPLE),
        st.one_of(st.none(), st.sampled_from(WISHES), st.sampled_from(REASONS)),
        st.sampled_from(TIMES),
        st.sampled_from(("", "shop", r"a \\ in C:\\temp")),
        st.sampled_from((None, None, "wholesale", "press wholesale")),
    ),
    max_size=10,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def two_sites(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Services, Services]]:
    """Two databases of a kind: one for the long way, one for the short."""
    apps: list[Flask] = []
    for _ in range(2):
        if request.param == "sqlite":
            url = new_sqlite(tmp_path_factory.mktemp("bulk"))
        else:
            url = new_postgresql(request.getfixturevalue("postgres"))
        apps.append(new_app(url))
    yield services_of(apps[0]), services_of(apps[1])
    for app in apps:
        close(app)


def long_way(services: Services, rows: Sequence[FileRow]) -> None:
    services.database.write(bulk.record_others, rows, services.fingerprints, NOW)


def block_of(services: Services, rows: Sequence[FileRow]) -> bulk.Block:
    block = bulk.prepare(rows, services.fingerprints, services.database.engine.dialect, NOW)
    return cast("bulk.Block", pickle.loads(pickle.dumps(block)))


def short_way(services: Services, rows: Sequence[FileRow]) -> list[FileRow]:
    block = block_of(services, rows)

    def write(write: Write) -> list[FileRow]:
        outcome = bulk.record_new(write, block)
        if outcome.left:
            bulk.record_others(write, outcome.left, services.fingerprints, NOW)
        return outcome.left

    return services.database.write(write)


def seen(services: Services, before: int) -> dict[str, Any]:
    """All that the rows came to, without the numbers that follow from the order between people."""
    entries = services.database.read(feed.entries_after, before, 10_000)
    owners, state = services.database.read(_state)
    return {
        "entries": sorted(repr(plain(entry, owners)) for entry in entries),
        "state": state,
        "order": {one: [e.origin_ref for e in entries if e.fingerprint == one] for one in owners.values()},
    }


def plain(entry: Entry, owners: dict[UUID | None, str]) -> Entry:
    owner = owners.get(entry.contact_id)
    assert owner is None or owner == entry.fingerprint
    sealed = entry.evidence_digest and "with evidence"  # its salt is random
    return replace(entry, seq=0, hash="", contact_id=None, evidence_digest=sealed)


def _state(read: Read) -> tuple[dict[UUID | None, str], list[str]]:
    rows = read.execute(select(address)).all()
    owners: dict[UUID | None, str] = {row.contact_id: row.fingerprint for row in rows}
    state = [f"{row.fingerprint} {row.value} {row.channel}" for row in rows]
    state += [repr((owners[row[0]], *row[1:7], *row[8:])) for row in read.execute(select(preference))]
    state += [repr(row[:6]) for row in read.execute(select(suppression))]
    state += [row.details for row in read.execute(select(evidence))]
    state += [f"{owners[row.contact_id]} {row.flag}" for row in read.execute(select(contact_flag))]
    return owners, sorted(state)


@settings(max_examples=scaled(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=ROWS, rows=ROWS)
def test_the_short_way_writes_what_the_long_way_would(
    two_sites: tuple[Services, Services], before: list[Any], rows: list[Any]
) -> None:
    number = next(rounds)
    found = []
    for services, way in zip(two_sites, (long_way, short_way), strict=True):
        start = services.database.read(feed.head_seq)

        def of(some: list[Any], services: Services = services) -> list[FileRow]:
            return [told(services, f"r{number}-{who}", *rest) for who, *rest in some]

        long_way(services, of(before))
        way(services, of(rows))
        found.append(seen(services, start))
        assert services.database.snapshot(verify.verify, lambda _: None).problems == []
    assert found[0] == found[1]


def test_new_people_take_the_short_way_and_the_same_rows_again_are_passed_over(services: Services) -> None:
    rows = [told(services, who, wish, TIMES[1], "shop") for who in PEOPLE for wish in (*WISHES[1:], *REASONS)]
    assert short_way(services, rows) == []
    head = services.database.read(feed.head_seq)
    assert head == len(rows)
    outcome = services.database.write(bulk.record_new, block_of(services, rows))
    assert (outcome.created, outcome.changed, outcome.left) == (0, 0, [])
    assert services.database.read(feed.head_seq) == head


def test_whoever_is_known_takes_the_long_way(services: Services) -> None:
    add_contact(services, email(PEOPLE[0]))
    rows = [told(services, who, WISHES[1], TIMES[1], "") for who in PEOPLE[:2]]
    assert short_way(services, rows) == rows[:1]
    assert services.database.read(feed.head_seq) == 2
