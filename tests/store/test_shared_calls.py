"""Work done together: shared rounds, each caller's own answer and own fault, and nobody left waiting."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from preferences.domain.errors import StoreBusy
from preferences.store.shared_calls import MOST_TOGETHER, Shared, Take

PATIENCE = 30
"""Seconds after which somebody counts as hanging."""


class Work:
    """Doubles numbers, notes its rounds, and can be held up while callers gather."""

    def __init__(self, fault: Callable[[Sequence[int]], None] = lambda _asks: None) -> None:
        self.rounds: list[list[int]] = []
        self.working = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._fault = fault

    def __call__(self, take: Take[int]) -> list[int]:
        asks = take()
        self.rounds.append(list(asks))
        self.working.set()
        assert self.may_go_on.wait(PATIENCE)
        self._fault(asks)
        return [ask * 2 for ask in asks]


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Start a call in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to who asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def gathered(work: Work, asks: Sequence[int]) -> tuple[Future[int], list[Future[int]]]:
    """A call for 0, and calls for `asks` that have all come while it was worked on. Then the work goes on."""
    work.may_go_on.clear()
    shared = Shared(work)
    first = in_thread(partial(shared, 0))
    assert work.working.wait(PATIENCE)
    others = [in_thread(partial(shared, ask)) for ask in asks]
    until_waiting(shared, len(asks))
    work.may_go_on.set()
    return first, others


def until_waiting(shared: Shared[int, int], calls: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(shared._waiting) < calls:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_call_that_comes_alone_is_worked_on_at_once_in_its_own_thread() -> None:
    threads: list[int] = []

    def work(take: Take[int]) -> Sequence[int]:
        threads.append(threading.get_ident())
        return take()

    shared = Shared(work)
    assert [shared(1), shared(2)] == [1, 2]
    assert threads == [threading.get_ident()] * 2


def test_calls_that_come_while_others_are_worked_on_share_the_next_round() -> None:
    work = Work()
    first, others = gathered(work, range(1, 51))
    assert [first.result(PATIENCE), *(other.result(PATIENCE) for other in others)] == [2 * ask for ask in range(51)]
    assert [sorted(round_) for round_ in work.rounds] == [[0], list(range(1, 51))]


def test_who_comes_while_the_lock_is_waited_for_is_still_in_the_round() -> None:
    waits, has_the_lock, rounds = threading.Event(), threading.Event(), list[Sequence[int]]()

    def work(take: Take[int]) -> Sequence[int]:
        waits.set()
        assert has_the_lock.wait(PATIENCE)
        rounds.append(take())
        return rounds[-1]

    shared = Shared(work)
    first = in_thread(partial(shared, 1))
    assert waits.wait(PATIENCE)
    others = [in_thread(partial(shared, ask)) for ask in (2, 3)]
    until_waiting(shared, 3)
    has_the_lock.set()
    assert [one.result(PATIENCE) for one in (first, *others)] == [1, 2, 3]
    assert [sorted(asks) for asks in rounds] == [[1, 2, 3]]


def test_a_second_try_takes_the_same_calls_again() -> None:
    def work(take: Take[int]) -> Sequence[int]:
        assert take() == [1]
        return take()

    assert Shared(work)(1) == 1


def test_nobody_is_answered_before_the_work_is_done() -> None:
    work = Work()
    work.may_go_on.clear()
    call = in_thread(lambda: Shared(work)(1))
    assert work.working.wait(PATIENCE)
    time.sleep(0.05)
    assert not call.done()
    work.may_go_on.set()
    assert call.result(PATIENCE) == 2


def test_a_round_is_bounded_and_the_lead_is_handed_on_until_nobody_waits() -> None:
    work = Work()
    first, others = gathered(work, range(1, 2 * MOST_TOGETHER + 51))
    assert first.result(PATIENCE) == 0
    assert [other.result(PATIENCE) for other in others] == [2 * ask for ask in range(1, 2 * MOST_TOGETHER + 51)]
    assert [len(round_) for round_ in work.rounds] == [1, MOST_TOGETHER, MOST_TOGETHER, 50]


def test_one_callers_fault_is_that_callers_alone() -> None:
    def fault(asks: Sequence[int]) -> None:
        if 3 in asks:
            raise ValueError("three")

    work = Work(fault)
    _, others = gathered(work, [1, 2, 3, 4])
    for ask, other in zip([1, 2, 3, 4], others, strict=True):
        if ask == 3:
            with pytest.raises(ValueError, match="three"):
                other.result(PATIENCE)
        else:
            assert other.result(PATIENCE) == ask * 2


def test_after_a_fault_everything_works_as_before() -> None:
    def fault(asks: Sequence[int]) -> None:
        if 3 in asks:
            raise ValueError("three")

    shared = Shared(Work(fault))
    with pytest.raises(ValueError, match="three"):
        shared(3)
    assert shared(4) == 8


def test_a_busy_store_is_told_to_everyone_and_not_tried_for_each() -> None:
    def fault(asks: Sequence[int]) -> None:
        if asks != [0]:
            raise StoreBusy("away")

    work = Work(fault)
    first, others = gathered(work, range(1, 21))
    assert first.result(PATIENCE) == 0
    for other in others:
        with pytest.raises(StoreBusy, match="away"):
            other.result(PATIENCE)
    assert len(work.rounds) == 2


@pytest.mark.parametrize("takes", [True, False])
def test_work_that_answers_too_few_is_taken_for_no_answer_at_all(takes: bool) -> None:
    def work(take: Take[int]) -> Sequence[int]:
        return list(take())[:0] if takes else []

    with pytest.raises(ValueError, match="shorter"):
        Shared(work)(1)


def test_a_process_that_is_stopped_in_its_work_tells_nobody_that_it_was_done() -> None:
    def fault(asks: Sequence[int]) -> None:
        if len(asks) > 1:
            raise SystemExit

    work = Work(fault)
    _, others = gathered(work, [1, 2, 3])
    outcomes = [type(other.exception(PATIENCE)) for other in others]
    assert sorted(kind.__name__ for kind in outcomes) == ["StoreBusy", "StoreBusy", "SystemExit"]


def test_the_next_call_goes_through_after_a_leader_was_stopped() -> None:
    stops = [SystemExit]

    def work(take: Take[int]) -> Sequence[int]:
        if stops:
            raise stops.pop()
        return take()

    shared = Shared(work)
    with pytest.raises(SystemExit):
        shared(1)
    assert in_thread(lambda: shared(2)).result(PATIENCE) == 2


def stress(work: Callable[[Take[int]], Sequence[int]]) -> dict[int, object]:
    """What 300 threads are answered that each ask ten times, by what they asked; faults by their arguments."""
    shared, start, answers = Shared(work), threading.Barrier(300), dict[int, object]()

    def ask_often(number: int) -> None:
        start.wait(PATIENCE)
        for ask in range(number * 10, number * 10 + 10):
            try:
                answers[ask] = shared(ask)
            except ValueError as fault:
                answers[ask] = fault.args

    for asker in [in_thread(partial(ask_often, number)) for number in range(300)]:
        asker.result(PATIENCE)
    return answers


def test_under_stress_each_gets_its_own_answer_or_its_own_fault_and_nobody_hangs() -> None:
    def work(take: Take[int]) -> list[int]:
        asks = take()
        time.sleep(random.random() / 1_000)
        for ask in asks:
            if ask % 97 == 0:
                raise ValueError(ask)
        return [ask * 2 for ask in asks]

    assert stress(work) == {ask: (ask,) if ask % 97 == 0 else ask * 2 for ask in range(3_000)}


def test_under_stress_many_calls_share_few_rounds() -> None:
    rounds: list[int] = []

    def work(take: Take[int]) -> Sequence[int]:
        asks = take()
        rounds.append(len(asks))
        time.sleep(0.001)
        return asks

    assert stress(work) == {ask: ask for ask in range(3_000)}
    assert sum(rounds) == 3_000
    assert len(rounds) < 1_500


def test_two_that_share_nothing_do_not_wait_for_each_other() -> None:
    held, free = Work(), Work()
    held.may_go_on.clear()
    waiting = in_thread(lambda: Shared(held)(1))
    assert held.working.wait(PATIENCE)
    assert Shared(free)(2) == 4
    held.may_go_on.set()
    assert waiting.result(PATIENCE) == 2
