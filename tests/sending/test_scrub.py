"""A scrub gives the answers of the decisions, and keeps every row that it keeps as it was."""

from __future__ import annotations

import csv
import gzip
import io
import os
import resource
import signal
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from preferences.address_parsing import LONGEST, SHORT, read_address
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadAddress
from preferences.domain.permission import TABLE, Decision, Message, Reason
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import (
    LIMIT_VERBS,
    Channel,
    MessageClass,
    Purpose,
    SuppressionReason,
    Verb,
)
from preferences.files.atomic import CannotWrite
from preferences.files.process_pool import HelperLost
from preferences.files.tables import LONGEST_ROW, BadFile, open_table
from preferences.sending.decide import decide
from preferences.sending.scrub.index import Index, code_of, keys_of_digests
from preferences.sending.scrub.rows import addresses_of
from preferences.sending.scrub.run import Counts, Files, scrub
from preferences.sending.scrub.sort import Hasher
from preferences.sending.scrub.table import PIECE, Encoding, Piece, pieces, read_layout, rows_of
from preferences.services import Services
from preferences.store.catalog import add_topic
from preferences.store.contacts import find_addresses
from preferences.store.frequency import reserve
from preferences.store.tables import contact
from preferences.store.transactions import Read
from tests.profiles import scaled
from tests.sending.lists import NOW, act, tell, written
from tests.support import TOPICS, email, message_about

WHO = [email(f"person-{number}@example.com") for number in range(4)]
TOLD = ["product-news", "offers", "podcast", "*", *Purpose]


def run(
    services: Services,
    source: Path,
    message: Message | None = None,
    fingerprints: Fingerprints | None = None,
    **files: Any,
) -> Counts:
    return scrub(
        replace(services, fingerprints=fingerprints or services.fingerprints),
        Files(source=source, kept=source.with_name("kept"), removed=source.with_name("removed"), replace=True, **files),
        message or message_about(services, "product-news"),
        progress=lambda _: None,
    )


def outputs(source: Path) -> tuple[bytes, bytes]:
    return source.with_name("kept").read_bytes(), source.with_name("removed").read_bytes()


# The same answers.

wishes = st.builds(
    lambda who, verb, topic, days: act(who, Verb.UNSUBSCRIBE if topic == "*" else verb, topic, days),
    st.sampled_from(WHO),
    st.sampled_from([Verb.SUBSCRIBE, Verb.UNSUBSCRIBE]),
    st.sampled_from(TOLD),
    st.integers(1, 3),
)
suppressions = st.builds(
    lambda who, reason: act(who, Verb.SUPPRESS, reason=reason),
    st.sampled_from(WHO),
    st.sampled_from(list(SuppressionReason)),
)
paces = st.builds(
    lambda who, verb, topic, ahead: act(
        who,
        verb,
        topic,
        until=NOW + timedelta(days=ahead) if verb is Verb.PAUSE else None,
        per_week=1 if verb is Verb.CAP else None,
    ),
    st.sampled_from(WHO),
    st.sampled_from(sorted(LIMIT_VERBS)),
    st.sampled_from(["product-news", "offers"]),
    st.sampled_from([-1, 5]),
)


@settings(max_examples=scaled(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.one_of(wishes, wishes, suppressions, paces), st.booleans()), max_size=10),
    st.sets(st.sampled_from(WHO[:2])),
    st.sampled_from([*MessageClass, None]),
)
def test_a_scrub_gives_the_answers_of_the_decisions(
    services: Services,
    tmp_path: Path,
    acts: list[tuple[Act, bool]],
    erased: set[Address],
    message_class: MessageClass | None,
) -> None:
    old, both = Fingerprints([b"older-key-of-the-tests"]), Fingerprints([b"older-key-of-the-tests", b"newer-key"])
    forget_everything(services)
    for one, before_the_rotation in sorted(acts, key=lambda pair: not pair[1]):
        tell(services, one, fingerprints=old if before_the_rotation else both)
    sent_to = services.database.read(contact_of, WHO[0], both)
    if sent_to:
        services.database.save(reserve, {sent_to: 1}, channel=Channel.EMAIL, topic="offers", message_ref="m", now=NOW)
    for who in erased:
        forget(services, who, both)
    for topic in ("product-news", "offers", "podcast", "receipts", *Purpose):
        message = message_about(services, topic, message_class=message_class)
        expected = expected_reasons(services, message, both)
        assert scrubbed_reasons(services, tmp_path, message, both) == expected, topic


digests = st.sampled_from([one * 32 for one in (b"\x00", b"\x01", b"\xfe", b"\xff")] + [b"\xff" * 7 + b"\xfe" * 25])
ANSWERS = [Decision(allowed=allowed, reason=reason, rule="") for allowed in (True, False) for reason in Reason]


