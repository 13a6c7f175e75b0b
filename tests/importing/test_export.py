"""An export is everything, whole and checkable; put back, it decides as the install that it was taken from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask
from sqlalchemy import delete, select

from preferences.address_parsing import read_address
from preferences.current import services_of
from preferences.domain.acts import retire_address
from preferences.domain.errors import NotAllowed
from preferences.domain.notices import Notice
from preferences.domain.permission import may_send, purpose_topic
from preferences.domain.records import Act, Address, Topic
from preferences.domain.vocabulary import (
    LIMIT_VERBS,
    Actor,
    Basis,
    Channel,
    MessageClass,
    Origin,
    Purpose,
    SuppressionReason,
    Verb,
)
from preferences.files.archives import BadArchive
from preferences.files.atomic import CannotWrite
from preferences.importing import COLUMNS, export, import_file
from preferences.importing.export import BadExport, check, restore, write_archive, write_csv, write_ledger
from preferences.ledger import archive
from preferences.ledger import record as ledger
from preferences.ledger.archive import ENTRIES, PARTS, Part
from preferences.ledger.verify import verify
from preferences.services import Services
from preferences.store import feed, notices
from preferences.store.catalog import read_catalog
from preferences.store.current_state import count_left_out
from preferences.store.decision_facts import facts_for
from preferences.store.tables import address, connector_cursor, contact, metadata, preference, sending
from preferences.store.transactions import Save, Write
from tests.processes import contents
from tests.support import add_contact, close, email, new_app, new_postgresql, new_sqlite

NOW: Final = datetime.now(UTC)
PEOPLE: Final = (
    *(email(f"{name}@example.com") for name in ("jane", "rosa", "ben", "ida", "=1+1", "+plus", "o'neil")),
    read_address(Channel.SMS, "+12025550123"),
    read_address(Channel.SMS, "+12025550124"),
)
WORDING: Final = Notice("offers", "de", 'Ja, "gern";\r\nüber,alles\n=HYPERLINK("x")')


def silent(_rows: int) -> None:
    """Nobody watches."""


Make = Callable[..., Services]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """A fresh install, on the engine of this name."""
    apps: list[Flask] = []

    def make(engine: str, **changes: Any) -> Services:
        url = new_sqlite(tmp_path) if engine == "sqlite" else new_postgresql(request.getfixturevalue("postgres"))
        apps.append(new_app(url, **changes))
        return services_of(apps[-1])

    yield make
    for app in apps:
        close(app)


# Lives at random.


def random_act(chance: random.Random, number: int) -> Act:
    """Anything that anybody can do, by any door, in any order of time."""
    verb = chance.choice(
        [Verb.SUBSCRIBE, Verb.UNSUBSCRIBE, Verb.UNSUBSCRIBE, Verb.PAUSE, Verb.CAP, Verb.SUPPRESS, Verb.LIFT]
    )
    who = chance.choice(PEOPLE)
    more: dict[str, Any] = {}
    topics = ["product-news", "offers", *Purpose] if who.channel is Channel.EMAIL else ["product-news"]
    if verb in {Verb.SUPPRESS, Verb.LIFT}:
        more["reason"] = chance.choice(list(SuppressionReason))
    else:
        more |= {"brand": "default", "topic": chance.choice(topics)}
    if verb is Verb.UNSUBSCRIBE and chance.random() < 0.3:
        more["topic"] = "*"
    if verb is Verb.PAUSE:
        more["until"] = chance.choice([None, NOW + timedelta(days=30)])
    if verb is Verb.CAP:
        more["per_week"] = chance.choice([None, 1, 2])
    if verb is Verb.SUBSCRIBE:
        more |= {"basis": Basis.CONSENT, "notice": WORDING.hash}
    return Act(
        verb=verb,
        channel=Channel.EMAIL if more.get("topic") in set(Purpose) else who.channel,
        who=who,
        origin=chance.choice([*Origin, "connector.mailer", "api.shop"]),
        origin_ref=chance.choice([None, f"ref-{number}"]),
        actor=chance.choice(list(Actor)),
        occurred_at=chance.choice([None, NOW - timedelta(minutes=chance.randrange(10_000))]),
        trusted=chance.random() < 0.5,
        evidence=chance.choice([{}, {"user_agent": '=cmd|"x"\r\n,é', "ip": "203.0.113.0"}]),
        **more,
    )


def live(services: Services, seed: int) -> None:
    """Sixty acts, some undone, one person erased but for the fingerprint, some mail under a cap."""
    chance = random.Random(seed)

    def keep(write: Write) -> None:
        notices.keep(write, [WORDING], NOW)

    services.database.write(keep)
    for start in range(0, 60, 5):
        acts = [random_act(chance, start + step) for step in range(5)]
        entries = services.database.write(
            ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC)
        )
        for entry in entries:
            if entry.verb is Verb.UNSUBSCRIBE and entry.contact_id and chance.random() < 0.4:
                try:
                    services.database.write(
                        ledger.undo,
                        entry.seq,
                        contact_id=entry.contact_id,
                        now=datetime.now(UTC),
                        details={"from": "page"},
                    )
                except NotAllowed:
                    continue
    erase(services, PEOPLE[0])
    services.database.save(send_some)


def erase(services: Services, one: Address) -> None:
    """All that stays of a person is the suppression of a fingerprint."""
    act = Act(
        verb=Verb.SUPPRESS,
        channel=one.channel,
        who=one,
        reason=SuppressionReason.ERASED,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=NOW,
    )
    (entry,) = services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOW)

    def shred(save: Save) -> None:
        save.execute(delete(address).where(address.c.contact_id == entry.contact_id))
        save.execute(delete(contact).where(contact.c.id == entry.contact_id))

    services.database.save(shred)


def send_some(save: Save) -> None:
    ids = save.execute(select(contact.c.id)).scalars().all()
    rows = [
        {"contact_id": one, "channel": "email", "topic": "offers", "message_ref": "m-1", "at": NOW - timedelta(days=1)}
        for one in ids
    ]
    save.execute(sending.insert(), rows)
    save.execute(connector_cursor.insert().values(connector="mailer", position=7, failures=3))


def decisions(services: Services) -> list[Any]:
    """The answer for every address, topic, class and channel, with what is behind it."""
    topics: list[Topic | None] = [*services.database.read(read_catalog).topics.values(), None]
    topics += [purpose_topic(one, "default") for one in Purpose]
    answers = []
    for channel in Channel:
        known = [
            *(one for one in PEOPLE if one.channel is channel),
            *([email("new@example.com")] if channel == "email" else []),
        ]
        for topic in topics if known else []:
            facts = services.database.read(
                facts_for, known, channel=channel, about=topic, fingerprints=services.fingerprints, now=NOW
            )
            answers += [may_send(kind, facts[one]) for one in known for kind in MessageClass]
    return answers


def exported(services: Services, folder: Path) -> Path:
    path = folder / "everything.zip"
    services.database.snapshot(write_archive, path, services.fingerprints, progress=silent, replace=True)
    return path


def put_back(path: Path, services: Services) -> None:
    check(path, services.fingerprints, progress=silent)
    restore(path, services.database, progress=silent)


MOVES: Final = [
    ("sqlite", "sqlite", 1),
    ("sqlite", "postgresql", 2),
    ("postgresql", "sqlite", 3),
    ("postgresql", "postgresql", 4),
    ("sqlite", "postgresql", 5),
]


@pytest.mark.parametrize(("old", "new", "seed"), MOVES)
def test_an_install_that_was_moved_decides_as_before_and_goes_on(
    make: Make, tmp_path: Path, old: str, new: str, seed: int
) -> None:
    here, there = make(old), make(new)
    live(here, seed)
    before = decisions(here)
    assert len({one.reason for one in before}) > 5
    put_back(exported(here, tmp_path), there)
    assert decisions(there) == before
    assert there.database.snapshot(verify, silent).problems == []
    head = here.database.read(archive.head)
    assert there.database.read(archive.head) == head
    again = [replace(random_act(random.Random(seed), 99), evidence={})]  # the salt of evidence is random
    entries = [
        services.database.write(ledger.record, again, fingerprints=services.fingerprints, now=NOW)[0]
        for services in (here, there)
    ]
    assert entries[0].hash == entries[1].hash
    assert entries[1].seq <= head[0] + 1
    assert there.database.snapshot(verify, silent).problems == []


def test_what_was_put_back_is_exported_alike(make: Make, tmp_path: Path) -> None:
    here, there = make("sqlite"), make("sqlite")
    live(here, 6)
    (tmp_path / "again").mkdir()
    first = exported(here, tmp_path)
    put_back(first, there)
    second = exported(there, tmp_path / "again")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        for part in archive.PARTS:
            assert one.read(part.file) == other.read(part.file), part.file


def test_the_fold_of_the_verbs_is_covered(make: Make) -> None:
    services = make("sqlite")
    live(services, 1)
    verbs = {entry.verb for entry in services.database.read(feed.entries_after, 0, 1_000)}
    assert verbs == set(Verb)
    assert verbs > LIMIT_VERBS


def test_every_table_is_exported_or_left_out_for_a_reason() -> None:
    assert set(metadata.tables) == {part.table.name for part in archive.PARTS} | archive.LEFT_OUT.keys()


# What is refused.


def test_an_install_with_somebody_in_it_is_left_as_it_is(services: Services, tmp_path: Path) -> None:
    add_contact(services)
    path = exported(services, tmp_path)
    before = contents(services.settings.database_url)
    with pytest.raises(NotAllowed, match="only into an empty install"):
        put_back(path, services)
    assert contents(services.settings.database_url) == before


def changed(path: Path, change: Callable[[str, bytes], bytes | None], *, reseal: bool = False) -> Path:
    """The archive with its files changed, and the manifest's digests too if it shall look whole."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: change(name, archive.read(name)) for name in archive.namelist()}
    if reseal:
        manifest = json.loads(parts[export.MANIFEST] or b"")
        for name, one in manifest["files"].items():
            one["sha256"] = hashlib.sha256(parts[name] or b"").hexdigest()
        parts[export.MANIFEST] = json.dumps(manifest).encode()
    other = path.with_name("changed.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for name, content in parts.items():
            if content is not None:
                archive.writestr(name, content)
    return other


def swap(name: str, old: bytes, new: bytes) -> Callable[[str, bytes], bytes | None]:
    return lambda file, content: content.replace(old, new, 1) if file == name else content


def other_contact(name: str, content: bytes) -> bytes:
    """The first contact with another id."""
    other = b"00000000-0000-7000-8000-000000000000"
    return re.sub(rb"(?m)^[0-9a-f-]{36}", other, content, count=1) if name == "contacts.csv" else content


@pytest.mark.parametrize(
    ("change", "reseal", "words"),
    [
        (swap("choices.csv", b"unsubscribed", b"subscribed"), False, "choices.csv is not as it was written"),
        (swap("choices.csv", b"unsubscribed", b"subscribed"), True, "does not verify"),
        (swap("entries.jsonl", b'"verb":"unsubscribe"', b'"verb":"subscribe"'), True, "does not verify"),
        (swap("entries.jsonl", b'"seq":2', b'"seq":"x"'), True, "refuses something in it"),
        (swap("entries.jsonl", b'{"', b'["'), True, "entries.jsonl is missing, or holds something"),
        (swap("contacts.csv", b"revoked_at", b"invented_at"), True, "contacts.csv has columns"),
        (swap("contacts.csv", b",20", b",ab"), True, "contacts.csv is missing, or holds something"),
        (swap("contacts.csv", b"+00:00", b""), True, "contacts.csv is missing, or holds something"),
        (swap("addresses.csv", b"email", b"fax"), True, "addresses.csv is missing, or holds something"),
        (swap("addresses.csv", b"@example", b"\0@example"), True, "addresses.csv is missing, or holds something"),
        (swap("manifest.json", b'"seq": ', b'"seq": 999999999999999999999999'), False, "is not an export of"),
        (swap("manifest.json", b'"rows": ', b'"rows": -'), False, "is not an export of"),
        (other_contact, True, "an address in it has no contact"),
        (lambda name, content: None if name == "paces.csv" else content, False, "paces.csv is missing, or holds"),
        (swap("manifest.json", b'"version": 1', b'"version": 2'), False, "another version"),
        (swap("manifest.json", b"preferences-export", b"something-else"), False, "is not an export of this program"),
    ],
)
def test_an_export_that_was_altered_is_refused_and_nothing_of_it_stays(
    make: Make, tmp_path: Path, change: Callable[[str, bytes], bytes | None], reseal: bool, words: str
) -> None:
    here, there = make("sqlite"), make("sqlite")
    live(here, 7)
    path = changed(exported(here, tmp_path), change, reseal=reseal)
    before = contents(there.settings.database_url)
    with pytest.raises(Exception, match=words) as error:
        put_back(path, there)
    assert contents(there.settings.database_url) == before
    assert "@" not in str(error.value)


def test_an_export_that_was_cut_off_is_refused(make: Make, tmp_path: Path) -> None:
    here = make("sqlite")
    path = exported(here, tmp_path)
    for length in (0, 10, path.stat().st_size // 2, path.stat().st_size - 5):
        cut = tmp_path / "cut.zip"
        cut.write_bytes(path.read_bytes()[:length])
        with pytest.raises(BadArchive):
            check(cut, here.fingerprints, progress=silent)


def test_an_install_with_other_keys_would_not_know_the_erased_and_is_refused(make: Make, tmp_path: Path) -> None:
    here = make("sqlite")
    other = make("sqlite", fingerprint_keys=("another-key-of-the-tests",))
    both = make("sqlite", fingerprint_keys=("fingerprint-key-of-tests", "another-key-of-the-tests"))
    live(here, 8)
    path = exported(here, tmp_path)
    with pytest.raises(BadExport, match="FINGERPRINT_KEYS"):
        check(path, other.fingerprints, progress=silent)
    put_back(path, both)
    assert decisions(both) == decisions(here)


# The file.


def test_a_file_stands_under_its_name_only_when_it_is_whole(services: Services, tmp_path: Path) -> None:
    live(services, 9)
    path = tmp_path / "everything.zip"
    path.write_text("what was there")

    class Stopped(Exception):
        pass

    def stop(rows: int) -> None:
        if rows:
            raise Stopped

    with pytest.raises(Stopped):
        services.database.snapshot(write_archive, path, services.fingerprints, progress=stop)
    assert [one.name for one in tmp_path.iterdir() if one.suffix in {".zip", ".part"}] == ["everything.zip"]
    assert path.read_text() == "what was there"
    exported(services, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_place_that_cannot_be_written_is_named(services: Services, tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="cannot be written"):
        services.database.snapshot(write_csv, tmp_path / "nowhere" / "x.csv", progress=silent)


def test_an_export_is_one_instant_whatever_people_click_meanwhile(
    services: Services, tmp_path: Path, make: Make
) -> None:
    live(services, 10)
    seq = services.database.read(feed.head_seq)
    clicked = threading.Event()

    def click(rows: int) -> None:
        if rows and not clicked.is_set():
            clicked.set()
            act = random_act(random.Random(0), 500)
            thread = threading.Thread(
                target=lambda: services.database.write(
                    ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC)
                )
            )
            thread.start()
            thread.join()

    path = tmp_path / "everything.zip"
    manifest = services.database.snapshot(write_archive, path, services.fingerprints, progress=click)
    assert manifest.head_seq == seq
    assert services.database.read(feed.head_seq) == seq + 1
    put_back(path, make("sqlite"))


def test_the_ledger_can_be_checked_without_this_program(services: Services, tmp_path: Path) -> None:
    live(services, 11)
    path = tmp_path / "ledger.jsonl"
    count = services.database.snapshot(write_ledger, path, progress=silent)
    previous = "0" * 64
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        entry = json.loads(line)
        given = entry.pop("hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256((previous + text).encode()).hexdigest() == given
        assert entry["seq"] == number
        previous = given
    assert (count, previous) == services.database.read(archive.head)
    assert "@example" not in path.read_text(encoding="utf-8")
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n([^`]*previous = .*?)^```$", guide, re.MULTILINE | re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [previous]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.file)
def test_the_guide_names_each_column_of_each_file(part: Part) -> None:
    if part.file == ENTRIES:
        pytest.skip("its fields are those of the feed")
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (columns,) = re.findall(rf"^\| `{re.escape(part.file)}` \| [^|]* \| (.*) \|$", guide, re.MULTILINE)
    assert [name for name in part.columns if f"`{name}`" not in columns] == []


def test_the_guide_names_each_field_of_the_manifest(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "everything.zip"
    services.database.snapshot(write_archive, path, services.fingerprints, progress=silent)
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (fields,) = re.findall(r"^\| `manifest.json` \|(.*)$", guide, re.MULTILINE)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert [name for name in manifest if name != "files" and f"`{name}`" not in fields] == []


def test_evidence_can_be_checked_without_this_program(services: Services, tmp_path: Path) -> None:
    live(services, 12)
    path, altered = tmp_path / "everything.zip", tmp_path / "altered.zip"
    services.database.snapshot(write_archive, path, services.fingerprints, progress=silent)
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n([^`]*hmac.digest.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    report = services.database.snapshot(verify, silent)
    assert len(told.stdout.split()) == report.evidence > 0

    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(altered, "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            other.writestr(
                name, content.replace(b"203.0.113.0", b"203.0.113.1", 1) if name == "evidence.csv" else content
            )
    told = subprocess.run([sys.executable, "-c", code, altered], capture_output=True, text=True, check=False)
    assert "AssertionError" in told.stderr


# The CSV.


def test_the_columns_are_those_of_an_import() -> None:
    assert export.CSV_COLUMNS == COLUMNS


@pytest.mark.parametrize("seed", [12, 13])
def test_a_csv_that_is_imported_elsewhere_lets_nothing_through_that_was_stopped(
    make: Make, tmp_path: Path, seed: int
) -> None:
    here, there = make("sqlite"), make("sqlite")
    live(here, seed)
    path = tmp_path / "contacts.csv"
    here.database.snapshot(write_csv, path, progress=silent)
    import_file(
        path,
        there.database.read(read_catalog),
        database=there.database,
        fingerprints=there.fingerprints,
        progress=silent,
    )
    here.database.save(lambda save: save.execute(delete(sending)))
    left = here.database.read(count_left_out)
    assert left.paces
    assert left.fingerprints
    entries = here.database.read(feed.entries_after, 0, 1_000)
    # What was answered about new kinds of mail has no row: it is counted among what is left out.
    without_row = {entry.seq for entry in entries if entry.topic == Purpose.NEW_TOPICS}
    erased = email("jane@example.com")
    for topic in here.database.read(read_catalog).topics.values():
        for channel in topic.channels:
            known = [one for one in PEOPLE if one.channel is channel and one != erased]
            old, new = (
                services.database.read(
                    facts_for, known, channel=channel, about=topic, fingerprints=services.fingerprints, now=NOW
                )
                for services in (here, there)
            )
            for one in known:
                was, is_now = (may_send(MessageClass.MARKETING, facts[one]) for facts in (old, new))
                untold = was.reason in {"paused", "over_cap"} or was.entry in without_row
                assert was.allowed or not is_now.allowed or untold, (was, is_now)


def test_cells_are_data_and_come_back_as_they_were(make: Make, tmp_path: Path) -> None:
    services = make("sqlite")
    for one in PEOPLE:
        add_contact(services, one)
    path = tmp_path / "contacts.csv"
    services.database.snapshot(write_csv, path, progress=silent)
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert {(row["channel"], row["address"]) for row in rows} == {(one.channel, one.value) for one in PEOPLE}
    assert {row["status"] for row in rows} == {""}


def test_an_address_that_was_put_away_stays_out_of_marketing(make: Make, tmp_path: Path) -> None:
    services = make("sqlite")
    add_contact(services)
    services.database.write(
        ledger.record, [retire_address(email(), NOW, {})], fingerprints=services.fingerprints, now=datetime.now(UTC)
    )
    path = tmp_path / "contacts.csv"
    services.database.snapshot(write_csv, path, progress=silent)
    (row,) = csv.DictReader(io.StringIO(path.read_text()))
    assert (row["topic"], row["status"], row["reason"], row["brand"]) == ("*", "unsubscribed", "replaced", "default")


def test_what_was_never_said_is_no_choice_and_has_no_row(make: Make, tmp_path: Path) -> None:
    services = make("sqlite")
    one = add_contact(services)
    act = Act(
        verb=Verb.UNSUBSCRIBE,
        channel=Channel.EMAIL,
        who=one,
        brand="default",
        topic="offers",
        origin=Origin.PAGE,
        actor=Actor.RECIPIENT,
        occurred_at=NOW,
    )
    (entry,) = services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOW)
    services.database.write(ledger.undo, entry.seq, contact_id=one, now=NOW + timedelta(seconds=1), details={})
    assert services.database.read(lambda read: read.execute(select(preference.c.status)).scalar()) is None
    path = tmp_path / "contacts.csv"
    assert services.database.snapshot(write_csv, path, progress=silent) == 1
