"""What can be made to go wrong at the platform, as real platforms do.

Invariant: faults live in memory alone, so a restarted platform is a healthy one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final, Self

LONGEST_SECONDS: Final = 120.0


class BadFault(ValueError):
    """Not a fault, or not a value that it takes; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults in force. All off is a healthy platform.

    `down`: answers 503 and sends nothing. `slow_seconds`: waits before each answer. `busy_seconds`: answers 429 with
    this Retry-After. `lossy`: answers 200 and forgets the push, and never sends its own webhooks. `repeating`: sends
    each webhook three times. `reordering`: sends the newest webhook first. `reject`: addresses it never takes.
    """

    down: bool = False
    slow_seconds: float = 0.0
    busy_seconds: float = 0.0
    lossy: bool = False
    repeating: bool = False
    reordering: bool = False
    reject: tuple[str, ...] = ()

    def changed(self, changes: Mapping[str, object]) -> Self:
        """The same faults with some of them set anew. Raises BadFault."""
        known = {field.name for field in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise BadFault(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return replace(self, **{name: _value(name, value) for name, value in changes.items()})  # type: ignore[arg-type]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def _value(name: str, value: object) -> bool | float | tuple[str, ...]:
    if name == "reject":
        if isinstance(value, list) and all(isinstance(address, str) for address in value):
            return tuple(address.strip().lower() for address in value if address.strip())
        raise BadFault("reject: a list of addresses")
    if name.endswith("_seconds"):
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_SECONDS:
            return float(value)
        raise BadFault(f"{name}: a number from 0 to {LONGEST_SECONDS:.0f}")
    if isinstance(value, bool):
        return value
    raise BadFault(f"{name}: true or false")
