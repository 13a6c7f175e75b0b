"""The columns of an import and the meaning of a row.

Invariants: an opt-in without a topic, date and source is refused; an error names the line and column, never the value.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress, BadFields, PreferencesError
from preferences.domain.instants import NO_DATE, parse_instant
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Basis, Channel, SuppressionReason, Verb
from preferences.files.tables import ADDRESS_NAMES, plain_name, told_columns
from preferences.ledger.bulk import FileRow
from preferences.sending.scope import check_choosable, get_brand, get_topic
from preferences.store.catalog import Catalog

COLUMNS: Final = (
    "address",
    "channel",
    "topic",
    "status",
    "occurred_at",
    "source",
    "reason",
    "evidence",
    "brand",
    "flags",
)
ALIASES: Final = {"email": "address", "phone": "address", "date": "occurred_at"}
"""Common names of the same columns."""

_FLAG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_ADDRESS_NAMES: Final = ADDRESS_NAMES[Channel.EMAIL]

LONGEST_PROOF: Final = 500
"""Characters kept of each evidence column."""

FingerprintOf = Callable[[Address], str]


class BadRow(PreferencesError):
    """Names the line and column, never the value."""

    def __init__(self, line: int, column: str, why: str) -> None:
        self.line, self.column, self.why = line, column, why
        super().__init__(f"line {line}, column {column}: {why}" if column else f"line {line}: {why}")


def column_names(header: Sequence[str]) -> list[str]:
    lowered = [" ".join(name.split()).lower() for name in header]
    names = [ALIASES.get(name, name) for name in lowered]
    if "address" not in names:
        place = next((place for place, name in enumerate(lowered) if plain_name(name) in _ADDRESS_NAMES), None)
        names = ["address" if number == place else name for number, name in enumerate(names)]
    known = f"the columns are {', '.join(COLUMNS)}; {told_columns(header)}"
    if "address" not in names:
        raise BadRow(1, "", f"the header has no column address; {known}; name yours with --column")
    for number, name in enumerate(names, start=1):
        if name not in COLUMNS:
            raise BadRow(1, str(number), f"not a column that is known; {known}")
        if name in names[: number - 1]:
            raise BadRow(1, str(number), f"{name} is there twice")
    return names


_CHANNELS: Final = {channel.value: channel for channel in Channel}
_WISHES: Final = {"subscribed": Verb.SUBSCRIBE, "unsubscribed": Verb.UNSUBSCRIBE}
_SUPPRESSIONS: Final = {
    reason.value: reason
    for reason in (
        SuppressionReason.HARD_BOUNCE,
        SuppressionReason.COMPLAINT,
        SuppressionReason.INVALID,
        SuppressionReason.LEGAL,
        SuppressionReason.SOFT_BOUNCES,
    )
}

REMEMBERED: Final = 1_000
"""Cached meanings of the columns other than address and date."""


class Reader:
    """Reads rows, caching the meaning of repeated values."""

    def __init__(self, catalog: Catalog, fingerprint_of: FingerprintOf) -> None:
        self._catalog = catalog
        self._fingerprint_of = fingerprint_of
        self._meaning = lru_cache(REMEMBERED)(self._meaning_of)

    def read(self, text: Mapping[str, str], line: int) -> FileRow:
        """Parse a row of our columns, values stripped. Raises BadRow."""
        try:
            return self._read(text)
        except BadAddress as error:
            raise BadRow(line, "address", str(error)) from None
        except _Unfit as unfit:
            raise BadRow(line, unfit.column, unfit.why) from None

    def _read(self, text: Mapping[str, str]) -> FileRow:
        channel = _CHANNELS.get((text.get("channel") or "email").lower())
        if channel is None:
            raise _Unfit("channel", f"must be one of {', '.join(_CHANNELS)}")
        address = read_address(channel, text["address"])
        fingerprint, value = self._fingerprint_of(address), address.value
        words = [text.get(name, "") for name in _WORDS]
        flags = _flags(text.get("flags", ""))
        if not words[0]:
            return FileRow(fingerprint, channel.value, value, flags=flags)
        date = text.get("occurred_at", "")
        date = "" if date.startswith(NO_DATE) else date
        verb, brand, topic, reason, basis, proof = self._meaning(bool(date), *words)
        occurred_at, date = _instant(date, is_yes=verb == Verb.SUBSCRIBE) if date else (None, date)
        ref = _ref(channel.value, value, date, *words[:-1])
        return FileRow(
            fingerprint, channel.value, value, verb, brand, topic, reason, basis, occurred_at, ref, proof, flags
        )

    def _meaning_of(self, dated: bool, status: str, topic: str, brand: str, *proof: str) -> _Meaning:
        status = status.lower()
        evidence = _evidence(proof)
        if held := _SUPPRESSIONS.get(status):
            self._brand(brand)
            return Verb.SUPPRESS.value, "", "", held.value, None, evidence
        verb = _WISHES.get(status)
        if verb is None:
            raise _Unfit("status", f"must be empty or one of {', '.join([*_WISHES, *_SUPPRESSIONS])}")
        whose = self._brand(brand) if topic in {"", BLANKET} else self._brand_of(topic, brand)
        topic = topic or BLANKET
        if verb is Verb.UNSUBSCRIBE:
            return verb.value, whose, topic, None, None, evidence
        _check_yes(topic, dated=dated, source=proof[0])
        return verb.value, whose, topic, None, Basis.CONSENT.value, evidence

    def _brand(self, brand: str) -> str:
        with _told_by_column():
            return get_brand(self._catalog, brand or None).slug

    def _brand_of(self, topic: str, brand: str) -> str:
        with _told_by_column():
            known = get_topic(self._catalog, topic, channel=None, brand=brand or None)
            check_choosable(known)
        return known.brand


@contextmanager
def _told_by_column() -> Iterator[None]:
    try:
        yield
    except BadFields as error:
        raise _Unfit(*error.faults[0]) from None


class _Unfit(Exception):
    """The column and what is wrong with it."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column, self.why = column, why


