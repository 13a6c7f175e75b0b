"""The proof: clean after any history, and any change behind our back is found and named."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import ColumnElement, Executable, delete, select, text, update

from preferences.checks import doctor
from preferences.domain.errors import NotAllowed
from preferences.domain.notices import Notice
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger import verify as proof
from preferences.services import Services
from preferences.store import contacts, feed, notices
from preferences.store.tables import evidence, ledger_entry, ledger_head, notice, pace, preference, suppression
from tests.support import email

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
JANE = email("jane.doe@example.com")
JOHN = email("john.roe@example.com")


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def act(verb: Verb, who: Address, **more: Any) -> Act:
    known: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "origin": "page",
        "actor": Actor.RECIPIENT,
        "occurred_at": NOON,
        "brand": "default",
        "topic": "offers",
    }
    return Act(verb=verb, who=who, **(known | more))


def record(services: Services, *acts: Act, now: datetime = NOON) -> None:
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=now)


def verify(services: Services) -> proof.Report:
    return services.database.snapshot(proof.verify, lambda _entries: None)


def problems(services: Services) -> list[str]:
    return verify(services).problems


def tamper(services: Services, *statements: Executable) -> None:
    """Write past the program, as somebody with the database's password can."""

    def work(connection: Any) -> None:
        if services.database.is_sqlite:
            for name in (
                connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            ):
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(text("ALTER TABLE ledger_entry DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(statement)

    services.database.save(work)


@pytest.fixture
def history(services: Services) -> Services:
    """A site where Jane subscribed, left and complained, and John left everything."""
    record(
        services,
        act(Verb.SUBSCRIBE, JANE, trusted=True, basis=Basis.CONSENT, origin_ref="first"),
        act(Verb.UNSUBSCRIBE, JANE, occurred_at=minute(1), origin_ref="second"),
        act(Verb.SUPPRESS, JANE, reason=SuppressionReason.COMPLAINT, brand="", topic=""),
        act(Verb.UNSUBSCRIBE, JOHN, topic=BLANKET),
        now=minute(2),
    )
    assert problems(services) == []
    return services


# Clean.


def test_an_empty_ledger_verifies(services: Services) -> None:
    assert verify(services) == proof.Report()


def test_a_clean_report_counts_what_it_saw(history: Services) -> None:
    assert verify(history) == proof.Report(entries=4, preferences=2, suppressions=1)


def random_act(chance: random.Random, people: Sequence[Address], at: int) -> Act:
    who = chance.choice(people)
    verb = chance.choice(
        [Verb.SUBSCRIBE, Verb.UNSUBSCRIBE, Verb.UNSUBSCRIBE, Verb.SUPPRESS, Verb.LIFT, Verb.PAUSE, Verb.CAP]
    )
    more: dict[str, Any] = {
        "occurred_at": chance.choice([None, minute(at), minute(at - chance.randrange(50)), minute(at + 1_000)]),
        "trusted": chance.random() < 0.5,
        "channel": chance.choice([Channel.EMAIL, Channel.EMAIL, Channel.SMS]),
        "origin": chance.choice(["page", "import", "connector.mailer"]),
        "origin_ref": chance.choice([None, f"ref-{chance.randrange(60)}"]),
    }
    if verb in {Verb.SUPPRESS, Verb.LIFT}:
        more |= {"reason": chance.choice(list(SuppressionReason)), "brand": "", "topic": ""}
    else:
        # Topics that a language's rules and a plain comparison of bytes would sort differently.
        more["topic"] = chance.choice(
            ["offers", "a-b", "a", "ab", "Z", "z", "é"] + [BLANKET] * (verb is Verb.UNSUBSCRIBE)
        )
        more["basis"] = chance.choice([None, *Basis])
    if verb is Verb.PAUSE:
        more["until"] = chance.choice([None, minute(at), minute(at + 1_000)])
    if verb is Verb.CAP:
        more["per_week"] = chance.choice([None, 1, 2, 7])
    return act(verb, who, **more)


def undo_something(chance: random.Random, services: Services, at: int) -> bool:
    target = services.database.read(ledger.find_entry, chance.randrange(1, services.database.read(feed.head_seq) + 1))
    if target is None or target.contact_id is None:
        return False
    try:
        services.database.write(ledger.undo, target.seq, contact_id=target.contact_id, now=minute(at), details={})
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_history_verifies(services: Services, seed: int) -> None:
    chance = random.Random(seed)
    people = [email(f"person-{number}@example.com") for number in range(4)]
    undone = 0
    for at in range(0, 400, 10):
        acts = [random_act(chance, people, at) for _ in range(chance.choice([1, 2, 25]))]
        services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=minute(at))
        undone += undo_something(chance, services, at + 5)
        if chance.random() < 0.1:
            services.database.save(lambda save: save.execute(text("DELETE FROM contact")))
    report = verify(services)
    assert report.problems == []
    assert report.limits > 0
    assert report.entries == services.database.read(feed.head_seq) > 200
    assert undone > 0


def test_it_runs_while_people_click(services: Services) -> None:
    many = [act(Verb.UNSUBSCRIBE, email(f"person-{number}@example.com")) for number in range(2_500)]
    record(services, *many)
    clicks = 0

    def click(_entries: int) -> None:
        nonlocal clicks
        if clicks < 3:
            clicks += 1
            record(services, act(Verb.UNSUBSCRIBE, JANE, occurred_at=None), now=minute(clicks))

    report = services.database.snapshot(proof.verify, click)
    assert (report.entries, report.problems, clicks) == (2_500, [], 3)
    assert verify(services).entries == 2_503


# Every entry as it was.

OTHER_VALUES = {
    "recorded_at": minute(3),
    "occurred_at": minute(-1),
    "verb": "subscribe",
    "channel": "sms",
    "contact_id": uuid4(),
    "fingerprint": "x" * 43,
    "brand": "other",
    "topic": "product-news",
    "status": "subscribed",
    "reason": "legal",
    "basis": "contract",
    "origin": "import",
    "origin_ref": "other",
    "actor": "staff",
    "trusted": True,
    "changed": False,
    "undoes": 1,
    "hash": "f" * 64,
    "until": minute(9),
    "per_week": 3,
    "notice": "f" * 64,
    "evidence_digest": "a" * 64,
}


def test_a_change_of_any_column_of_an_entry_is_found_and_named(history: Services) -> None:
    assert set(OTHER_VALUES) == set(ledger_entry.columns.keys()) - {"seq"}
    second = update(ledger_entry).where(ledger_entry.c.seq == 2)
    untouched = select(ledger_entry).where(ledger_entry.c.seq == 2)
    original = history.database.read(lambda read: read.execute(untouched).one())
    for name, other in OTHER_VALUES.items():
        assert original._asdict()[name] != other
        tamper(history, second.values({name: other}))
        assert "entry 2 does not match its hash: it, or the one before it, was altered" in problems(history), name
        tamper(history, second.values({name: original._asdict()[name]}))
        assert problems(history) == []


def test_one_letter_is_enough(history: Services) -> None:
    tamper(history, text("UPDATE ledger_entry SET topic = 'offerz' WHERE seq = 2"))
    assert "entry 2 does not match its hash: it, or the one before it, was altered" in problems(history)


@pytest.mark.parametrize("name", ["verb", "channel", "status", "reason", "basis", "actor"])
def test_a_word_that_is_none_of_ours_is_a_finding_and_no_crash(history: Services, name: str) -> None:
    tamper(history, text(f"UPDATE ledger_entry SET {name} = 'nonsense' WHERE seq = 2"))
    assert "entry 2 does not match its hash: it, or the one before it, was altered" in problems(history)


def test_an_entry_that_was_taken_out_is_missed(history: Services) -> None:
    tamper(history, delete(ledger_entry).where(ledger_entry.c.seq == 2))
    found = problems(history)
    assert "entry 2 is missing: the next one is 3" in found
    assert "entry 3 does not match its hash: it, or the one before it, was altered" in found


def test_the_first_entry_is_missed_too(history: Services) -> None:
    tamper(history, delete(ledger_entry).where(ledger_entry.c.seq == 1))
    assert "entry 1 is missing: the next one is 2" in problems(history)


def test_a_newest_entry_that_was_cut_off_is_missed(history: Services) -> None:
    tamper(history, delete(ledger_entry).where(ledger_entry.c.seq == 4))
    assert "the head stands at 4, the newest entry is 3: entries were cut off" in problems(history)


def test_a_newest_entry_that_was_cut_off_with_its_head_is_missed_in_the_projection(history: Services) -> None:
    third = history.database.read(ledger.find_entry, 3)
    assert third is not None
    moved = update(ledger_head).values(seq=3, hash=third.hash)
    tamper(history, delete(ledger_entry).where(ledger_entry.c.seq == 4), moved)
    assert problems(history) == ["preference of entry 4 has no entry in the ledger"]


def test_two_entries_that_changed_places_are_found(history: Services) -> None:
    tamper(
        history,
        update(ledger_entry).where(ledger_entry.c.seq == 1).values(seq=99),
        update(ledger_entry).where(ledger_entry.c.seq == 2).values(seq=1),
        update(ledger_entry).where(ledger_entry.c.seq == 99).values(seq=2),
    )
    assert "entry 1 does not match its hash: it, or the one before it, was altered" in problems(history)


@pytest.mark.parametrize("values", [{"seq": 5}, {"seq": 3}, {"hash": "f" * 64}])
def test_a_head_that_was_moved_is_found(history: Services, values: dict[str, Any]) -> None:
    tamper(history, update(ledger_head).values(values))
    (problem,) = problems(history)
    assert problem.startswith("the head stands at ")


def test_a_head_that_is_gone_is_found(history: Services) -> None:
    tamper(history, delete(ledger_head))
    assert problems(history) == ["the head is missing: nothing can be recorded"]


# The projection is what the entries add up to.


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("status", "subscribed"),
        ("at", minute(9)),
        ("since", minute(9)),
        ("seq", 1),
        ("trusted", True),
        ("basis", "contract"),
    ],
)
def test_a_preference_that_was_altered_is_found_and_named(history: Services, name: str, other: object) -> None:
    tamper(history, update(preference).where(preference.c.topic == "offers").values({name: other}))
    named = other if name == "seq" else 2
    assert problems(history) == [f"preference begun by entry {named} differs from what the ledger adds up to"]


