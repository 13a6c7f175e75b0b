"""Decisions for millions of addresses as sorted integers, nine bytes each.

Keys are the first 64 bits of a fingerprint's digest: with a million entries and ten million other addresses, one scrub
in two million has a false match.
"""

from __future__ import annotations

from array import array
from binascii import a2b_base64
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from operator import and_, itemgetter, rshift
from typing import Final

from preferences.domain.permission import Decision, Reason

ALLOWED: Final = 32
"""A code is the reason's position, plus this if allowed; the smaller of two codes counts."""

SHIFT: Final = 40
"""Bits of a key after the 24-bit flag prefix."""

START: Final = 48
"""Bits of a key after the 16-bit bucket prefix."""

_REASONS: Final = list(Reason)
_TO_BASE64: Final = str.maketrans("-_", "+/")
_KEYS_IN_DIGEST: Final = 4


def code_of(decision: Decision) -> int:
    """The code of a decision, ordered as in `domain.permission.may_send`."""
    return _REASONS.index(decision.reason) + (0 if not decision.allowed else ALLOWED)


def reason_of(code: int) -> Reason:
    return _REASONS[code % ALLOWED]


class Index:
    """Codes by key; absent addresses have the code `default`.

    `_flags` marks 24-bit prefixes in use, so that most absent keys need no search.
    """

    def __init__(self, default: Decision, decisions: Iterable[tuple[Sequence[str], Decision]]) -> None:
        self.default = code_of(default)
        self._flags = bytearray(1 << 64 - SHIFT)
        coded: list[int] = []
        for fingerprints, decision in decisions:
            keys, code = keys_of_fingerprints(fingerprints), code_of(decision)
            coded += [key << 8 | code for key in keys]
            for key in keys:
                self._flags[key >> SHIFT] = 1
        coded.sort()  # the first code of each key counts
        self._keys = array("Q", map(rshift, coded, repeat(8)))
        self._codes = bytes(map(and_, coded, repeat(0xFF)))
        self._starts = array("I", [bisect_left(self._keys, start << START) for start in range(1 << 64 - START)])
        self._starts.append(len(self._keys))
        self._keys.append(0)  # sentinel for searches past the greatest key

    def look_up(self, keys: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Indexes of addresses found, with their codes."""
        # One call reads all flags; `itemgetter` returns a tuple only for two or more.
        flags = itemgetter(*map(rshift, keys, repeat(SHIFT)), 0, 0)(self._flags)
        for number in compress(range(len(keys)), flags):
            key = keys[number]
            start = key >> START
            place = bisect_left(self._keys, key, self._starts[start], self._starts[start + 1])
            if self._keys[place] == key:
                yield number, self._codes[place]


def keys_of_digests(digests: bytes) -> array[int]:
    return array("Q", digests)[::_KEYS_IN_DIGEST]


def keys_of_fingerprints(fingerprints: Sequence[str]) -> array[int]:
    """The same from texts: 32 characters are 24 digest bytes without padding, three integers."""
    text = "".join([fingerprint[:32] for fingerprint in fingerprints]).translate(_TO_BASE64)
    return array("Q", a2b_base64(text))[::3]
