"""The columns of an import, and what one row of them means.

Owns our columns and their rules; knows no file. Invariants: a yes without a topic, a date and a source is refused; a
refusal says the line and the column, never the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress, PreferencesError
from preferences.domain.terms import BLANKET, Address, Basis, Channel, MessageClass, SuppressionReason, Verb
from preferences.store.bulk import Told
from preferences.store.queries import Catalog

COLUMNS: Final = ("address", "channel", "topic", "status", "occurred_at", "source", "reason", "evidence", "brand")
ALIASES: Final = {"email": "address", "phone": "address", "date": "occurred_at"}
"""What other programs call the same columns."""

LONGEST_PROOF: Final = 500
"""Characters of each column of evidence that are kept."""

FingerprintOf = Callable[[Address], str]


class BadRow(PreferencesError):
    """A row that cannot be imported. Says the line and the column, never the value."""

    def __init__(self, line: int, column: str, why: str) -> None:
        self.line, self.column, self.why = line, column, why
        super().__init__(f"line {line}, column {column}: {why}" if column else f"line {line}: {why}")


def column_names(header: Sequence[str]) -> list[str]:
    """Our names of the columns. A file without a header begins with somebody's address, so no name is quoted."""
    names = [ALIASES.get(name.strip().lower(), name.strip().lower()) for name in header]
    known = f"the columns are {', '.join(COLUMNS)}"
    for number, name in enumerate(names, start=1):
        if name not in COLUMNS:
            raise BadRow(1, str(number), f"not a column that is known; {known}")
        if name in names[: number - 1]:
            raise BadRow(1, str(number), f"{name} is there twice")
    if "address" not in names:
        raise BadRow(1, "", f"the header has no column address; {known}")
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
    )
}


def read_row(text: Mapping[str, str], line: int, *, catalog: Catalog, fingerprint_of: FingerprintOf) -> Told:
    """What a row tells. `text` has our columns, without space around the values. Raises BadRow."""
    channel = _CHANNELS.get((text.get("channel") or "email").lower())
    if channel is None:
        raise BadRow(line, "channel", f"must be one of {', '.join(_CHANNELS)}")
    try:
        address = read_address(channel, text["address"])
    except BadAddress as error:
        raise BadRow(line, "address", str(error)) from None
    status = text.get("status", "").lower()
    if not status:
        return Told(fingerprint_of(address), channel.value, address.value)
    return _act(address, status, text, line=line, catalog=catalog, fingerprint=fingerprint_of(address))


def _act(
    address: Address, status: str, text: Mapping[str, str], *, line: int, catalog: Catalog, fingerprint: str
) -> Told:
    reason = _SUPPRESSIONS.get(status)
    verb = Verb.SUPPRESS if reason else _WISHES.get(status)
    if verb is None:
        raise BadRow(line, "status", f"must be empty or one of {', '.join([*_WISHES, *_SUPPRESSIONS])}")
    occurred_at = _instant(text.get("occurred_at", ""), line)
    brand, topic = _brand(text, line, catalog), text.get("topic") or BLANKET
    if reason:
        brand = topic = ""
    elif topic != BLANKET:
        brand = _brand_of(topic, text, line, catalog)
    if verb is Verb.SUBSCRIBE:
        _check_yes(topic, occurred_at, text, line)
    return Told(
        fingerprint=fingerprint,
        channel=address.channel.value,
        value=address.value,
        verb=verb.value,
        brand=brand,
        topic=topic,
        reason=reason.value if reason else None,
        basis=Basis.CONSENT.value if verb is Verb.SUBSCRIBE else None,
        occurred_at=occurred_at,
        ref=_ref(address, text),
        evidence=_evidence(text),
    )


def _brand(text: Mapping[str, str], line: int, catalog: Catalog) -> str:
    """Whose mail a no to everything (*) is about: the first brand's, where nothing else is said."""
    brand = text.get("brand")
    if not brand:
        return catalog.first_brand.slug
    if brand not in catalog.brands:
        raise BadRow(line, "brand", "there is no such brand; `flask brand set` makes one")
    return brand


def _brand_of(topic: str, text: Mapping[str, str], line: int, catalog: Catalog) -> str:
    known = catalog.topics.get(topic)
    if known is None:
        raise BadRow(line, "topic", "there is no such topic; `flask topic add` makes one")
    if known.message_class is not MessageClass.MARKETING:
        raise BadRow(line, "topic", "nobody subscribes to a topic that is not marketing")
    if text.get("brand") not in {None, "", known.brand}:
        raise BadRow(line, "brand", "the topic is another brand's; leave it empty")
    return known.brand


def _check_yes(topic: str, occurred_at: str | None, text: Mapping[str, str], line: int) -> None:
    """A yes counts only with evidence: for one topic, with the day it was said and where it was said."""
    if topic == BLANKET:
        raise BadRow(line, "topic", "a subscription needs a topic; only an opt-out can be for all (*)")
    if occurred_at is None:
        raise BadRow(line, "occurred_at", "a subscription counts only with its date")
    if not text.get("source"):
        raise BadRow(line, "source", "a subscription counts only with where it was given")


def _instant(text: str, line: int) -> str | None:
    """The time in UTC, in the one form in which an entry's hash covers it. Without a zone it is UTC."""
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadRow(line, "occurred_at", "write it like 2026-05-31T14:00:00+00:00") from None
    return instant.isoformat(timespec="microseconds")


_EVIDENCE: Final = json.JSONEncoder(sort_keys=True)


def _evidence(text: Mapping[str, str]) -> str | None:
    found = {name: text[name][:LONGEST_PROOF] for name in ("source", "reason", "evidence") if text.get(name)}
    return _EVIDENCE.encode(found) if found else None


def _ref(address: Address, text: Mapping[str, str]) -> str:
    """The same line, in whichever file it comes again, is the same act."""
    parts = [address.channel, address.value, *(text.get(name, "") for name in COLUMNS[2:7])]
    parts += [text["brand"]] if text.get("brand") else []  # so that lines from before there was one stay the same
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
