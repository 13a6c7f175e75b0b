"""Decisions for millions of addresses, as sorted numbers: nine bytes for each.

Owns the table that a scrub looks addresses up in. An address is found by the first 64 bits of its fingerprint's digest:
among a million entries, one of ten million other addresses is mistaken for an entry once in two million scrubs.
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
"""A code is the position of the reason, plus this where the message is allowed: of two codes the smaller one counts."""

SHIFT: Final = 40
"""Bits of a key behind the 24 that have a flag."""

START: Final = 48
"""Bits of a key behind the 16 by which the sorted keys are divided."""

_REASONS: Final = list(Reason)
_TO_BASE64: Final = str.maketrans("-_", "+/")
_KEYS_IN_DIGEST: Final = 4


def code_of(decision: Decision) -> int:
    """The decision as a number; the smaller one of two counts, as in `domain.permission.may_send`."""
    return _REASONS.index(decision.reason) + (0 if not decision.allowed else ALLOWED)


def reason_of(code: int) -> Reason:
    """The reason behind a code."""
    return _REASONS[code % ALLOWED]


class Index:
    """Codes by key. An address that is not in it has the code `default`.

    `_flags` tells for each prefix of 24 bits whether any key has it, so that most absent keys need no search.
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
        coded.sort()  # of each key the code that counts comes first
        self._keys = array("Q", map(rshift, coded, repeat(8)))
        self._codes = bytes(map(and_, coded, repeat(0xFF)))
        self._starts = array("I", [bisect_left(self._keys, start << START) for start in range(1 << 64 - START)])
        self._starts.append(len(self._keys))
        self._keys.append(0)  # what a search behind the greatest key finds

    def look_up(self, keys: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The addresses that are in the index, by their number, each with its code."""
        # One call reads all flags, and needs two to return a tuple.
        flags = itemgetter(*map(rshift, keys, repeat(SHIFT)), 0, 0)(self._flags)
        for number in compress(range(len(keys)), flags):
            key = keys[number]
            start = key >> START
            place = bisect_left(self._keys, key, self._starts[start], self._starts[start + 1])
            if self._keys[place] == key:
                yield number, self._codes[place]


def keys_of_digests(digests: bytes) -> array[int]:
    """The first 64 bits of each of the joined digests."""
    return array("Q", digests)[::_KEYS_IN_DIGEST]


def keys_of_fingerprints(fingerprints: Sequence[str]) -> array[int]:
    """The same from the text of fingerprints.

    The first 32 characters of a fingerprint are 24 bytes of its digest, without padding: three numbers of 64 bits.
    """
    text = "".join([fingerprint[:32] for fingerprint in fingerprints]).translate(_TO_BASE64)
    return array("Q", a2b_base64(text))[::3]