@pytest.mark.parametrize(("name", "other"), [("active", False), ("at", minute(9)), ("since", minute(9)), ("seq", 1)])
def test_a_suppression_that_was_altered_is_found_and_named(history: Services, name: str, other: object) -> None:
    tamper(history, update(suppression).values({name: other}))
    named = other if name == "seq" else 3
    assert problems(history) == [f"suppression begun by entry {named} differs from what the ledger adds up to"]


@pytest.mark.parametrize(
    ("name", "other"), [("until", minute(99)), ("per_week", 7), ("at", minute(9)), ("seq", 1), ("verb", "pause")]
)
def test_a_cap_that_was_altered_is_found_and_named(history: Services, name: str, other: object) -> None:
    record(history, act(Verb.CAP, JANE, per_week=2))
    tamper(history, update(pace).values({name: other}))
    named = other if name == "seq" else 5
    found = [f"pause or cap begun by entry {named} differs from what the ledger adds up to"]
    if name == "verb":
        found = [
            "pause or cap begun by entry 5 is missing from the projection",
            "pause or cap of entry 5 has no entry in the ledger",
        ]
    assert problems(history) == found


def test_a_pause_that_was_taken_out_is_missed(history: Services) -> None:
    record(history, act(Verb.PAUSE, JANE, until=minute(99)))
    tamper(history, delete(pace))
    assert problems(history) == ["pause or cap begun by entry 5 is missing from the projection"]


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (preference.c.topic == "offers", "preference begun by entry 2 is missing from the projection"),
        (preference.c.topic == BLANKET, "preference begun by entry 4 is missing from the projection"),
    ],
)
def test_a_preference_that_was_taken_out_is_missed(history: Services, where: ColumnElement[bool], problem: str) -> None:
    tamper(history, delete(preference).where(where))
    assert problems(history) == [problem]


