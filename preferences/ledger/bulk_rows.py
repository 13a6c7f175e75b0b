"""The rows of people whom nobody knows yet, written for the database before the ledger's lock is taken.

Owns what a new person's rows hold: all but the numbers and the hashes of the entries, which are known only under the
lock (`bulk`). Invariant: with these, they are the rows that `ledger.record` would have written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple

from preferences.domain import consent
from preferences.domain.vocabulary import Actor, Origin
from preferences.ledger.record import STATUS_OF
from preferences.ledger.seal import evidence_digest, new_salt
from preferences.store.bulk_copy import Fields, Form

CONTACT: Final = ("id", "created_at")
ADDRESS: Final = ("id", "contact_id", "created_at", "fingerprint", "channel", "value")
ENTRY: Final = (
    *("seq", "recorded_at", "occurred_at", "contact_id", "fingerprint", "origin_ref", "evidence_digest"),
    *(
        "verb",
        "channel",
        "brand",
        "topic",
        "status",
        "reason",
        "basis",
        "origin",
        "actor",
        "trusted",
        "changed",
        "hash",
    ),
)
EVIDENCE: Final = ("seq", "details", "salt")
PREFERENCE: Final = ("seq", "at", "since", "contact_id", "channel", "brand", "topic", "status", "trusted", "basis")
SUPPRESSION: Final = ("seq", "at", "since", "fingerprint", "channel", "reason", "active")
FLAG: Final = ("contact_id", "flag")


class Told(NamedTuple):
    """What one row of a file tells, as text, so that it travels between processes. Without a verb: an address alone.

    `occurred_at` is UTC with six decimals, as an entry's hash covers it. `ref` is the same for the same line. `flags`
    has spaces between.
    """

    fingerprint: str
    channel: str
    value: str
    verb: str | None = None
    brand: str = ""
    topic: str = ""
    reason: str | None = None
    basis: str | None = None
    occurred_at: str | None = None
    ref: str | None = None
    evidence: str | None = None
    flags: str | None = None


ActRows = tuple[str, str, Fields, Fields | None, bool, Fields]
"""Of an act: what its hash covers before and after the number; the entry between number and hash; its evidence;
whether it suppresses; and the suppression, or the preference, behind the number."""

PersonRows = tuple[Fields, Fields, list[ActRows], list[Fields]]
"""A contact, its address, its acts, and its flags."""


def stored_ref(fingerprint: str, ref: str) -> str:
    """The `origin_ref` of a line. It begins as the fingerprint does, so that a file in the order of fingerprints is in
    the order of both indexes, and touches few of their pages."""
    return fingerprint[:8] + ref


def is_known_time(occurred_at: str | None) -> bool:
    """Whether a time is told at which it can have happened: `consent.known_time`, of text."""
    return occurred_at is not None and occurred_at >= _EARLIEST


_EARLIEST: Final = consent.EARLIEST.isoformat(timespec="microseconds")


class _Words(NamedTuple):
    """What the acts of one kind have in common: of the text that a hash covers (`rows.canonical`) what stands before
    the contact's id, after origin_ref and after the number; the ends of an entry and of its preference."""

    before: str
    between: str
    after: str
    entry: Fields
    state: Fields


class Rendering:
    """Writes the rows of new people in the form that the database takes. `now` is the time of receipt."""

    def __init__(self, form: Form, now: datetime) -> None:
        self._form = form
        self._now = now.astimezone(UTC).isoformat(timespec="microseconds")
        self._received = form.instant(self._now)
        self._contact, self._address = form.start(len(CONTACT)), form.start(len(ADDRESS))
        self._flag = form.start(len(FLAG))
        self._channel, self._words = cache(form.text), cache(self._words_of)

    def person(self, told: Sequence[Told], contact_id: str, address_id: str) -> PersonRows:
        """The rows of one person, who is told of in at least one row."""
        form, first, received = self._form, told[0], self._received
        own_id, fingerprint = form.uuid(contact_id), form.text(first.fingerprint)
        start = self._address + form.uuid(address_id) + own_id + received
        flags = {flag for row in told if row.flags for flag in row.flags.split()}
        return (
            self._contact + own_id + received,
            start + fingerprint + self._channel(first.channel) + form.text(first.value),
            [self._act(row, contact_id, own_id, fingerprint) for row in told if row.verb is not None],
            [self._flag + own_id + form.text(flag) for flag in flags],
        )

    def _act(self, row: Told, contact_id: str, own_id: Fields, fingerprint: Fields) -> ActRows:
        form, received = self._form, self._received
        words = self._words(row.verb, row.channel, row.brand, row.topic, row.reason, row.basis)
        ref = stored_ref(row.fingerprint, row.ref or "")
        when, at, happened = "", received, form.null
        if row.occurred_at and is_known_time(row.occurred_at):
            occurred_at = min(row.occurred_at, self._now)
            when, at = f'"occurred_at":"{occurred_at}",', form.instant(occurred_at)
            happened = at
        digest, proof, sealed = None, None, ""
        if row.evidence:
            salt = new_salt()
            digest, proof = evidence_digest(salt, row.evidence), form.text(row.evidence) + form.text(salt)
            sealed = f'"evidence_digest":"{digest}",'
        covered = (
            f'{words.before}{contact_id}",{sealed}"fingerprint":"{row.fingerprint}",{when}"origin":"{_ORIGIN}",'
            f'"origin_ref":"{ref}",{words.between}"recorded_at":"{self._now}","seq":'
        )
        entry = received + happened + own_id + fingerprint + form.text(ref) + form.word(digest) + words.entry
        suppresses = row.reason is not None
        state = at + at + (fingerprint if suppresses else own_id) + words.state
        return covered, words.after, entry, proof, suppresses, state

    def _words_of(
        self, verb: str, channel: str, brand: str, topic: str, reason: str | None, basis: str | None
    ) -> _Words:
        form, quoted = self._form, json.JSONEncoder(ensure_ascii=False).encode
        text, word = form.text, form.word
        status = _STATUS.get(verb)
        before = f'{{"actor":"{_ACTOR}",' + (f'"basis":"{basis}",' if basis else "")
        before += f'"brand":{quoted(brand)},"changed":true,"channel":"{channel}","contact_id":"'
        after = f',"status":"{status}"' if status else ""
        after += f',"topic":{quoted(topic)},"trusted":false,"verb":"{verb}"}}'
        about = text(channel) + text(brand) + text(topic)
        entry = text(verb) + about + word(status) + word(reason) + word(basis)
        entry += text(_ORIGIN) + text(_ACTOR) + form.false + form.true
        state = about + word(status) + form.false + word(basis)
        if reason is not None:
            state = text(channel) + text(reason) + form.true
        return _Words(before, f'"reason":"{reason}",' if reason else "", after, entry, state)


_ORIGIN: Final = Origin.IMPORT.value
_ACTOR: Final = Actor.STAFF.value
_STATUS: Final = {verb.value: status.value for verb, status in STATUS_OF.items()}
