"""Back-off: how long to wait before a call that failed is made again.

Invariant: the wait doubles with each failure up to a bound, and is never shorter than the server asked for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """The shortest and the longest wait, in seconds."""

    first: float
    longest: float


def wait_after(failures: int, bounds: Bounds, *, asked_for: float | None = None, chance: float = 1.0) -> float:
    """Seconds to wait after `failures` in a row (the first failure is 1).

    `chance`, a random number between 0 and 1, spreads the wait over its upper half, so that processes that failed
    together do not return together. `asked_for` is the number of seconds in the server's answer.
    """
    doubled = min(bounds.first * 2.0 ** min(max(failures, 1) - 1, 20), bounds.longest)
    return max(doubled * (1 + chance) / 2, asked_for or 0.0)
