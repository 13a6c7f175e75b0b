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
from itertools import compress, count, repeat
from operator import rshift
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
    which is 0 where no key begins so: nine of ten strangers need no other look.
    """

    def __init__(self, stranger: Decision, answers: Iterable[tuple[Sequence[str], Decision]]) -> None:
        self.stranger: Meaning = _meaning(stranger)
        self.flags = bytearray(1 << 64 - SHIFT)
        keys: dict[Meaning, array[int]] = {}
        for prints, answer in answers:
            new = _keys_of_prints(prints)
            keys.setdefault(_meaning(answer), array("Q")).extend(new)
            for key in new:
                self.flags[key >> SHIFT] = 1
        self._tables = [(meaning, _Keys(keys.pop(meaning))) for meaning in sorted(keys, key=precedence)]

    def look_up(self, keys: Sequence[int]) -> Iterator[tuple[int, Meaning]]:
        """Which of the addresses have an answer of their own, by their number, and what it is."""
        # No step of this is one of Python's own, which takes half the time.
        flagged = map(self.flags.__getitem__, map(rshift, keys, repeat(SHIFT)))
        for number in list(compress(count(), flagged)):
            found = self._find(keys[number])
            if found is not None:
                yield number, found

    def _find(self, key: int) -> Meaning | None:
        for meaning, keys in self._tables:
            if key in keys:
                return meaning
        return None


class _Keys:
    """Numbers of 64 bits in order, and where those with each beginning of 16 bits start, so that few are compared."""

    def __init__(self, keys: Iterable[int]) -> None:
        self._keys = array("Q", sorted(keys))
        self._starts = array("L", [bisect_left(self._keys, start << BEGINNING) for start in range(1 << 64 - BEGINNING)])
        self._starts.append(len(self._keys))

    def __contains__(self, key: int) -> bool:
        beginning = key >> BEGINNING
        end = self._starts[beginning + 1]
        place = bisect_left(self._keys, key, self._starts[beginning], end)
        return place < end and self._keys[place] == key


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