def test_a_suppression_that_was_taken_out_is_missed(history: Services) -> None:
    tamper(history, delete(suppression))
    assert problems(history) == ["suppression begun by entry 3 is missing from the projection"]


@pytest.mark.parametrize("contact_id", [contacts.new_id(minute(-9_000_000)), contacts.new_id(minute(9_000_000))])
def test_a_preference_that_nobody_stated_is_found(history: Services, contact_id: object) -> None:
    row = {
        "channel": "email",
        "brand": "default",
        "topic": "offers",
        "status": "subscribed",
        "trusted": True,
        "seq": 77,
    }
    tamper(history, preference.insert().values(contact_id=contact_id, at=NOON, since=NOON, **row))
    assert problems(history) == ["preference of entry 77 has no entry in the ledger"]


def test_a_suppression_that_nobody_reported_is_found(history: Services) -> None:
    row = {"channel": "email", "reason": "legal", "active": True, "seq": 77}
    tamper(history, suppression.insert().values(fingerprint="x" * 43, at=NOON, since=NOON, **row))
    assert problems(history) == ["suppression of entry 77 has no entry in the ledger"]


def test_a_word_in_the_projection_that_is_none_of_ours_is_a_finding_and_no_crash(history: Services) -> None:
    tamper(history, update(preference).values(status="nonsense"), update(suppression).values(reason="nonsense"))
    assert problems(history) == [
        "a preference or its entry holds a value that cannot be read: it was altered",
        "a suppression or its entry holds a value that cannot be read: it was altered",
    ]