@settings(deadline=None)
@given(st.lists(st.tuples(digests, st.sampled_from(ANSWERS))), st.lists(digests))
def test_the_smallest_code_of_an_address_is_found(
    answers: list[tuple[bytes, Decision]], asked_for: list[bytes]
) -> None:
    prints = [([urlsafe_b64encode(digest).decode().rstrip("=")], answer) for digest, answer in answers]
    counts: dict[bytes, int] = {}
    for digest, answer in answers:
        counts[digest] = min(counts.get(digest, code_of(answer)), code_of(answer))
    found = Index(ANSWERS[0], prints).look_up(keys_of_digests(b"".join(asked_for)))
    assert dict(found) == {number: counts[digest] for number, digest in enumerate(asked_for) if digest in counts}


def test_the_code_that_counts_is_the_one_of_the_decision_named_first() -> None:
    refused = [Decision(allowed=False, reason=reason, rule="") for reason in TABLE]
    codes = [code_of(decision) for decision in refused]
    assert codes == sorted(codes)
    assert max(codes) < code_of(Decision(allowed=True, reason=Reason.ERASED, rule=""))


def contact_of(read: Read, who: Address, fingerprints: Fingerprints) -> UUID | None:
    return next((one.contact_id for one in find_addresses(read, [who], fingerprints).values()), None)


def forget_everything(services: Services) -> None:
    def forget_all(read: Read) -> None:
        for table in ("pace", "preference", "suppression", "sending", "address", "contact", "topic"):
            where = " WHERE slug = 'podcast'" if table == "topic" else ""
            read.exec_driver_sql(f"DELETE FROM {table}{where}")

    services.database.save(forget_all)
    # Added between the acts, so that a no to new kinds of mail covers it for some and not for others.
    services.database.save(add_topic, replace(TOPICS[0], slug="podcast"), NOW - timedelta(days=2))


def forget(services: Services, who: Address, fingerprints: Fingerprints) -> None:
    """As an erasure leaves it: the fingerprint is suppressed, and nothing else is known."""
    tell(services, act(who, Verb.SUPPRESS, reason=SuppressionReason.ERASED), fingerprints=fingerprints)
    contact_id = services.database.read(contact_of, who, fingerprints)
    if contact_id:
        services.database.save(lambda save: save.execute(delete(contact).where(contact.c.id == contact_id)))


def expected_reasons(services: Services, message: Message, fingerprints: Fingerprints) -> dict[str, str]:
    everybody = [*WHO, email("stranger@example.com")]
    decisions = decide(replace(services, fingerprints=fingerprints), message, everybody).decisions
    return {
        address.value: "kept" if decision.allowed else f"{decision.reason} {decision.rule}"
        for address, decision in zip(everybody, decisions, strict=True)
    }


def scrubbed_reasons(services: Services, folder: Path, message: Message, fingerprints: Fingerprints) -> dict[str, str]:
    lines = ["email", *(one.value for one in WHO), "stranger@example.com"]
    source = written(folder, "\n".join(lines).encode())
    run(services, source, message, fingerprints)
    kept, removed = outputs(source)
    found = dict.fromkeys(kept.decode().split()[1:], "kept")
    return found | {
        row["email"]: f"{row['reason']} {row['rule']}" for row in csv.DictReader(io.StringIO(removed.decode()))
    }


# The rows.


def test_rows_that_are_kept_stay_as_they_were_and_the_others_get_a_reason(services: Services, tmp_path: Path) -> None:
    tell(services, act(WHO[0], Verb.UNSUBSCRIBE, "*"))
    source = written(
        tmp_path,
        b"\xef\xbb\xbfName; E-Mail ;note\r\n"
        b'Ann;PERSON-0@example.com ;"a ""note""; in\r\ntwo lines"\r\n'
        b'"M\xfcller";person-1@example.com;5" wide\r\n'
        b"Bob;person-1@example.com;\r\n"
        b"Bob;person-1@example.com;\r\n"
        b"\r\n"
        b"Cut;person-1@example.com\r\n"
        b'"Odd";not an address;x\r\n'
        b"Last;person-2@example.com;no end",
    )
    counts = run(services, source)
    kept, removed = outputs(source)
    assert kept == (
        b"\xef\xbb\xbfName; E-Mail ;note\r\n"
        b'"M\xfcller";person-1@example.com;5" wide\r\n'
        b"Bob;person-1@example.com;\r\n"
        b"Bob;person-1@example.com;\r\n"
        b"Last;person-2@example.com;no end\n"
    )
    assert removed == (
        b"\xef\xbb\xbfName; E-Mail ;note;reason;rule\r\n"
        b'Ann;PERSON-0@example.com ;"a ""note""; in\r\ntwo lines";unsubscribed_all;marketing.unsubscribed_all\r\n'
        b"Cut;person-1@example.com;bad_address;line 8: the row has 2 columns and the header 3\r\n"
        b'"Odd";not an address;x;bad_address;line 9: not an e-mail address\r\n'
    )
    assert (counts.kept, counts.removed) == (4, {"unsubscribed_all": 1, "bad_address": 2})
    assert counts.encodings == {Encoding.UTF_8, Encoding.LATIN_1}
    assert counts.as_of == 1


