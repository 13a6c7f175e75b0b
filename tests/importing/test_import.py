"""Files of contacts and opt-outs: a bad row is named and stops all, a good file changes what it should and no more."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from preferences.current import services_of
from preferences.domain.acts import ReportedAct, reported, unsubscribe
from preferences.domain.errors import PreferencesError
from preferences.domain.records import Act, Entry, Preference
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, Origin, Status, SuppressionReason, Verb
from preferences.files import tables
from preferences.files.tables import BadFile
from preferences.importing import BLOCK, COLUMNS, BadRow, Counts, import_file, preparing
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import feed, history
from preferences.store.catalog import read_catalog
from preferences.store.decision_facts import facts_for
from preferences.store.tables import address, contact, ledger_entry
from tests.support import add_contact, email

JANE = email("jane.doe@example.com")
YES = "offers,subscribed,2026-05-31T14:00:00+00:00,newsletter form"
HEADER = "address,topic,status,occurred_at,source"


@pytest.fixture
def sqlite_site(sqlite_app: Flask) -> Services:
    return services_of(sqlite_app)


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a file; what ends a line, and what stands before the first one, may be chosen."""

    def write(*lines: str, end: str = "\n", start: bytes = b"") -> Path:
        path = tmp_path / "contacts.csv"
        path.write_bytes(start + "".join(line + end for line in lines).encode())
        return path

    return write


def run(services: Services, path: Path) -> Counts:
    """What `flask import` does."""
    catalog = services.database.read(read_catalog)
    return import_file(
        path, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _rows: None
    )


def refusal(services: Services, path: Path) -> str:
    with pytest.raises((BadRow, BadFile)) as refused:
        run(services, path)
    return str(refused.value)


def rows(services: Services) -> tuple[int, int]:
    """How many contacts and entries there are."""
    contacts, recorded = (
        select(func.count()).select_from(table).scalar_subquery() for table in (contact, ledger_entry)
    )
    found = services.database.read(lambda read: read.execute(select(contacts, recorded)).one())
    return found[0], found[1]


def entries(services: Services) -> list[Entry]:
    return services.database.read(feed.entries_after, 0, 10_000)


def timeline(services: Services, text: str = JANE.value) -> history.Timeline:
    return services.database.read(history.timeline, email(text), services.fingerprints)


def choices(services: Services, text: str = JANE.value) -> dict[str, Preference]:
    return {topic: choice for _, topic, choice in timeline(services, text).choices}


def click(services: Services, topic: str = "offers", at: str = "2026-05-01") -> None:
    """Jane leaves by herself."""
    act = unsubscribe(
        add_contact(services, JANE),
        Channel.EMAIL,
        brand="default",
        topic=topic,
        origin=Origin.PAGE,
        now=datetime.fromisoformat(f"{at}T00:00:00+00:00"),
        evidence={},
    )
    services.writer.record([act])


# What a row does.


def test_an_address_alone_makes_a_contact_and_no_entry(services: Services, file_of: Callable[..., Path]) -> None:
    counts = run(services, file_of("address", "Jane.Doe@example.com", "john.roe@example.com"))
    assert counts == Counts(rows=2, created=2)
    assert rows(services) == (2, 0)


def test_a_subscription_keeps_its_date_its_ground_and_its_proof(
    services: Services, file_of: Callable[..., Path]
) -> None:
    line = f"{JANE.value},{YES},spring fair,paper form 12"
    assert run(services, file_of(f"{HEADER},reason,evidence", line)) == Counts(rows=1, created=1, changed=1)
    (entry,) = entries(services)
    assert (entry.verb, entry.status, entry.topic, entry.brand) == (
        Verb.SUBSCRIBE,
        Status.SUBSCRIBED,
        "offers",
        "default",
    )
    assert (entry.origin, entry.actor, entry.trusted, entry.basis) == (Origin.IMPORT, Actor.STAFF, False, "consent")
    assert entry.occurred_at == datetime(2026, 5, 31, 14, tzinfo=UTC)
    evidence = json.loads(timeline(services).evidence[entry.seq])
    assert evidence == {"source": "newsletter form", "reason": "spring fair", "evidence": "paper form 12"}


