"""Mailgun: the suppressions of a domain (CSV, or JSON from the API). Times carry their zone."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_ADDRESS: Final = ("address",)
_AT: Final = ("created_at",)

FORMAT: Final = make(
    "mailgun",
    "Mailgun",
    (
        Kind(
            name="bounces",
            address=_ADDRESS,
            marks=("code", "error", "created_at"),
            rules=(Rule(status="hard_bounce", at=_AT, reason=("error",)),),
            evidence=("code",),
        ),
        Kind(
            name="unsubscribes",
            address=_ADDRESS,
            marks=("tags", "created_at"),
            rules=(Rule(status="unsubscribed", names="tags", several=True, at=_AT),),
            evidence=("tags",),
        ),
        Kind(
            name="untagged-unsubscribes",
            address=_ADDRESS,
            marks=("created_at",),
            rules=(Rule(status="unsubscribed", everything=True, at=_AT),),
        ),
        Kind(
            name="complaints",
            address=_ADDRESS,
            marks=("created_at",),
            rules=(Rule(status="complaint", at=_AT),),
        ),
    ),
)