def test_compressed_files_give_compressed_files(services: Services, tmp_path: Path) -> None:
    tell(services, act(WHO[0], Verb.UNSUBSCRIBE, "*"))
    run(services, written(tmp_path, gzip.compress(b"id\temail\n1\tperson-0@example.com\n2\tperson-1@example.com\n")))
    kept, removed = map(gzip.decompress, outputs(tmp_path / "list.csv"))
    assert kept == b"id\temail\n2\tperson-1@example.com\n"
    assert removed.splitlines()[1:] == [b"1\tperson-0@example.com\tunsubscribed_all\tmarketing.unsubscribed_all"]


def test_several_processes_give_what_one_gives_in_order(services: Services, tmp_path: Path) -> None:
    tell(services, *(act(who, Verb.UNSUBSCRIBE, "*") for who in WHO))
    source = long_list(tmp_path)
    one = run(services, source, processes=1)
    alone = outputs(source)
    several = run(services, source, processes=2)
    assert outputs(source) == alone
    assert one == several
    assert one.kept + one.removed.total() == 30_000


def long_list(folder: Path) -> Path:
    rows = b"".join(b"%d,person-%d@example.com,%b\n" % (one, one % 9, b"x" * 99) for one in range(30_000))
    assert len(rows) > 6 * PIECE
    return written(folder, b"id,email,more\n" + rows)


def test_several_processes_unpack_a_file_each_for_itself(services: Services, tmp_path: Path) -> None:
    tell(services, *(act(who, Verb.UNSUBSCRIBE, "*") for who in WHO))
    source = long_list(tmp_path)
    plain = run(services, source)
    expected = outputs(source)
    source.write_bytes(gzip.compress(source.read_bytes(), 1))
    assert run(services, source, processes=3) == plain
    assert tuple(map(gzip.decompress, outputs(source))) == expected


def add_a_row(source: Path) -> None:
    with source.open("ab") as file:
        file.write(b"1,late@example.com,x\n")


def take_away(source: Path) -> None:
    source.unlink(missing_ok=True)


@pytest.mark.parametrize("change", [add_a_row, take_away])
def test_a_file_that_is_changed_meanwhile_is_refused(
    services: Services, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = long_list(tmp_path)
    files = Files(source=source, kept=tmp_path / "kept", removed=tmp_path / "removed", processes=2)
    message = message_about(services, "product-news")
    with pytest.raises(BadFile, match=r"changed while it was read|cannot be read"):
        scrub(services, files, message, progress=lambda _: change(source))
    assert nothing_is_written(tmp_path)


def test_a_full_disk_leaves_nothing_behind(services: Services, tmp_path: Path) -> None:
    source = long_list(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * PIECE, before[1]))
    try:
        with pytest.raises(CannotWrite, match="cannot be written"):
            run(services, source, processes=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert nothing_is_written(tmp_path)


def test_a_process_that_is_killed_is_missed(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Hasher, "__call__", kill)
    with pytest.raises(HelperLost, match="was stopped"):
        run(services, long_list(tmp_path), processes=2)
    assert nothing_is_written(tmp_path)


@given(
    st.lists(
        st.tuples(*[st.text(st.sampled_from('ab",\n \xfc'), max_size=6)] * 2).map(lambda cells: ["a", *cells]),
        max_size=9,
    ),
    st.integers(1, 40),
)
def test_pieces_are_the_file_and_never_cut_a_row(rows: list[list[str]], size: int) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["email", "b", "c"], *rows])
    data = text.getvalue().encode()
    file = Small(data, size)
    layout = read_layout(file, Channel.EMAIL, None)
    found = list(pieces(file, layout))
    assert layout.header + b"".join(one.data for one in found) == data
    read = [row for one in found for row in csv.reader(io.StringIO(one.data.decode(), newline=""))]
    assert read == rows


parts = st.lists(
    st.sampled_from(["a", "7", ".", "-", "+", "@", "B", " ", "\xfc", "x" * 30, "@example.com"]), max_size=9
)