def test_an_opt_out_needs_neither_date_nor_source_nor_topic(services: Services, file_of: Callable[..., Path]) -> None:
    run(services, file_of("address,status", f"{JANE.value},unsubscribed"))
    (entry,) = entries(services)
    assert (entry.verb, entry.topic, entry.occurred_at) == (Verb.UNSUBSCRIBE, BLANKET, None)
    assert choices(services)[BLANKET].status is Status.UNSUBSCRIBED


@pytest.mark.parametrize("status", ["hard_bounce", "complaint", "invalid", "legal"])
def test_a_suppression_is_taken_over(sqlite_site: Services, file_of: Callable[..., Path], status: str) -> None:
    run(sqlite_site, file_of("address,status,topic", f"{JANE.value},{status},offers"))
    (entry,) = entries(sqlite_site)
    assert (entry.verb, entry.reason, entry.topic) == (Verb.SUPPRESS, SuppressionReason(status), "")
    assert [one.reason for one in timeline(sqlite_site).suppressions] == [SuppressionReason(status)]


def test_other_channels_have_their_own_addresses(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    run(sqlite_site, file_of("address,channel,status", '"+1 (202) 555-0123",SMS,unsubscribed'))
    (entry,) = entries(sqlite_site)
    assert entry.channel is Channel.SMS
    stored = sqlite_site.database.read(lambda read: read.execute(select(address.c.value)).scalars().all())
    assert stored == ["+12025550123"]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-05-31", datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2026-05-31 14:00", datetime(2026, 5, 31, 14, tzinfo=UTC)),
        ("2026-05-31T14:00:00Z", datetime(2026, 5, 31, 14, tzinfo=UTC)),
        ("2026-05-31T14:00:00+02:00", datetime(2026, 5, 31, 12, tzinfo=UTC)),
        ("2026-05-31 14:00:00.123456 +0530 IST", datetime(2026, 5, 31, 8, 30, 0, 123_456, tzinfo=UTC)),
        ("May 31, 2026 2:22 pm", datetime(2026, 5, 31, 14, 22, tzinfo=UTC)),
    ],
)
def test_a_date_without_a_zone_is_utc_and_for_a_no_the_end_of_its_day(
    sqlite_site: Services, file_of: Callable[..., Path], text: str, instant: datetime
) -> None:
    run(sqlite_site, file_of("address,status,occurred_at", f'{JANE.value},unsubscribed,"{text}"'))
    assert [entry.occurred_at for entry in entries(sqlite_site)] == [instant]


def test_a_no_dated_by_its_day_outweighs_a_yes_of_that_day(services: Services, file_of: Callable[..., Path]) -> None:
    yes = ReportedAct(
        address=JANE,
        verb=Verb.SUBSCRIBE,
        origin_ref="1",
        brand="default",
        topic="offers",
        basis=Basis.CONSENT,
        occurred_at=datetime(2026, 5, 31, 10, tzinfo=UTC),
    )
    services.writer.record([reported(yes, "shop", trusted=True)])
    run(services, file_of("address,status,topic,occurred_at", f"{JANE.value},unsubscribed,offers,2026-05-31"))
    assert choices(services)["offers"].status is Status.UNSUBSCRIBED


def test_a_yes_dated_by_its_day_does_not_outweigh_a_no_of_that_day(
    services: Services, file_of: Callable[..., Path]
) -> None:
    no = f"{JANE.value},unsubscribed,offers,2026-05-31T00:00:01Z,shop"
    yes = f"{JANE.value},subscribed,offers,2026-05-31,shop"
    run(services, file_of("address,status,topic,occurred_at,source", no, yes))
    assert choices(services)["offers"].status is Status.UNSUBSCRIBED


def test_a_no_without_any_date_in_mysql_counts_from_the_import(
    services: Services, file_of: Callable[..., Path]
) -> None:
    run(services, file_of("address,status,occurred_at", f"{JANE.value},unsubscribed,0000-00-00 00:00:00"))
    assert [entry.occurred_at for entry in entries(services)] == [None]


# As files come.


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_files_of_any_office_program_are_read(
    sqlite_site: Services, file_of: Callable[..., Path], end: str, start: bytes
) -> None:
    note = '"said ""no more"", thanks,\nby post"'
    path = file_of("evidence,address,status", f'{note}," {JANE.value} ",Unsubscribed', "", end=end, start=start)
    assert run(sqlite_site, path) == Counts(rows=1, created=1, changed=1)
    evidence = json.loads(timeline(sqlite_site).evidence[1])
    assert evidence == {"evidence": 'said "no more", thanks,\nby post'}


