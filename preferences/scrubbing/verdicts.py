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
from typing import Final

from preferences.domain.permission import Decision, Reason

Meaning = tuple[bool, str]
"""Whether it is allowed, and the reason."""

SHIFT: Final = 40
"""What is left of a key's 64 bits are the 24 that have a flag."""

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
        self._tables = [(meaning, array("Q", sorted(keys.pop(meaning)))) for meaning in sorted(keys, key=precedence)]

    def look_up(self, digests: bytes) -> Iterator[tuple[int, Meaning]]:
        """Which of the digests have an answer of their own, by their number, and what it is."""
        flags = self.flags
        keys = array("Q", digests)[::_WORDS]
        for number in [number for number, key in enumerate(keys) if flags[key >> SHIFT]]:
            found = self._find(keys[number])
            if found is not None:
                yield number, found

    def _find(self, key: int) -> Meaning | None:
        for meaning, keys in self._tables:
            place = bisect_left(keys, key)
            if place < len(keys) and keys[place] == key:
                return meaning
        return None


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
