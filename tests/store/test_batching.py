"""Batching: calls share batches, each gets its own result and its own error, and none waits for ever."""

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
from preferences.store.batching import LARGEST_BATCH, Batcher, Take

PATIENCE = 30
"""Seconds after which somebody counts as hanging."""


class Work:
    """Doubles numbers, notes its batches, and can be held up while callers gather."""

    def __init__(self, fault: Callable[[Sequence[int]], None] = lambda _items: None) -> None:
        self.batches: list[list[int]] = []
        self.working = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._fault = fault

    def __call__(self, take: Take[int]) -> list[int]:
        items = take()
        self.batches.append(list(items))
        self.working.set()
        assert self.may_go_on.wait(PATIENCE)
        self._fault(items)
        return [item * 2 for item in items]


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Start a call in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to who items for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def gathered(work: Work, items: Sequence[int]) -> tuple[Future[int], list[Future[int]]]:
    """A call for 0, and calls for `items` that have all come while it was worked on. Then the work goes on."""
    work.may_go_on.clear()
    batcher = Batcher(work)
    first = in_thread(partial(batcher, 0))
    assert work.working.wait(PATIENCE)
    others = [in_thread(partial(batcher, item)) for item in items]
    until_waiting(batcher, len(items))
    work.may_go_on.set()
    return first, others


