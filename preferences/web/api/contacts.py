"""Contacts: brought in, looked up.

Owns `/api/v1/contacts`. Invariants: contacts are made a block at a time, so that clicks never wait long; an address
that was erased, or is a child's, is never stored again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from flask import jsonify
from pydantic import Field, StringConstraints
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import Fingerprints, mask
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import BLANKET, MOST_ADDRESSES, Channel, KeyScope, Status, SuppressionReason, Verb
from preferences.people.emails import email_order
from preferences.services import Services
from preferences.store import contact_state, contacts, outbox
from preferences.store.contact_flags import set_flags
from preferences.store.contact_state import Standing
from preferences.store.contacts import Outcome, Upserted
from preferences.store.outbox import Order
from preferences.store.transactions import Write
from preferences.tokens import UnsubscribeLink
from preferences.web.api.bodies import (
    MOST_FIELDS,
    AddressText,
    BadFields,
    Strict,
    read_body,
    read_or_none,
    read_query,
)
from preferences.web.api.operations import blueprint, operation

BLOCK: Final = 500
"""Contacts made in one transaction: it holds the ledger's lock, and clicks wait for it."""

MOST_OF_ONE: Final = 20
"""Addresses of one contact."""


Flag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class AddressOf(Strict):
    """One address of a contact."""

    channel: Channel = Channel.EMAIL
    address: AddressText
    """An email address, a telephone number with its country code (`+12025550147`), or a postal address."""


class ContactOf(Strict):
    """A contact, by all of their addresses."""

    addresses: Annotated[list[AddressOf], Field(min_length=1, max_length=MOST_OF_ONE)]
    flags: Annotated[list[Flag], Field(max_length=MOST_OF_ONE)] | None = None
    """What you mark the contact with, such as `wholesale`: topics can be shown to those with a flag alone. These take
    the place of the flags from before; left out, those stay."""


class ContactsRequest(Strict):
    """Contacts to bring in, or to complete. Nothing is chosen for them."""

    contacts: Annotated[list[ContactOf], Field(max_length=MOST_ADDRESSES)]


class ContactAfter(Strict):
    """What became of a contact; `why` says why one was refused.

    `unsubscribe_url` stops everything of the first brand by email and never expires, so an email platform can keep
    it as a merge field. It is null for a contact without an email address.
    """

    id: UUID | None
    """It stays while the contact is on record. Null for one that was refused."""
    outcome: Outcome
    why: str | None
    unsubscribe_url: str | None


class ContactsAnswer(Strict):
    """What became of each contact, in the order given."""

    contacts: list[ContactAfter]


class KnownAddressOf(Strict):
    """An address, since when it is known, and why it is suppressed, where it is."""

    channel: Channel
    address: str
    added_at: datetime
    confirmed: bool
    """False for an email address that a system has added, until the contact confirms it: it signs nobody in."""
    suppressed: list[SuppressionReason]


class ChoiceOf(Strict):
    """What the contact wishes about a topic, a purpose, or everything (`*`), since when, and by which entry."""

    channel: Channel
    brand: str
    topic: str
    status: Status
    since: datetime
    entry: int


class PaceOf(Strict):
    """A pause until an instant, or a cap per week; both null where it was taken away again."""

    channel: Channel
    brand: str
    topic: str
    verb: Verb
    until: datetime | None
    per_week: int | None
    entry: int


class ContactAnswer(Strict):
    """All that is kept about a contact."""

    id: UUID
    created_at: datetime
    addresses: list[KnownAddressOf]
    flags: list[str]
    """What it is marked with: which topics it is shown."""
    choices: list[ChoiceOf]
    paces: list[PaceOf]


class ContactQuery(Strict):
    """Whose contact to look up."""

    address: AddressText
    channel: Channel = Channel.EMAIL


@blueprint.put("/contacts")
@operation(scope=KeyScope.CONTACTS, body=ContactsRequest, answer=ContactsAnswer)
def put_contacts() -> Response:
    """Bring in contacts, or give them more addresses. Twice is the same as once.

    Refused, each by itself, are contacts whose addresses belong to different contacts here, and addresses that are
    never stored again. An email address that a contact gets beside those it has signs nobody in until the contact has
    confirmed it, and the others are told of it by mail.
    """
    services, asked = current_services(), read_body(ContactsRequest)
    wanted = _all_readable(asked)
    flags = [one.flags for one in asked.contacts]
    done: list[Upserted] = []
    brand = services.catalog.get().first_brand
    for start in range(0, len(wanted), BLOCK):
        place, now = slice(start, start + BLOCK), datetime.now(UTC)
        done += services.database.write(
            _upsert, wanted[place], flags[place], services.fingerprints, brand=brand, now=now
        )
    by_email = services.database.read(
        contacts.reached_by, Channel.EMAIL, [one.contact_id for one in done if one.contact_id]
    )
    return jsonify(
        contacts=[
            {
                "id": one.contact_id,
                "outcome": one.outcome,
                "why": one.why or None,
                "unsubscribe_url": _lasting_link(services, brand, one.contact_id)
                if one.contact_id in by_email
                else None,
            }
            for one in done
        ]
    )