_WORDS: Final = ("status", "topic", "brand", "source", "reason", "evidence")

_Meaning = tuple[str, str, str, str | None, str | None, str | None]
"""Verb, brand, topic, reason, basis, evidence."""


def _check_yes(topic: str, *, dated: bool, source: str) -> None:
    if topic == BLANKET:
        raise _Unfit("topic", "a subscription needs a topic; only an opt-out can be for all (*)")
    if not dated:
        raise _Unfit("occurred_at", "a subscription counts only with its date")
    if not source:
        raise _Unfit("source", "a subscription counts only with where it was given")


def _instant(text: str, *, is_yes: bool) -> tuple[str, str]:
    """The time in UTC, as an entry's hash covers it, and the part of it in the row's id.

    Without a zone it is UTC. A date alone is the start of the day for an opt-in, the end for an opt-out. (Formerly
    always the start: ids differ, so a repeated import corrects such an opt-out.)
    """
    try:
        found = parse_instant(text)
    except ValueError as error:
        raise _Unfit("occurred_at", str(error)) from None
    at = (found.earliest if is_yes else found.latest).isoformat(timespec="microseconds")
    return at, text if is_yes or found.earliest == found.latest else at


def _flags(text: str) -> str | None:
    """Separated by spaces or commas."""
    flags = sorted({*text.replace(",", " ").split()})
    if not all(_FLAG.fullmatch(flag) for flag in flags):
        raise _Unfit("flags", "use small letters, digits and hyphens, with spaces between several: wholesale press")
    return " ".join(flags) or None


def _evidence(proof: Sequence[str]) -> str | None:
    found = {name: text[:LONGEST_PROOF] for name, text in zip(_WORDS[-3:], proof, strict=True) if text}
    return json.dumps(found, sort_keys=True) if found else None


def _ref(*words: str) -> str:
    """Equal lines are the same act in any file. Half a SHA-256 suffices."""
    return hashlib.sha256("\x1f".join(words).encode()).hexdigest()[:32]
