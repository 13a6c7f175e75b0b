"""How long to wait before a failed call is made again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.domain.backoff import Bounds, wait_after

BOUNDS = Bounds(first=1.0, longest=300.0)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (10_000, 300)])
def test_the_wait_doubles_up_to_its_bound(failures: int, seconds: float) -> None:
    assert wait_after(failures, BOUNDS) == seconds


@given(failures=st.integers(0, 10_000), asked_for=st.none() | st.floats(0, 3600), chance=st.floats(0, 1))
def test_the_wait_is_never_shorter_than_asked_for(failures: int, asked_for: float | None, chance: float) -> None:
    wait = wait_after(failures, BOUNDS, asked_for=asked_for, chance=chance)
    assert max(BOUNDS.first / 2, asked_for or 0) <= wait <= max(BOUNDS.longest, asked_for or 0)


def test_chance_spreads_the_wait_over_its_upper_half() -> None:
    waits = [wait_after(5, BOUNDS, chance=chance / 100) for chance in range(100)]
    assert waits == sorted(set(waits))
    assert 8.0 <= waits[0] < waits[-1] < 16.0