def test_long_proof_is_cut_and_the_row_is_taken(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    run(sqlite_site, file_of("address,status,evidence", f"{JANE.value},unsubscribed,{'x' * 3_000}"))
    assert json.loads(timeline(sqlite_site).evidence[1]) == {"evidence": "x" * 500}


# Bad rows.


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        (HEADER, f"hunter2,{YES}", "column address: not an e-mail address"),
        ("address,channel", f"{JANE.value},hunter2", "column channel: must be one of email, sms, voice, post"),
        ("address,channel", "hunter2,sms", "column address: not a telephone number"),
        ("address,status", f"{JANE.value},hunter2", "column status: must be empty or one of subscribed, "),
        ("address,status", f"{JANE.value},erased", "column status: must be empty or one of subscribed, "),
        ("address,status,topic", f"{JANE.value},unsubscribed,hunter2", "column topic: there is no such topic"),
        ("address,status,topic", f"{JANE.value},unsubscribed,receipts", "column topic: this topic is not marketing"),
        (HEADER, f"{JANE.value},*,subscribed,2026-05-31,hunter2", "column topic: a subscription needs a topic"),
        (HEADER, f"{JANE.value},offers,subscribed,,hunter2", "column occurred_at: a subscription counts only"),
        (HEADER, f"{JANE.value},offers,subscribed,2026-05-31,", "column source: a subscription counts only"),
        (HEADER, f"{JANE.value},offers,unsubscribed,hunter2,", "column occurred_at: not a date that is"),
        (
            HEADER,
            f"{JANE.value},offers,unsubscribed,0001-01-01T00:00:00+14:00,",
            "column occurred_at: not a date that is",
        ),
        (HEADER, f"{JANE.value},offers,unsubscribed,5/3/2026,", "column occurred_at: which number is the day"),
        ("address,status", f"{JANE.value}", "the number of columns differs"),
        ("address,status", f"{JANE.value},unsubscribed,hunter2", "the number of columns differs"),
        ("address,status", f'{JANE.value},"unsubscribed" hunter2', "not a well-formed CSV row"),
    ],
)
def test_a_bad_row_is_named_by_line_and_column_and_its_value_is_not_shown(
    sqlite_site: Services, file_of: Callable[..., Path], header: str, line: str, said: str
) -> None:
    good = ",".join(["john.roe@example.com", *[""] * header.count(",")])
    problem = refusal(sqlite_site, file_of(header, good, line, good))
    assert problem.startswith(f"line 3, {said}" if said.startswith("column") else f"line 3: {said}")
    assert "hunter2" not in problem
    assert "jane" not in problem
    assert rows(sqlite_site) == (0, 0)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("status,topic", "line 1: the header has no column address; {ours}; the file has status, topic; name yours"),
        ("address,statsu", "line 1, column 2: not a column that is known; {ours}; the file has address, statsu"),
        ("jane.doe@example.com", "line 1: the header has no column address; {ours}; the first line seems to be no"),
        ("+1 202 555 0123,Jane", "line 1: the header has no column address; {ours}; the first line seems to be no"),
    ],
)
def test_a_wrong_header_is_told_with_the_columns_that_it_has_but_never_with_peoples_data(
    sqlite_site: Services, file_of: Callable[..., Path], header: str, said: str
) -> None:
    problem = refusal(sqlite_site, file_of(header, header))
    assert problem.startswith(said.format(ours=f"the columns are {', '.join(COLUMNS)}"))
    assert "jane" not in problem.lower()
    assert "555" not in problem