@given(st.lists(parts.map("".join), max_size=9), st.sampled_from(["", "9,"]), st.sampled_from(["", ",x"]))
def test_an_address_among_many_is_read_as_it_is_alone(cells: list[str], before: str, after: str) -> None:
    header = f"{'id,' if before else ''}email{',more' if after else ''}\n"
    data = "".join(f"{before}{cell}{after}\n" for cell in cells).encode()
    layout = read_layout(io.BytesIO(header.encode()), Channel.EMAIL, None)
    piece = Piece(2, data)
    values, bad = addresses_of(piece, rows_of(piece, layout), layout=layout, channel=Channel.EMAIL)
    assert [None if number in bad else value for number, value in enumerate(values)] == list(map(read_alone, cells))


def read_alone(cell: str) -> bytes | None:
    try:
        return read_address(Channel.EMAIL, cell).value.encode()
    except BadAddress:
        return None


def test_an_address_that_is_too_long_is_bad_among_plain_ones(services: Services, tmp_path: Path) -> None:
    longer = f"{'x' * (SHORT - 12)}y@example.com"
    source = written(tmp_path, f"email\nperson-1@example.com\n{longer}\n{'x' * LONGEST}@example.com\n".encode())
    counts = run(services, source)
    assert (counts.kept, counts.removed) == (2, {"bad_address": 1})


def test_a_row_that_a_carriage_return_tears_in_two_is_never_kept(services: Services, tmp_path: Path) -> None:
    torn = b"person-1@example.com,a\rperson-2@example.com,b\n"
    quoted = b'person-3@example.com,"a\rb ""c""\n"\r\n"person-4@example.com",x\r\r\n'
    odd = b'person-5@example.com,"a"\rperson-6@example.com,"b"\nperson-7@example.com,a"b\r"\n'
    source = written(tmp_path, b"email,name\n" + torn + quoted + odd)
    counts = run(services, source)
    assert (counts.kept, counts.removed) == (2, {"bad_address": 3})
    kept, removed = outputs(source)
    assert kept == b"email,name\n" + quoted
    assert b"line 2: a carriage return outside of quotes" in removed


def test_a_torn_row_is_found_in_a_file_without_quotes(services: Services, tmp_path: Path) -> None:
    plain = b"person-3@example.com,a\r\n"
    source = written(tmp_path, b"email,name\r\n" + plain + b"person-1@example.com,a\rperson-2@example.com\r\n")
    counts = run(services, source)
    assert (counts.kept, counts.removed) == (1, {"bad_address": 1})
    assert outputs(source)[0] == b"email,name\r\n" + plain


class Small(io.BytesIO):
    """A file that gives little at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, _size: int | None = -1, /) -> bytes:
        return super().read(self._size)


# What cannot be read.


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "line 1 is empty"),
        (b"name\nx\n", "no column is called"),
        (b"email,email\nx,y\n", "two columns"),
        (b"PK\x03\x04", "save the table as CSV"),
        (b'"email\nx@example.com\n', "a quote is opened in the header"),
        (b"email\rx@example.com\r", "line feed"),
        (b'email\n"x@example.com\n', "line 2: a quote is opened"),
        (b'email\nperson-1@example.com\n"' + b"x\n" * LONGEST_ROW, "line 3: a row longer"),
        (gzip.compress(b"email\nx@example.com\n", mtime=0)[:-9], "not whole"),
    ],
)
def test_a_file_that_cannot_be_read_leaves_nothing_behind(
    services: Services, tmp_path: Path, data: bytes, why: str
) -> None:
    source = written(tmp_path, data)
    with pytest.raises(BadFile, match=why):
        run(services, source)
    assert nothing_is_written(tmp_path)


def nothing_is_written(folder: Path) -> bool:
    return {one.name for one in folder.iterdir() if ".db" not in one.name} <= {"list.csv"}


def test_the_encoding_that_is_named_is_kept_to(services: Services, tmp_path: Path) -> None:
    source = written(tmp_path, b"email\nj\xf6rg@example.com\n")
    assert run(services, source, encoding=Encoding.UTF_8).removed == {"bad_address": 1}
    assert run(services, source, encoding=Encoding.LATIN_1).kept == 1


def test_what_is_no_compressed_file_is_read_as_it_is(tmp_path: Path) -> None:
    with written(tmp_path, b"e").open("rb") as raw:
        assert open_table(raw) == (raw, False, False)


def test_telephone_numbers_are_scrubbed_too(services: Services, tmp_path: Path) -> None:
    message = message_about(services, "product-news", Channel.SMS)
    source = written(tmp_path, b"Phone_Number,id\n+1 202 555 0123,1\n12,2\n")
    counts = run(services, source, message)
    assert (counts.kept, counts.removed) == (1, {"bad_address": 1})
