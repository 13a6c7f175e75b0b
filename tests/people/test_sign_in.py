"""Signing in: what each way returns, and the error that says what to do next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from preferences.domain.errors import NotAllowed, StaleLink
from preferences.domain.outbox import EmailKind, QueuedEmail
from preferences.people import sign_in
from preferences.people.sign_in import CodeExpired, SignedIn, Subject, SubjectKind, UnknownContact, WrongCode
from preferences.services import Services
from preferences.store import contact_state, outbox, sign_ins
from preferences.tokens import HandOff, Ticket
from tests.support import BRAND, add_contact, email

JANE, STRANGER = email(), email("stranger@example.com")


@pytest.fixture
def jane(services: Services) -> UUID:
    return add_contact(services, JANE)


def queued(services: Services) -> list[QueuedEmail]:
    return services.database.save(outbox.claim, datetime.now(UTC) + timedelta(minutes=1), 10)


def request_code(services: Services) -> UUID:
    return sign_in.request_code(services, JANE, brand=BRAND.slug, language="de")


def begin(services: Services) -> tuple[UUID, str]:
    """A sign-in of Jane and its code."""
    sign_in_id = request_code(services)
    return sign_in_id, sign_in.issue_code(services, sign_in_id, services.fingerprints.of(JANE))


def revoke(services: Services, contact_id: UUID) -> None:
    contact = services.database.read(contact_state.state_of, contact_id)
    sign_in.revoke_access(services, contact, brand=BRAND.slug, language="en")


def signed_in(contact_id: UUID, way: str, *, may_opt_in: bool = True) -> SignedIn:
    return SignedIn(Subject(SubjectKind.CONTACT, contact_id), way, may_opt_in)


def link_to(sign_in_id: UUID) -> Ticket:
    return Ticket(sign_in_id, datetime.now(UTC))


def hand_off_token(services: Services, hand_off: HandOff) -> str:
    ticket = Ticket(hand_off.id, hand_off.issued_at)
    return services.links.sign_hand_off(ticket, may_opt_in=hand_off.may_opt_in)


def test_a_request_orders_one_email_and_looks_nothing_up(services: Services) -> None:
    sign_in_id = sign_in.request_code(services, STRANGER, brand=BRAND.slug, language="de")
    (order,) = queued(services)
    assert (order.kind, order.address, order.language) == (EmailKind.SIGN_IN, STRANGER.value, "de")
    assert order.details == {"sign_in": str(sign_in_id)}


def test_the_right_code_signs_in_once(services: Services, jane: UUID) -> None:
    sign_in_id, code = begin(services)
    assert sign_in.sign_in_with_code(services, sign_in_id, code) == signed_in(jane, "code")
    with pytest.raises(CodeExpired):
        sign_in.sign_in_with_code(services, sign_in_id, code)


def test_a_wrong_code_counts_the_tries_that_are_left(services: Services, jane: UUID) -> None:
    sign_in_id, code = begin(services)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    for left in (2, 1):
        with pytest.raises(WrongCode) as error:
            sign_in.sign_in_with_code(services, sign_in_id, wrong)
        assert error.value.left == left
    with pytest.raises(CodeExpired):
        sign_in.sign_in_with_code(services, sign_in_id, wrong)


def test_a_new_code_replaces_the_one_before(services: Services, jane: UUID) -> None:
    sign_in_id, first = begin(services)
    second = sign_in.issue_code(services, sign_in_id, services.fingerprints.of(JANE))
    if first != second:
        with pytest.raises(WrongCode):
            sign_in.sign_in_with_code(services, sign_in_id, first)
    assert sign_in.sign_in_with_code(services, sign_in_id, second) == signed_in(jane, "code")


def test_a_proven_address_of_nobody_signs_nobody_in(services: Services) -> None:
    sign_in_id, code = begin(services)
    with pytest.raises(UnknownContact):
        sign_in.sign_in_with_code(services, sign_in_id, code)
    with pytest.raises(UnknownContact):
        sign_in.sign_in_with_identity(services, STRANGER, "shop")


def test_a_link_signs_in_once(services: Services, jane: UUID) -> None:
    link = link_to(request_code(services))
    assert sign_in.sign_in_with_link(services, link) == signed_in(jane, "link")
    with pytest.raises(NotAllowed):
        sign_in.sign_in_with_link(services, link)


@pytest.mark.parametrize("may_opt_in", [True, False])
def test_a_hand_off_signs_in_once(services: Services, jane: UUID, may_opt_in: bool) -> None:
    hand_off = HandOff(jane, datetime.now(UTC), may_opt_in)
    token = hand_off_token(services, hand_off)
    found = sign_in.sign_in_with_hand_off(services, hand_off, token)
    assert found == signed_in(jane, "hand_off", may_opt_in=may_opt_in)
    with pytest.raises(NotAllowed):
        sign_in.sign_in_with_hand_off(services, hand_off, token)


def test_a_verified_identity_signs_in(services: Services, jane: UUID) -> None:
    assert sign_in.sign_in_with_identity(services, JANE, "shop") == signed_in(jane, "shop")


def test_revoking_voids_codes_links_and_hand_offs(services: Services, jane: UUID) -> None:
    (by_code, code), by_link = begin(services), request_code(services)
    hand_off = HandOff(jane, datetime.now(UTC), may_opt_in=True)
    revoke(services, jane)
    with pytest.raises(CodeExpired):
        sign_in.sign_in_with_code(services, by_code, code)
    with pytest.raises(CodeExpired):
        sign_in.sign_in_with_link(services, link_to(by_link))
    with pytest.raises(StaleLink):
        sign_in.sign_in_with_hand_off(services, hand_off, hand_off_token(services, hand_off))


def test_revoking_emails_a_fresh_link_dated_after_it(services: Services, jane: UUID) -> None:
    revoke(services, jane)
    revoked_at = services.database.read(sign_ins.revoked_at, jane)
    assert revoked_at is not None
    assert services.database.save(outbox.claim, revoked_at + timedelta(seconds=1), 10) == []
    (order,) = queued(services)
    assert (order.kind, order.address) == (EmailKind.MANAGE_LINK, JANE.value)