def test_a_column_that_is_there_twice_is_refused(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    problem = refusal(sqlite_site, file_of("address,email", f"{JANE.value},{JANE.value}"))
    assert problem == "line 1, column 2: address is there twice"


def test_columns_may_be_called_as_other_programs_call_them(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    run(sqlite_site, file_of(" Email ,STATUS,Date", f"{JANE.value},unsubscribed,2026-05-31T14:00Z"))
    assert [entry.occurred_at for entry in entries(sqlite_site)] == [datetime(2026, 5, 31, 14, tzinfo=UTC)]


def test_an_empty_file_is_refused(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    assert refusal(sqlite_site, file_of()).startswith("line 1 is empty")


def test_a_file_in_another_encoding_is_refused_by_its_line(sqlite_site: Services, tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("address,source\njane.doe@example.com,Düsseldorf\n".encode("latin-1"))
    assert "not UTF-8" in refusal(sqlite_site, path)


def test_the_command_writes_nothing_when_the_last_of_many_rows_is_bad(
    sqlite_app: Flask, file_of: Callable[..., Path]
) -> None:
    good = [f"person-{number}@example.com,unsubscribed" for number in range(BLOCK + 10)]
    path = file_of("address,status", *good, "hunter2,unsubscribed")
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path)])
    assert result.exit_code == 1
    assert result.stderr == f"Error: line {BLOCK + 12}, column address: not an e-mail address\n"
    assert rows(services_of(sqlite_app)) == (0, 0)


def test_a_rehearsal_says_how_many_rows_are_fine_and_writes_nothing(
    sqlite_app: Flask, file_of: Callable[..., Path]
) -> None:
    path = file_of("address,status", f"{JANE.value},unsubscribed")
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), "--dry-run"])
    assert (result.exit_code, result.stdout) == (0, "1 rows are fine. Nothing was written.\n")
    assert rows(services_of(sqlite_app)) == (0, 0)


# Again, and against what people said.


def test_the_same_file_twice_is_the_same_as_once(services: Services, file_of: Callable[..., Path]) -> None:
    path = file_of(HEADER, f"{JANE.value},{YES}", "john.roe@example.com,,unsubscribed,,", "ann@example.com,,,,")
    run(services, path)
    before = rows(services)
    assert run(services, path) == Counts(rows=3, created=0, changed=0, unchanged=2)
    assert rows(services) == before


def test_a_line_that_stands_twice_in_a_file_counts_once(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    line = f"{JANE.value},unsubscribed"
    assert run(sqlite_site, file_of("address,status", line, line)) == Counts(rows=2, created=1, changed=1, unchanged=1)
    assert len(entries(sqlite_site)) == 1


def test_the_same_line_in_another_file_and_spelling_is_the_same_act(
    sqlite_site: Services, file_of: Callable[..., Path]
) -> None:
    run(sqlite_site, file_of(HEADER, f"{JANE.value},{YES}"))
    run(sqlite_site, file_of(HEADER, "john.roe@example.com,,unsubscribed,,", f" Jane.Doe@EXAMPLE.com ,{YES}"))
    assert len(entries(sqlite_site)) == 2


def test_a_large_file_is_recorded_block_by_block_and_can_be_repeated_from_anywhere(
    services: Services, file_of: Callable[..., Path]
) -> None:
    people = 2 * BLOCK + 7
    path = file_of("address,status", *(f"person-{number}@example.com,unsubscribed" for number in range(people)))
    blocks: list[int] = []

    def stop_after_the_first(done: int) -> None:
        blocks.append(done)
        if len(blocks) == 1:
            raise InterruptedError

    catalog = services.database.read(read_catalog)
    more: dict[str, Any] = {"database": services.database, "fingerprints": services.fingerprints}
    with pytest.raises(InterruptedError):
        import_file(path, catalog, progress=stop_after_the_first, **more)
    assert rows(services) == (BLOCK, BLOCK)
    counts = import_file(path, catalog, progress=blocks.append, **more)
    assert (counts.rows, counts.created, counts.changed) == (people, people - BLOCK, people - BLOCK)
    assert sum(blocks[1:]) == people
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []


@pytest.mark.parametrize("left", ["offers", BLANKET])
def test_an_import_never_turns_a_no_into_a_yes(services: Services, file_of: Callable[..., Path], left: str) -> None:
    click(services, topic=left, at="2026-05-01")
    counts = run(services, file_of(HEADER, f"{JANE.value},{YES}"))
    about = services.database.read(read_catalog).topics["offers"]
    facts = services.database.read(
        facts_for,
        [JANE],
        channel=Channel.EMAIL,
        about=about,
        fingerprints=services.fingerprints,
        now=datetime.now(UTC),
    )
    assert set(facts[JANE].reasons) == {"unsubscribed" if left == "offers" else "unsubscribed_all"}
    assert counts.rows == 1


def test_an_import_of_a_no_ends_a_yes_of_before(sqlite_site: Services, file_of: Callable[..., Path]) -> None:
    run(sqlite_site, file_of(HEADER, f"{JANE.value},{YES}"))
    run(sqlite_site, file_of(HEADER, f"{JANE.value},offers,unsubscribed,2026-06-01,"))
    assert choices(sqlite_site)["offers"].status is Status.UNSUBSCRIBED


def test_an_import_does_not_bring_back_whom_we_erased(services: Services, file_of: Callable[..., Path]) -> None:
    erase = Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=JANE,
        reason=SuppressionReason.ERASED,
        origin="staff",
        actor=Actor.STAFF,
        occurred_at=None,
    )
    services.writer.record([erase])
    services.database.save(lambda save: save.execute(contact.delete()))
    assert run(services, file_of(HEADER, f"{JANE.value},{YES}")).created == 0
    assert timeline(services).contact_id is None
    assert rows(services)[0] == 0


