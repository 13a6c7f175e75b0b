"""References such as `K7QF-2M9D`, for the telephone. Derived from an entry's hash, so they reveal no count."""

from __future__ import annotations

from typing import Final

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, without I, L, O and U."""

_SHIFTS: Final = range(35, -1, -5)


def reference_of(entry_hash: str) -> str:
    """From the first 40 bits of an entry's hash (hex)."""
    bits = int(entry_hash[:10], 16)
    letters = "".join([_LETTERS[bits >> shift & 31] for shift in _SHIFTS])
    return f"{letters[:4]}-{letters[4:]}"


def hash_prefix(reference: str) -> str | None:
    """The first ten hex digits of the hash behind a typed reference, or None if invalid."""
    letters = reference.upper().replace("-", "").replace(" ", "").replace("O", "0")
    letters = letters.replace("I", "1").replace("L", "1")
    if len(letters) != 8 or any(letter not in _LETTERS for letter in letters):
        return None
    bits = 0
    for letter in letters:
        bits = bits << 5 | _LETTERS.index(letter)
    return f"{bits:010x}"