def until_waiting(batcher: Batcher[int, int], calls: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(batcher._waiting) < calls:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_lone_call_runs_at_once_in_its_own_thread() -> None:
    threads: list[int] = []

    def work(take: Take[int]) -> Sequence[int]:
        threads.append(threading.get_ident())
        return take()

    batcher = Batcher(work)
    assert [batcher(1), batcher(2)] == [1, 2]
    assert threads == [threading.get_ident()] * 2


def test_calls_that_arrive_during_a_batch_form_the_next() -> None:
    work = Work()
    first, others = gathered(work, range(1, 51))
    assert [first.result(PATIENCE), *(other.result(PATIENCE) for other in others)] == [2 * item for item in range(51)]
    assert [sorted(batch) for batch in work.batches] == [[0], list(range(1, 51))]


def test_calls_that_arrive_before_the_lock_is_held_join_the_batch() -> None:
    waits, has_the_lock, batches = threading.Event(), threading.Event(), list[Sequence[int]]()

    def work(take: Take[int]) -> Sequence[int]:
        waits.set()
        assert has_the_lock.wait(PATIENCE)
        batches.append(take())
        return batches[-1]

    batcher = Batcher(work)
    first = in_thread(partial(batcher, 1))
    assert waits.wait(PATIENCE)
    others = [in_thread(partial(batcher, item)) for item in (2, 3)]
    until_waiting(batcher, 3)
    has_the_lock.set()
    assert [call.result(PATIENCE) for call in (first, *others)] == [1, 2, 3]
    assert [sorted(items) for items in batches] == [[1, 2, 3]]


def test_a_second_attempt_takes_the_same_calls() -> None:
    def work(take: Take[int]) -> Sequence[int]:
        assert take() == [1]
        return take()

    assert Batcher(work)(1) == 1


def test_no_call_returns_before_its_work_is_done() -> None:
    work = Work()
    work.may_go_on.clear()
    call = in_thread(lambda: Batcher(work)(1))
    assert work.working.wait(PATIENCE)
    time.sleep(0.05)
    assert not call.done()
    work.may_go_on.set()
    assert call.result(PATIENCE) == 2


def test_batches_are_bounded_and_run_until_no_call_waits() -> None:
    work = Work()
    first, others = gathered(work, range(1, 2 * LARGEST_BATCH + 51))
    assert first.result(PATIENCE) == 0
    assert [other.result(PATIENCE) for other in others] == [2 * item for item in range(1, 2 * LARGEST_BATCH + 51)]
    assert [len(batch) for batch in work.batches] == [1, LARGEST_BATCH, LARGEST_BATCH, 50]


def test_an_error_of_one_call_is_raised_to_it_alone() -> None:
    def fault(items: Sequence[int]) -> None:
        if 3 in items:
            raise ValueError("three")

    work = Work(fault)
    _, others = gathered(work, [1, 2, 3, 4])
    for item, other in zip([1, 2, 3, 4], others, strict=True):
        if item == 3:
            with pytest.raises(ValueError, match="three"):
                other.result(PATIENCE)
        else:
            assert other.result(PATIENCE) == item * 2


def test_a_call_succeeds_after_one_that_failed() -> None:
    def fault(items: Sequence[int]) -> None:
        if 3 in items:
            raise ValueError("three")

    batcher = Batcher(Work(fault))
    with pytest.raises(ValueError, match="three"):
        batcher(3)
    assert batcher(4) == 8


def test_a_busy_store_fails_the_batch_without_trying_each_call() -> None:
    def fault(items: Sequence[int]) -> None:
        if items != [0]:
            raise StoreBusy("away")

    work = Work(fault)
    first, others = gathered(work, range(1, 21))
    assert first.result(PATIENCE) == 0
    for other in others:
        with pytest.raises(StoreBusy, match="away"):
            other.result(PATIENCE)
    assert len(work.batches) == 2


@pytest.mark.parametrize("takes", [True, False])
def test_too_few_results_are_an_error_for_every_call(takes: bool) -> None:
    def work(take: Take[int]) -> Sequence[int]:
        return list(take())[:0] if takes else []

    with pytest.raises(ValueError, match="shorter"):
        Batcher(work)(1)


def test_no_call_succeeds_when_the_process_is_stopped_in_a_batch() -> None:
    def fault(items: Sequence[int]) -> None:
        if len(items) > 1:
            raise SystemExit

    work = Work(fault)
    _, others = gathered(work, [1, 2, 3])
    outcomes = [type(other.exception(PATIENCE)) for other in others]
    assert sorted(kind.__name__ for kind in outcomes) == ["StoreBusy", "StoreBusy", "SystemExit"]


def test_the_next_call_succeeds_after_a_stopped_batch() -> None:
    stops = [SystemExit]

    def work(take: Take[int]) -> Sequence[int]:
        if stops:
            raise stops.pop()
        return take()

    batcher = Batcher(work)
    with pytest.raises(SystemExit):
        batcher(1)
    assert in_thread(lambda: batcher(2)).result(PATIENCE) == 2


def stress(work: Callable[[Take[int]], Sequence[int]]) -> dict[int, object]:
    """What 300 threads are answered that each item ten times, by what they asked; faults by their arguments."""
    batcher, start, answers = Batcher(work), threading.Barrier(300), dict[int, object]()

    def ask_often(number: int) -> None:
        start.wait(PATIENCE)
        for item in range(number * 10, number * 10 + 10):
            try:
                answers[item] = batcher(item)
            except ValueError as fault:
                answers[item] = fault.args

    for asker in [in_thread(partial(ask_often, number)) for number in range(300)]:
        asker.result(PATIENCE)
    return answers


def test_under_stress_each_call_gets_its_own_result_or_error() -> None:
    def work(take: Take[int]) -> list[int]:
        items = take()
        time.sleep(random.random() / 1_000)
        for item in items:
            if item % 97 == 0:
                raise ValueError(item)
        return [item * 2 for item in items]

    assert stress(work) == {item: (item,) if item % 97 == 0 else item * 2 for item in range(3_000)}


def test_under_stress_many_calls_share_few_batches() -> None:
    batches: list[int] = []

    def work(take: Take[int]) -> Sequence[int]:
        items = take()
        batches.append(len(items))
        time.sleep(0.001)
        return items

    assert stress(work) == {item: item for item in range(3_000)}
    assert sum(batches) == 3_000
    assert len(batches) < 1_500


def test_two_batchers_do_not_wait_for_each_other() -> None:
    held, free = Work(), Work()
    held.may_go_on.clear()
    waiting = in_thread(lambda: Batcher(held)(1))
    assert held.working.wait(PATIENCE)
    assert Batcher(free)(2) == 4
    held.may_go_on.set()
    assert waiting.result(PATIENCE) == 2