def test_a_row_of_a_file_says_the_same_in_a_new_order_of_columns(
    sqlite_site: Services, file_of: Callable[..., Path]
) -> None:
    def columns(names: Sequence[str]) -> Path:
        values = {"address": JANE.value, "topic": "offers", "status": "unsubscribed", "reason": "letter"}
        return file_of(",".join(names), ",".join(values[name] for name in names))

    run(sqlite_site, columns(["address", "topic", "status", "reason"]))
    run(sqlite_site, columns(["reason", "status", "topic", "address"]))
    assert len(entries(sqlite_site)) == 1


def test_a_bad_row_is_one_of_our_own_errors() -> None:
    assert issubclass(BadRow, PreferencesError)


# Bad rows apart, and files as other programs leave them.


def test_bad_rows_go_to_a_file_of_their_own_and_the_rest_is_taken(
    sqlite_app: Flask, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path = file_of("address,status", f"{JANE.value},unsubscribed", "hunter2,unsubscribed", "ann@example.com,gone", "a")
    rejects = tmp_path / "wrong.csv"
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), "--rejects", str(rejects)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 rows: 1 new contacts, 1 changes" in result.stdout
    assert "3 rejected" in result.stdout
    wrong = list(csv.reader(rejects.read_text().splitlines()))
    assert [row[:2] for row in wrong] == [["line", "column"], ["3", "address"], ["4", "status"], ["5", ""]]
    assert wrong[1][3:] == ["hunter2", "unsubscribed"]
    assert rows(services_of(sqlite_app)) == (1, 1)


def test_a_packed_file_in_latin_1_is_taken(sqlite_app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "people.csv.gz"
    path.write_bytes(gzip.compress(f"address,status,source\n{JANE.value},unsubscribed,Düsseldorf\n".encode("latin-1")))
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), "--encoding", "latin-1"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(timeline(services_of(sqlite_app)).evidence[1]) == {"source": "Düsseldorf"}


def test_rows_without_a_topic_mean_the_one_that_is_given(sqlite_app: Flask, file_of: Callable[..., Path]) -> None:
    path = file_of("address,status", f"{JANE.value},unsubscribed")
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), "--topic", "offers"])
    assert result.exit_code == 0, result.stderr
    assert set(choices(services_of(sqlite_app))) == {"offers"}


@pytest.mark.slow
def test_a_large_file_is_read_by_several_processes_and_keeps_each_persons_order(
    services: Services, file_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "LARGE", 0)
    monkeypatch.setattr(tables, "CHUNK", 7)
    people = [f"person-{number}@example.com" for number in range(60)]
    lines = [f"{one},offers,unsubscribed,2026-0{month}-01," for month in (3, 1, 2) for one in people]
    counts = run(services, file_of(HEADER, *lines))
    assert (counts.rows, counts.created) == (180, 60)
    for one in (people[0], people[31]):
        told = [entry.occurred_at.month for entry in timeline(services, one).entries if entry.occurred_at]
        assert sorted(told) == [1, 2, 3]
        mine = [entry for entry in entries(services) if entry.contact_id == timeline(services, one).contact_id]
        assert [entry.occurred_at.month for entry in mine if entry.occurred_at] == [3, 1, 2]
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []
    with pytest.raises(BadRow, match="line 9, column address"):
        run(services, file_of(HEADER, *lines[:7], "hunter2,,,,", *lines))