def test_a_broken_chain_does_not_name_every_row(services: Services) -> None:
    record(services, *(act(Verb.UNSUBSCRIBE, email(f"person-{number}@example.com")) for number in range(100)))
    tamper(services, update(ledger_entry).values(brand="other"))
    assert len(problems(services)) == proof.MOST_PROBLEMS


# Wordings and evidence.

WORDS = Notice("default/email/offers", "en", "Yes, send me offers.")
OTHER_WORDS = Notice("default/email/offers", "de", "Ja, Angebote bitte.")
SHOP = {"source": "checkout page", "network": "192.0.2.0/24"}


@pytest.fixture
def proven(services: Services) -> Services:
    """A site where Jane and John said yes to wordings, each with evidence."""
    services.database.write(lambda write: notices.keep(write, [WORDS, OTHER_WORDS], NOON))
    yes = {"trusted": True, "basis": Basis.CONSENT, "evidence": SHOP}
    record(
        services,
        act(Verb.SUBSCRIBE, JANE, notice=WORDS.hash, **yes),
        act(Verb.SUBSCRIBE, JOHN, notice=OTHER_WORDS.hash, **yes),
    )
    assert verify(services) == proof.Report(entries=2, preferences=2, wordings=2, evidence=2)
    return services


@pytest.mark.parametrize("change", [{"text": "Yes to all."}, {"slug": "default/email/all"}, {"language": "fr"}])
def test_an_altered_wording_is_named(proven: Services, change: dict[str, str]) -> None:
    tamper(proven, update(notice).where(notice.c.hash == WORDS.hash).values(**change))
    slug, language = change.get("slug", WORDS.slug), change.get("language", WORDS.language)
    assert problems(proven) == [f"the wording {slug} in {language}, version 1, was altered"]


