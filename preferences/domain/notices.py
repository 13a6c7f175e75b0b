"""Notices: the wording shown for an opt-in, as evidence.

Invariant: equal slug, language and text make the same notice. Source: GDPR 7(1), ISO/IEC TS 27560 (privacy notice).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """A wording in one language. `slug` is like `default/email/product-news`."""

    slug: str
    language: str
    text: str

    @property
    def hash(self) -> str:
        """SHA-256 of slug, language and text, in hex."""
        return hashlib.sha256(f"{self.slug}\x1f{self.language}\x1f{self.text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNotice:
    """A stored notice. Each slug and language has its own versions."""

    notice: Notice
    version: int
