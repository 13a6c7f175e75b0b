"""The API, `/api/v1`: one module per kind of call; importing it registers its routes."""

from __future__ import annotations

from preferences.web.api import acts, contacts, decisions, entries, hand_offs, links, scrubs, suppressions, topics
from preferences.web.api.operations import blueprint

__all__ = [
    "acts",
    "blueprint",
    "contacts",
    "decisions",
    "entries",
    "hand_offs",
    "links",
    "scrubs",
    "suppressions",
    "topics",
]
