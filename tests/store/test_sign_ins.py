"""Codes, links and tokens that work once: three tries, ten minutes, and no more for whoever tries in parallel."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import SIGN_IN_LIFE
from preferences.services import Services
from preferences.store import contact_state, sign_ins
from preferences.store.sign_ins import KEPT, MAX_TRIES, CodeOutcome, Try, Used
from preferences.store.tables import sign_in, used_token
from tests.support import add_contact

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CODE, WRONG = "123456", "654321"
JANE = "fingerprint of Jane"


def begin(services: Services, *, with_code: bool = True) -> UUID:
    """A sign-in from noon whose email was sent."""
    sign_in_id = services.database.save(sign_ins.begin, JANE, NOON)
    if with_code:
        services.database.save(sign_ins.set_code, sign_in_id, services.links.code_digest(sign_in_id, CODE), JANE)
    return sign_in_id


def attempt(services: Services, sign_in_id: UUID, code: str, now: datetime = NOON) -> Try:
    return services.database.save(sign_ins.try_code, sign_in_id, services.links.code_digest(sign_in_id, code), now)


def test_the_right_code_names_its_address_and_works_once(services: Services) -> None:
    sign_in_id = begin(services)
    assert attempt(services, sign_in_id, CODE) == Try(CodeOutcome.RIGHT, used=Used(JANE, NOON))
    assert attempt(services, sign_in_id, CODE) == Try(CodeOutcome.OVER)


def test_there_are_three_tries_and_the_third_may_still_be_right(services: Services) -> None:
    sign_in_id = begin(services)
    assert [attempt(services, sign_in_id, WRONG) for _ in range(2)] == [
        Try(CodeOutcome.WRONG, left=2),
        Try(CodeOutcome.WRONG, left=1),
    ]
    assert attempt(services, sign_in_id, CODE).outcome is CodeOutcome.RIGHT


def test_after_three_wrong_tries_the_right_code_helps_no_more(services: Services) -> None:
    sign_in_id = begin(services)
    assert [attempt(services, sign_in_id, WRONG).outcome for _ in range(3)] == [
        CodeOutcome.WRONG,
        CodeOutcome.WRONG,
        CodeOutcome.OVER,
    ]
    assert attempt(services, sign_in_id, CODE) == Try(CodeOutcome.OVER)


def test_parallel_tries_gain_no_try(services: Services) -> None:
    sign_in_id, everybody = begin(services), Barrier(12)

    def work(_number: int) -> CodeOutcome:
        everybody.wait(60)
        return attempt(services, sign_in_id, WRONG).outcome

    with ThreadPoolExecutor(12) as pool:
        outcomes = Counter(pool.map(work, range(12)))
    assert outcomes == {CodeOutcome.WRONG: MAX_TRIES - 1, CodeOutcome.OVER: 12 - (MAX_TRIES - 1)}
    tries = services.database.read(lambda read: read.execute(select(sign_in.c.tries)).scalar_one())
    assert tries == MAX_TRIES
    assert attempt(services, sign_in_id, CODE).outcome is CodeOutcome.OVER


def test_the_right_code_in_parallel_signs_in_once(services: Services) -> None:
    sign_in_id, everybody = begin(services), Barrier(3)

    def work(_number: int) -> CodeOutcome:
        everybody.wait(60)
        return attempt(services, sign_in_id, CODE).outcome

    with ThreadPoolExecutor(3) as pool:
        assert Counter(pool.map(work, range(3))) == {CodeOutcome.RIGHT: 1, CodeOutcome.OVER: 2}


def test_a_code_lives_ten_minutes(services: Services) -> None:
    sign_in_id, other = begin(services), begin(services)
    assert attempt(services, sign_in_id, CODE, NOON + SIGN_IN_LIFE - SECOND).outcome is CodeOutcome.RIGHT
    assert attempt(services, other, CODE, NOON + SIGN_IN_LIFE).outcome is CodeOutcome.OVER


def test_before_a_code_is_set_no_code_is_right(services: Services) -> None:
    sign_in_id = begin(services, with_code=False)
    assert attempt(services, sign_in_id, "").outcome is CodeOutcome.WRONG
    assert attempt(services, sign_in_id, CODE).outcome is CodeOutcome.WRONG


def test_a_repeated_email_replaces_the_code(services: Services) -> None:
    sign_in_id = begin(services)
    services.database.save(sign_ins.set_code, sign_in_id, services.links.code_digest(sign_in_id, WRONG), JANE)
    assert attempt(services, sign_in_id, CODE).outcome is CodeOutcome.WRONG
    assert attempt(services, sign_in_id, WRONG).outcome is CodeOutcome.RIGHT


def test_a_code_is_right_for_its_own_sign_in_alone(services: Services) -> None:
    sign_in_id, other = begin(services), begin(services, with_code=False)
    services.database.save(sign_ins.set_code, other, services.links.code_digest(sign_in_id, CODE), JANE)
    assert attempt(services, other, CODE).outcome is CodeOutcome.WRONG
    assert attempt(services, uuid4(), CODE) == Try(CodeOutcome.OVER)


def test_a_link_works_once_and_ends_its_code(services: Services) -> None:
    sign_in_id = begin(services)
    assert services.database.save(sign_ins.use_link, sign_in_id, NOON) == Used(JANE, NOON)
    with pytest.raises(NotAllowed):
        services.database.save(sign_ins.use_link, sign_in_id, NOON)
    assert attempt(services, sign_in_id, CODE) == Try(CodeOutcome.OVER)


def test_a_code_that_was_used_ends_its_link(services: Services) -> None:
    sign_in_id = begin(services)
    attempt(services, sign_in_id, CODE)
    with pytest.raises(NotAllowed):
        services.database.save(sign_ins.use_link, sign_in_id, NOON)


def use(services: Services, token: str, now: datetime = NOON) -> bool:
    """Whether a token could be used."""
    try:
        services.database.save(sign_ins.use_once, token, now)
    except NotAllowed:
        return False
    return True


def test_a_token_is_used_once_and_kept_as_a_digest_only(services: Services) -> None:
    assert [use(services, "a.token"), use(services, "a.token"), use(services, "another.token")] == [True, False, True]
    rows = services.database.read(lambda read: read.execute(select(used_token.c.digest)).scalars().all())
    assert "token" not in repr(rows)


def test_parallel_uses_of_a_token_count_once(services: Services) -> None:
    everybody = Barrier(10)

    def work(_number: int) -> bool:
        everybody.wait(60)
        return use(services, "a.token")

    with ThreadPoolExecutor(10) as pool:
        assert Counter(pool.map(work, range(10))) == {True: 1, False: 9}


def test_a_contact_can_void_every_link_and_session_they_have(services: Services) -> None:
    contact_id = add_contact(services)
    assert services.database.read(contact_state.state_of, contact_id).revoked_at is None
    services.database.save(sign_ins.revoke, contact_id, NOON)
    assert services.database.read(contact_state.state_of, contact_id).revoked_at == NOON


def test_finished_rows_are_deleted_after_a_day(services: Services) -> None:
    begin(services)
    use(services, "a.token")

    def counts() -> list[int]:
        both = [select(func.count(sign_in.c.id)), select(func.count(used_token.c.digest))]
        return services.database.read(lambda read: [read.execute(statement).scalar_one() for statement in both])

    services.database.save(sign_ins.forget_old, NOON + KEPT)
    assert counts() == [1, 1]
    services.database.save(sign_ins.forget_old, NOON + KEPT + SECOND)
    assert counts() == [0, 0]