def test_a_wording_that_was_altered_with_its_hash_is_missed_by_its_entry(proven: Services) -> None:
    forged = Notice(WORDS.slug, WORDS.language, "Yes to all.")
    tamper(proven, update(notice).where(notice.c.hash == WORDS.hash).values(text=forged.text, hash=forged.hash))
    assert problems(proven) == ["the wording that entry 1 names is not there: it was removed, or its hash was altered"]


@pytest.mark.parametrize("change", [{"details": '{"source": "forged"}'}, {"salt": "0" * 32}, {"salt": None}])
def test_altered_evidence_is_named_by_its_entry(proven: Services, change: dict[str, str | None]) -> None:
    tamper(proven, update(evidence).where(evidence.c.seq == 2).values(**change))
    assert problems(proven) == ["the evidence of entry 2 was altered"]


def test_erased_evidence_is_counted_and_keeps_the_proof(proven: Services) -> None:
    tamper(proven, delete(evidence).where(evidence.c.seq == 2))
    assert verify(proven) == proof.Report(entries=2, preferences=2, wordings=2, evidence=1, erased=1)


def test_evidence_that_was_added_later_is_named(proven: Services) -> None:
    record(proven, act(Verb.UNSUBSCRIBE, JANE, occurred_at=minute(1)), now=minute(2))
    tamper(proven, evidence.insert().values(seq=3, details="{}", salt="0" * 32))
    assert problems(proven) == ["the evidence of entry 3 was altered"]


def test_evidence_of_no_entry_is_named(proven: Services) -> None:
    tamper(proven, evidence.insert().values(seq=77, details="{}", salt=None))
    assert problems(proven) == ["there is evidence of entry 77, which is not in the ledger"]


def test_a_digest_cannot_be_taken_off_an_entry(proven: Services) -> None:
    """Otherwise its evidence would pass for older than the digests."""
    tamper(
        proven,
        update(ledger_entry).where(ledger_entry.c.seq == 2).values(evidence_digest=None),
        update(evidence).where(evidence.c.seq == 2).values(salt=None, details="{}"),
    )
    assert problems(proven) == ["entry 2 does not match its hash: it, or the one before it, was altered"]


def test_the_same_evidence_has_another_digest_each_time(proven: Services) -> None:
    digests = [entry.evidence_digest for entry in proven.database.read(feed.entries_after, 0, 10)]
    assert None not in digests
    assert len(set(digests)) == 2


# The triggers that keep entries from being changed.


def test_no_trigger_is_missing_from_a_migrated_database(services: Services) -> None:
    assert services.database.read(proof.missing_triggers) == []
    assert {finding.level for finding in doctor.examine(services) if finding.rule == "LEDGER-GUARD"} == {"ok"}


def test_a_dropped_or_disabled_trigger_is_found_by_the_doctor(services: Services) -> None:
    tamper(services)
    assert len(services.database.read(proof.missing_triggers)) == (3 if services.database.is_sqlite else 2)
    (finding,) = [finding for finding in doctor.examine(services) if finding.rule == "LEDGER-GUARD"]
    assert finding.is_wrong
    assert "ledger_entry_no_" in finding.text


def test_a_trigger_that_has_the_name_and_stops_nobody_is_found(services: Services) -> None:
    if services.database.is_sqlite:
        gone = "DROP TRIGGER ledger_entry_no_update"
        made = "CREATE TRIGGER ledger_entry_no_update BEFORE UPDATE ON ledger_entry BEGIN SELECT 1; END"
        names = ["ledger_entry_no_update"]
    else:
        gone = "SELECT 1"
        made = (
            "CREATE OR REPLACE FUNCTION ledger_entry_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RETURN COALESCE(NEW, OLD); END $$"
        )
        names = ["ledger_entry_no_change", "ledger_entry_no_truncate"]
    services.database.save(lambda save: [save.execute(text(statement)) for statement in (gone, made)])
    assert services.database.read(proof.missing_triggers) == names
