"""The machines' door, `/api/v1`: one module for each kind of call.

Owns which there are: importing one opens its routes on the blueprint.
"""

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
