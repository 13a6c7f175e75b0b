"""The wording that people are shown when they say yes, as evidence.

Owns what a notice is and its hash. Invariant: the same words under the same slug in the same language are the same
notice, wherever and whenever they were shown. Source: GDPR 7(1), ISO/IEC TS 27560 (privacy notice).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """Words about one thing (`slug`, such as `default/email/product-news`) in one language."""

    slug: str
    language: str
    text: str

    @property
    def hash(self) -> str:
        """SHA-256, in hex, over slug, language and text."""
        return hashlib.sha256(f"{self.slug}\x1f{self.language}\x1f{self.text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNotice:
    """A notice as it is kept: its version counts the different wordings of one slug in one language."""

    notice: Notice
    version: int
