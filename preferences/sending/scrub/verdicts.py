"""The answers for millions of addresses, in eight octets each.

Owns the table that a scrub looks addresses up in. Invariant: it holds numbers, and no Python object for each address,
so that processes which are forked share it as it is.

An answer is found by 64 bits of a keyed hash: among a million answers, one of ten million strangers is taken for
somebody else once in two million scrubs.
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

Meaning = tuple[bool, str]
"""Whether it is allowed, and the reason."""

SHIFT: Final = 40
"""What is left of a key's 64 bits are the 24 that have a flag."""

BEGINNING: Final = 48
"""What is left of a key's 64 bits are the 16 by which it is looked up."""

_PLACES: Final = {reason.value: place for place, reason in enumerate(Reason)}
_TO_BASE64: Final = str.maketrans("-_", "+/")
_WORDS: Final = 4
"""Numbers of 64 bits in a digest."""


class Verdicts:
    """Answers by 64 bits of the digest behind an address's fingerprint.

    `stranger` is the one for whoever is not in the table. Of two answers for one address a no counts, and of two noes
    the one that is named first, as in `domain.permission.may_send`. `flags` has an octet for each beginning of 24 bits,
    which is 0 where no key begins so: nine of ten strangers need no other look. The others are looked for among the
    sorted keys that begin with the same 16 bits.
    """

    def __init__(self, stranger: Decision, answers: Iterable[tuple[Sequence[str], Decision]]) -> None:
        self.stranger: Meaning = _meaning(stranger)
        self.flags = bytearray(1 << 64 - SHIFT)
        found: dict[Meaning, array[int]] = {}
        for prints, answer in answers:
            new = _keys_of_prints(prints)
            found.setdefault(_meaning(answer), array("Q")).extend(new)
            for key in new:
                self.flags[key >> SHIFT] = 1
        self._meanings = sorted(found, key=precedence)
        self._sort([found.pop(meaning) for meaning in self._meanings])

    def _sort(self, by_meaning: Sequence[array[int]]) -> None:
        """Of each key the meaning that counts comes first. Then, past the greatest key, comes one that is not it."""
        both = sorted(key << 8 | place for place, keys in enumerate(by_meaning) for key in keys)
        self._keys = array("Q", map(rshift, both, repeat(8)))
        self._places = bytes(map(and_, both, repeat(0xFF)))
        self._starts = array("I", [bisect_left(self._keys, start << BEGINNING) for start in range(1 << 64 - BEGINNING)])
        self._starts.append(len(self._keys))
        self._keys.append(0)

    def look_up(self, keys: Sequence[int]) -> Iterator[tuple[int, Meaning]]:
        """Which of the addresses have an answer of their own, by their number, and what it is."""
        # One call reads all flags, so that the processor need not wait for one before it asks for the next. It wants
        # two at least, to give many.
        flags = itemgetter(*map(rshift, keys, repeat(SHIFT)), 0, 0)(self.flags)
        table, starts = self._keys, self._starts
        for number in compress(range(len(keys)), flags):
            key = keys[number]
            beginning = key >> BEGINNING
            place = bisect_left(table, key, starts[beginning], starts[beginning + 1])
            if table[place] == key:
                yield number, self._meanings[self._places[place]]


def keys_of(digests: bytes) -> Sequence[int]:
    """What addresses are looked up by: of each of the joined digests the first 64 bits."""
    return array("Q", digests)[::_WORDS]


def precedence(meaning: Meaning) -> tuple[bool, int]:
    """The less, the more it counts."""
    allowed, reason = meaning
    return allowed, _PLACES[reason]


def _meaning(answer: Decision) -> Meaning:
    return answer.allowed, answer.reason.value


def _keys_of_prints(prints: Sequence[str]) -> array[int]:
    """The first 64 bits of the digests that these fingerprints are the text of, many at once.

    Thirty-two of a fingerprint's characters are 24 octets with nothing left over, so they can be read one behind the
    other; and 24 octets are three times 64 bits.
    """
    text = "".join([print_[:32] for print_ in prints]).translate(_TO_BASE64)
    return array("Q", a2b_base64(text))[::3]
