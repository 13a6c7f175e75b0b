"""Exponential back-off.

Invariant: the wait doubles with each failure up to a bound, and is never shorter than the server requested.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """In seconds."""

    first: float
    longest: float


def wait_after(failures: int, bounds: Bounds, *, asked_for: float | None = None, chance: float = 1.0) -> float:
    """Seconds to wait after `failures` in a row. `chance`, from 0 to 1, randomises the upper half, so that processes do
    not retry together. `asked_for` is the server's `Retry-After`."""
    doubled = min(bounds.first * 2.0 ** min(max(failures, 1) - 1, 20), bounds.longest)
    return max(doubled * (1 + chance) / 2, asked_for or 0.0)
