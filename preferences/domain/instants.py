"""Parses dates and times as other programs write them.

Invariant: an ambiguous text is refused, and a date alone is the whole day. An opt-out, suppression or pause counts from
`latest` (clamped to receipt), an opt-in from `earliest`. Every file, command and request is parsed here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final, NamedTuple, NoReturn


class Instant(NamedTuple):
    """A span in UTC; both ends are equal if the text names a moment."""

    earliest: datetime
    latest: datetime


NO_DATE: Final = "0000-00-00"
"""MySQL's missing date."""

MILLISECONDS: Final = 1e11
"""Numbers from here on are milliseconds since 1970 (as seconds: the year 5138)."""

LONGEST: Final = 100
"""Characters in the longest text that is parsed."""

_LAST: Final = timedelta(days=1) - timedelta(microseconds=1)

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY: Final = (
    r"(?:(?:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs?(?:day)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
    r"\.?,? )?"
)
_YEAR: Final = r"(?P<year>[0-9]{4})"
_DAY: Final = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_CLOCK: Final = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?P<half>[ap])\.?m\b\.?)?"
)
_OFFSET: Final = r"(?:utc|gmt)?(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?"
# Go, JavaScript and RFC 5322 (in a comment) repeat the zone's name after the offset.
_ZONE: Final = (
    rf"(?: ?(?:{_OFFSET}(?: (?:[a-z]{{2,5}}|[+-][0-9]{{2,4}}|\([^()]*\)))?|(?P<zone>[a-z]{{1,5}})(?: \([^()]*\))?))"
)
_GO_MONOTONIC: Final = r"(?: m=[+-][0-9]+\.[0-9]+)?"

_AFTER: Final = rf"(?:(?:t|,? (?:at )?){_CLOCK})?{_ZONE}?{_GO_MONOTONIC}"
_FORMS: Final = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_YEAR}(?P<separator>[-/.])(?P<month>[0-9]{{1,2}})(?P=separator){_DAY}{_AFTER}",
        rf"{_YEAR}(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})(?:t(?P<basic>[0-9]{{4}}(?:[0-9]{{2}})?){_ZONE}?)?",
        rf"(?P<first>[0-9]{{1,2}})(?P<separator>[-/.])(?P<second_number>[0-9]{{1,2}})(?P=separator){_YEAR}{_AFTER}",
        rf"{_WEEKDAY}{_DAY}[- ]{_MONTH}[-,]? ?{_YEAR}{_AFTER}",
        rf"{_WEEKDAY}{_MONTH} {_DAY},? {_YEAR}{_AFTER}",
        rf"{_WEEKDAY}{_MONTH} {_DAY} {_CLOCK}{_ZONE}? {_YEAR}",
    )
)
_PLAIN: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII
).fullmatch
"""The usual form, which Python parses many times as fast."""

_NUMBER: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,9})?", re.ASCII).fullmatch

_UTC_NAMES: Final = ("z", "utc", "gmt", "ut")
_AMERICAN: Final = {"edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8}
"""Hours from UTC of the zones in RFC 5322 §4.3; outside that format the names are ambiguous."""


_ZONES: Final = (timedelta(hours=-14), timedelta(hours=12))
"""How far from UTC a local time can be: from UTC+14 to UTC-12."""


def parse_instant(text: str, *, day_first: bool | None = None, is_local: bool = False) -> Instant:
    """Parses ISO 8601, RFC 5322, Go's `Time.String()` or English text. Raises ValueError, which never contains the
    text.

    Without a zone the text is in UTC; with `is_local`, for programs that write local times, it is the span over all
    zones. `day_first` is for programs with a known order of 05/03/2024.
    """
    if _PLAIN(text):
        with suppress(ValueError, OverflowError):
            at = datetime.fromisoformat(text)
            return _anywhere(_moment(at)) if is_local and at.tzinfo is None else _moment(at)
    words = " ".join(text.split()) if len(text) <= LONGEST else ""
    found = next((match for form in _FORMS if (match := form.fullmatch(words))), None)
    if found is None:
        _refuse()
    part = found.groupdict()
    numbers, offset = _numbers(part, day_first), _offset(part)
    try:
        span = _span(part, numbers, timezone(offset))
        return _anywhere(span) if is_local and not (part.get("zone") or part.get("sign")) else span
    except (ValueError, OverflowError):
        _refuse()


def epoch_instant(text: str) -> Instant:
    """Seconds or milliseconds since 1970. Raises ValueError."""
    if not _NUMBER(text):
        _refuse()
    number = float(text)
    try:
        return _moment(datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS else number, UTC))
    except (ValueError, OverflowError, OSError):
        _refuse()


def _numbers(part: dict[str, str | None], day_first: bool | None) -> tuple[int, int, int]:
    year = int(part["year"] or 0)
    if part.get("name"):
        return year, _MONTHS.index((part["name"] or "")[:3].lower()) + 1, int(part["day"] or 0)
    if not part.get("first"):
        return year, int(part["month"] or 0), int(part["day"] or 0)
    first, second = int(part["first"] or 0), int(part["second_number"] or 0)
    if first == second:
        return year, first, second
    if day_first is None:
        if first <= len(_MONTHS) >= second:
            raise ValueError("which number is the day and which the month? Write the date like 2026-05-31")
        day_first = first > second
    return (year, second, first) if day_first else (year, first, second)


def _clock(part: dict[str, str | None]) -> time:
    if basic := part.get("basic"):
        return time(int(basic[:2]), int(basic[2:4]), int(basic[4:] or 0))
    hour, half = int(part["hour"] or 0), (part.get("half") or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("no hour of such a clock")
        hour = hour % 12 + (12 if half == "p" else 0)
    fraction = int((part.get("fraction") or "").ljust(6, "0")[:6])
    return time(hour, int(part["minute"] or 0), int(part.get("second") or 0), fraction)


def _offset(part: dict[str, str | None]) -> timedelta:
    if name := (part.get("zone") or "").lower():
        hours = 0 if name in _UTC_NAMES else _AMERICAN.get(name) if part.get("name") else None
        if hours is None:
            raise ValueError("the name of the time zone means several or none; write an offset, such as +02:00")
        return timedelta(hours=hours)
    offset = timedelta(hours=int(part.get("hours") or 0), minutes=int(part.get("minutes") or 0))
    return -offset if part.get("sign") == "-" else offset


def _span(part: dict[str, str | None], numbers: tuple[int, int, int], zone: timezone) -> Instant:
    if part.get("hour") or part.get("basic"):
        return _moment(datetime.combine(date(*numbers), _clock(part), zone))
    first = datetime(*numbers, tzinfo=zone)
    return Instant(first.astimezone(UTC), (first + _LAST).astimezone(UTC))


def _anywhere(found: Instant) -> Instant:
    """Raises OverflowError at the calendar's ends."""
    first, last = _ZONES
    return Instant(found.earliest + first, found.latest + last)


def _moment(at: datetime) -> Instant:
    """Raises OverflowError at the calendar's ends."""
    moment = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return Instant(moment, moment)


def _refuse() -> NoReturn:
    raise ValueError("not a date that is understood; write it like 2026-05-31T14:00:00+00:00") from None
