"""The reference that a person can read out on the telephone.

Owns its form. Invariant: derived from an entry's hash, so it tells nothing about how many entries there are, and the
entry can be found from it.
"""

from __future__ import annotations

from typing import Final

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U, so nothing is misread."""

_SHIFTS: Final = range(35, -1, -5)


def reference_of(entry_hash: str) -> str:
    """The first 40 bits of an entry's hash (hex), as `K7QF-2M9D`."""
    bits = int(entry_hash[:10], 16)
    letters = "".join([_LETTERS[bits >> shift & 31] for shift in _SHIFTS])
    return f"{letters[:4]}-{letters[4:]}"


def hash_prefix(reference: str) -> str | None:
    """The first ten hex digits of the hash behind a reference as somebody typed it, or None if it cannot be one."""
    letters = reference.upper().replace("-", "").replace(" ", "").replace("O", "0")
    letters = letters.replace("I", "1").replace("L", "1")
    if len(letters) != 8 or any(letter not in _LETTERS for letter in letters):
        return None
    bits = 0
    for letter in letters:
        bits = bits << 5 | _LETTERS.index(letter)
    return f"{bits:010x}"