def _upsert(
    write: Write,
    wanted: Sequence[Sequence[Address]],
    flags: Sequence[Sequence[str] | None],
    fingerprints: Fingerprints,
    *,
    brand: Brand,
    now: datetime,
) -> list[Upserted]:
    done = contacts.upsert(write, wanted, fingerprints, now)
    outbox.order_all(write, _warnings(write, done, fingerprints, brand), now)
    marked = {
        one.contact_id: given for one, given in zip(done, flags, strict=True) if one.contact_id and given is not None
    }
    changed = set_flags(write, marked) if marked else set()
    return [
        replace(one, outcome=Outcome.UPDATED) if one.outcome is Outcome.UNCHANGED and one.contact_id in changed else one
        for one in done
    ]


def _warnings(write: Write, done: Sequence[Upserted], fingerprints: Fingerprints, brand: Brand) -> list[Order]:
    """To each contact's own mailboxes, of each address that was added beside them: it may be a thief's."""
    changed = [(one.contact_id, one.added) for one in done if one.contact_id is not None and one.added]
    if not changed:
        return []
    known = contact_state.addresses_of_all(write, [contact_id for contact_id, _ in changed])
    return [
        email_order(
            fingerprints,
            EmailKind.ADDRESS_ADDED,
            to=mailbox,
            brand=brand.slug,
            language=brand.language,
            details={"new": mask(new), "confirmed": False},
        )
        for contact_id, added in changed
        for mailbox in contact_state.own_mailboxes(known.get(contact_id, []))
        for new in added
    ]


def _all_readable(asked: ContactsRequest) -> list[list[Address]]:
    groups = [[(one, read_or_none(one.channel, one.address)) for one in group.addresses] for group in asked.contacts]
    bad = [
        {"field": f"contacts[{index}].addresses[{place}].address", "detail": f"not an address for {one.channel}"}
        for index, group in enumerate(groups)
        for place, (one, address) in enumerate(group)
        if address is None
    ]
    if bad:
        raise BadFields(bad[:MOST_FIELDS])
    return [[address for _, address in group if address is not None] for group in groups]


def _lasting_link(services: Services, brand: Brand, contact_id: UUID) -> str:
    return services.unsubscribe_url(UnsubscribeLink(contact_id, Channel.EMAIL, brand.slug, BLANKET))


@blueprint.get("/contacts")
@operation(scope=KeyScope.CONTACTS, query=ContactQuery, answer=ContactAnswer, statuses=(404,))
def find_contact() -> Response:
    """The contact who has this address. The address travels in the URL: see that no log keeps query strings."""
    services, asked = current_services(), read_query(ContactQuery)
    address = read_or_none(asked.channel, asked.address)
    if address is None:
        raise BadFields([{"field": "address", "detail": f"not an address for {asked.channel}"}])
    found = services.database.read(contacts.find_addresses, [address], services.fingerprints)
    if address not in found:
        raise NotFound
    return _contact(services, found[address].contact_id)


@blueprint.get("/contacts/<uuid:contact_id>")
@operation(scope=KeyScope.CONTACTS, answer=ContactAnswer, statuses=(404,))
def get_contact(contact_id: UUID) -> Response:
    """The contact of this id."""
    return _contact(current_services(), contact_id)


def _contact(services: Services, contact_id: UUID | None) -> Response:
    standing = services.database.read(contact_state.standing_of, contact_id) if contact_id else None
    if standing is None or standing.created_at is None:
        raise NotFound
    return jsonify(
        id=standing.contact_id,
        created_at=standing.created_at.isoformat(),
        flags=sorted(standing.flags),
        addresses=[
            {
                "channel": one.address.channel,
                "address": one.address.value,
                "added_at": one.added_at.isoformat(),
                "confirmed": one.confirmed,
                "suppressed": sorted(one.suppressed),
            }
            for one in standing.addresses
        ],
        choices=list(_choices(standing)),
        paces=list(_paces(standing)),
    )


def _choices(standing: Standing) -> Iterator[dict[str, object]]:
    for (channel, brand, topic), choice in sorted(standing.choices.items()):
        place = {"channel": channel, "brand": brand, "topic": topic}
        yield {**place, "status": choice.status, "since": choice.since.isoformat(), "entry": choice.seq}


def _paces(standing: Standing) -> Iterator[dict[str, object]]:
    for (channel, brand, topic, verb), pace in sorted(standing.paces.items()):
        yield {
            "channel": channel,
            "brand": brand,
            "topic": topic,
            "verb": verb,
            "until": pace.until and pace.until.isoformat(),
            "per_week": pace.per_week,
            "entry": pace.seq,
        }
