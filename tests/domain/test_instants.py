"""Dates and times as other programs write them: read rightly, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.domain.instants import epoch_instant, parse_instant


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T10:00:00+00:00", "2024-05-01T10:00:00"),
        ("2024-05-01T10:00:00.123456Z", "2024-05-01T10:00:00.123456"),
        ("2024-05-01T10:00:00.1234567+0200", "2024-05-01T08:00:00.123456"),
        ("2024-05-01 10:00", "2024-05-01T10:00:00"),
        ("2024-05-01 10:00:00+00", "2024-05-01T10:00:00"),
        ("20240501T100000Z", "2024-05-01T10:00:00"),
        ("2024/05/01 10:00:00", "2024-05-01T10:00:00"),
        ("2024-05-01 10:00:00 UTC", "2024-05-01T10:00:00"),
    ],
)
def test_iso_8601_and_its_kin_are_read(text: str, moment: str) -> None:
    expected = datetime.fromisoformat(f"{moment}+00:00")
    assert parse_instant(text) == (expected, expected)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01 10:00:00.123456 +0000 +0000", "2024-05-01T10:00:00.123456"),
        ("2024-05-01 10:00:00.1 +0000 UTC", "2024-05-01T10:00:00.100000"),
        ("2024-05-01 10:00:00.123456789 +0200 CEST", "2024-05-01T08:00:00.123456"),
        ("2024-05-01 10:00:00 +0530 IST", "2024-05-01T04:30:00"),
        ("2024-05-01 10:00:00 -0300 -03", "2024-05-01T13:00:00"),
        ("2024-05-01 10:00:00.5 +0200 CEST m=+0.010000001", "2024-05-01T08:00:00.500000"),
        ("0001-01-01 00:00:00 +0000 UTC", "0001-01-01T00:00:00"),
    ],
)
def test_what_go_prints_of_a_time_is_read(text: str, moment: str) -> None:
    assert parse_instant(text).earliest == datetime.fromisoformat(f"{moment}+00:00")


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("May 3, 2024 2:22 pm", "14:22:00"),
        ("May 3, 2024, 2:22:05\u202fPM", "14:22:05"),
        ("May 3, 2024 at 2:22 a.m.", "02:22:00"),
        ("2024-05-03 12:30 am", "00:30:00"),
        ("2024-05-03 12:30 PM", "12:30:00"),
        ("3 May 2024 02:22PM", "14:22:00"),
    ],
)
def test_a_clock_of_twelve_hours_is_read_with_its_half_of_the_day(text: str, clock: str) -> None:
    assert parse_instant(text).earliest == datetime.fromisoformat(f"2024-05-03T{clock}+00:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Thu, 11 Jan 2024 01:49:40 UTC", "2024-01-11T01:49:40"),
        ("Thu, 11 Jan 2024 01:49:40 -0500 (EST)", "2024-01-11T06:49:40"),
        ("Thu, 11 Jan 2024 01:49:40 EST", "2024-01-11T06:49:40"),
        ("Thu Jan 11 01:49:40 UTC 2024", "2024-01-11T01:49:40"),
        ("Thu Jan 11 2024 01:49:40 GMT+0200 (Eastern European Standard Time)", "2024-01-10T23:49:40"),
    ],
)
def test_dates_of_mails_and_of_programs_are_read(text: str, moment: str) -> None:
    assert parse_instant(text).latest == datetime.fromisoformat(f"{moment}+00:00")


@pytest.mark.parametrize("text", ["2024-05-13", "20240513", "2024-05-13 UTC", "May 13th, 2024", "13.05.2024"])
def test_a_date_alone_lasts_to_the_end_of_its_day(text: str) -> None:
    first = datetime(2024, 5, 13, tzinfo=UTC)
    assert parse_instant(text) == (first, first + timedelta(days=1) - timedelta(microseconds=1))


def test_a_date_with_an_offset_is_the_day_over_there() -> None:
    first = datetime(2024, 5, 13, tzinfo=timezone(timedelta(hours=2)))
    assert parse_instant("2024-05-13+02:00") == (first, first + timedelta(days=1) - timedelta(microseconds=1))


@pytest.mark.parametrize("text", ["05/03/2024", "5.3.2024 10:00", "05-03-2024 2:22 pm"])
def test_a_day_that_may_be_the_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="which number is the day"):
        parse_instant(text)


def test_where_the_program_is_known_the_order_of_its_numbers_is() -> None:
    assert parse_instant("05/03/2024", day_first=True).earliest == datetime(2024, 3, 5, tzinfo=UTC)
    assert parse_instant("05/03/2024", day_first=False).earliest == datetime(2024, 5, 3, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2024-05-01 10:00 IST", "2024-05-01 10:00 CST", "2024-05-01 10:00 XYZ"])
def test_a_zone_that_means_several_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse_instant(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "0", "1714557600", "12:00", "2024-13-01", "2024-02-30", "2024-05-01 25:00", "May 3, 24"),
        *("2024-05-01 13:00 pm", "2024-05-01 0:30 am", "2024-05-01 14:22 nachm.", "2024-05-01x10:00"),
        *("2024-05-01 10:00:00 +9900", "9999-12-31 23:00 -0500", "٢٠٢٤-05-01", "0000-00-00 00:00:00", "9" * 100_000),
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a date that is understood"):
        parse_instant(text)


@given(st.text(max_size=120) | st.from_regex(r"[0-9 :./T+-]{1,40}([ap]m)?( [A-Z]{1,5})?", fullmatch=True))
def test_any_text_gives_an_instant_in_utc_or_a_refusal_without_the_text(text: str) -> None:
    try:
        instant = parse_instant(text)
    except ValueError as error:
        said = str(error)
        assert said.startswith(("not a date", "which number", "the name of the time zone"))
    else:
        assert instant.earliest.tzinfo is instant.latest.tzinfo is UTC
        assert instant.earliest <= instant.latest < instant.earliest + timedelta(days=1)


offsets = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1), timezones=offsets))  # noqa: DTZ001
def test_what_python_writes_of_a_time_comes_back_as_it_was(at: datetime) -> None:
    assert parse_instant(at.isoformat()) == parse_instant(str(at)) == (at, at)


@pytest.mark.parametrize("text", ["1714557600", "1714557600.0", "1714557600000"])
def test_seconds_and_milliseconds_are_told_apart(text: str) -> None:
    assert epoch_instant(text).earliest == datetime(2024, 5, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "-1", "1e9", "9" * 16, "2024-05-01", "١٧١٤٥٥٧٦٠٠"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a date that is understood"):
        epoch_instant(text)


@pytest.mark.parametrize("text", ["2024-05-01 10:00:00", "May 1, 2024 10:00 am", "2024-05-01T10:00"])
def test_a_local_time_without_a_zone_is_all_that_it_can_mean(text: str) -> None:
    found = parse_instant(text, is_local=True)
    assert [at.isoformat() for at in found] == ["2024-04-30T20:00:00+00:00", "2024-05-01T22:00:00+00:00"]


@pytest.mark.parametrize("text", ["0001-01-01 00:00:00", "9999-12-31", "Dec 31, 9999 10:00 pm"])
def test_a_local_time_at_an_end_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a date that is understood"):
        parse_instant(text, is_local=True)
