"""`/api/v1/contacts`: save and look up contacts.

Invariant: an erased or a child's address is never stored again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from flask import jsonify
from pydantic import Field, StringConstraints
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadFields
from preferences.domain.vocabulary import MOST_ADDRESSES, Channel, KeyScope, Status, SuppressionReason, Verb
from preferences.people import contacts
from preferences.people.contacts import NewContact, SavedContact
from preferences.store.contact_state import ContactState
from preferences.store.contacts import UpsertOutcome
from preferences.web.api.bodies import AddressText, Strict, read_body, read_or_none, read_query
from preferences.web.api.operations import blueprint, operation

MOST_OF_ONE: Final = 20
"""Per contact."""


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
    outcome: UpsertOutcome
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
    wanted = _new_contacts(read_body(ContactsRequest))
    saved = contacts.save_contacts(current_services(), wanted)
    return jsonify(contacts=list(map(_saved, saved)))


@blueprint.get("/contacts")
@operation(scope=KeyScope.CONTACTS, query=ContactQuery, answer=ContactAnswer, statuses=(404,))
def find_contact() -> Response:
    """The contact who has this address. The address travels in the URL: see that no log keeps query strings."""
    query = read_query(ContactQuery)
    address = read_or_none(query.channel, query.address)
    if address is None:
        raise BadFields([("address", f"not an address for {query.channel}")])
    return _contact(contacts.find_contact(current_services(), address))


@blueprint.get("/contacts/<uuid:contact_id>")
@operation(scope=KeyScope.CONTACTS, answer=ContactAnswer, statuses=(404,))
def get_contact(contact_id: UUID) -> Response:
    """The contact of this id."""
    return _contact(contacts.find_by_id(current_services(), contact_id))


def _new_contacts(body: ContactsRequest) -> list[NewContact]:
    faults, wanted = [], []
    for index, group in enumerate(body.contacts):
        read = [read_or_none(given.channel, given.address) for given in group.addresses]
        faults += [
            (f"contacts[{index}].addresses[{place}].address", f"not an address for {group.addresses[place].channel}")
            for place, address in enumerate(read)
            if address is None
        ]
        wanted.append(NewContact([address for address in read if address is not None], group.flags))
    if faults:
        raise BadFields(faults)
    return wanted


def _saved(saved: SavedContact) -> dict[str, Any]:
    return {
        "id": saved.result.contact_id,
        "outcome": saved.result.outcome,
        "why": saved.result.why or None,
        "unsubscribe_url": saved.unsubscribe_url,
    }


def _contact(contact: ContactState | None) -> Response:
    if contact is None or contact.created_at is None:
        raise NotFound
    return jsonify(
        id=contact.contact_id,
        created_at=contact.created_at.isoformat(),
        flags=sorted(contact.flags),
        addresses=[
            {
                "channel": known.address.channel,
                "address": known.address.value,
                "added_at": known.added_at.isoformat(),
                "confirmed": known.confirmed,
                "suppressed": sorted(known.suppressed),
            }
            for known in contact.addresses
        ],
        choices=list(_preferences(contact)),
        paces=list(_paces(contact)),
    )


def _preferences(contact: ContactState) -> Iterator[dict[str, object]]:
    for (channel, brand, topic), choice in sorted(contact.preferences.items()):
        place = {"channel": channel, "brand": brand, "topic": topic}
        yield {**place, "status": choice.status, "since": choice.since.isoformat(), "entry": choice.seq}


def _paces(contact: ContactState) -> Iterator[dict[str, object]]:
    for (channel, brand, topic, verb), pace in sorted(contact.limits.items()):
        yield {
            "channel": channel,
            "brand": brand,
            "topic": topic,
            "verb": verb,
            "until": pace.until and pace.until.isoformat(),
            "per_week": pace.per_week,
            "entry": pace.seq,
        }
