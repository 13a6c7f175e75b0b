"""Mautic: its do-not-contact entries, and an export of contacts. Times without a zone are read as UTC."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import TRUE, Kind, Rule, make

_REASON: Final = "reason"
_BY_HAND: Final = ("1", "3", "unsubscribed", "manual")
_BOUNCED: Final = ("2", "bounced")

FORMAT: Final = make(
    "mautic",
    "Mautic",
    (
        Kind(
            name="do-not-contact",
            address=("email",),
            marks=("channel", _REASON, "date_added"),
            known={
                _REASON: ("1", "2", "3", "unsubscribed", "bounced", "manual"),
                "channel": ("email", "sms"),
            },
            rules=(
                Rule(
                    status="unsubscribed",
                    column=_REASON,
                    values=_BY_HAND,
                    where=("channel", "email"),
                    everything=True,
                    at=("date_added",),
                    reason=("comments",),
                ),
                Rule(
                    status="unsubscribed",
                    column=_REASON,
                    values=_BY_HAND,
                    where=("channel", "sms"),
                    everything=True,
                    at=("date_added",),
                    reason=("comments",),
                    channel="sms",
                    address="mobile",
                ),
                Rule(
                    status="hard_bounce",
                    column=_REASON,
                    values=_BOUNCED,
                    where=("channel", "email"),
                    at=("date_added",),
                    reason=("comments",),
                ),
            ),
            evidence=("channel", _REASON),
        ),
        Kind(
            name="contacts",
            address=("email",),
            marks=("doNotContact",),
            known={"doNotContact": ("", "0", "false", "no", *TRUE)},
            rules=(Rule(status="unsubscribed", column="doNotContact", values=TRUE, everything=True),),
        ),
    ),
)
