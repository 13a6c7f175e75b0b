"""Mailchimp: the files of an audience export. Times are UTC."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_ADDRESS: Final = ("Email Address", "Email")
_EVIDENCE: Final = (
    "OPTIN_TIME",
    "OPTIN_IP",
    "CONFIRM_TIME",
    "CONFIRM_IP",
    "UNSUB_CAMPAIGN_TITLE",
    "CLEAN_CAMPAIGN_TITLE",
)

FORMAT: Final = make(
    "mailchimp",
    "Mailchimp",
    (
        Kind(
            name="subscribed",
            address=_ADDRESS,
            marks=("OPTIN_TIME", "CONFIRM_TIME"),
            needs=("OPTIN_IP",),
            rules=(Rule(status="subscribed", groups=True, at=("OPTIN_TIME",), source=("OPTIN_IP",)),),
            evidence=_EVIDENCE,
        ),
        Kind(name="nonsubscribed", address=_ADDRESS, marks=("OPTIN_TIME", "CONFIRM_TIME")),
        Kind(
            name="unsubscribed",
            address=_ADDRESS,
            marks=("OPTIN_TIME", "CONFIRM_TIME", "UNSUB_TIME"),
            rules=(Rule(status="unsubscribed", at=("UNSUB_TIME",), reason=("UNSUB_REASON_OTHER", "UNSUB_REASON")),),
            evidence=_EVIDENCE,
        ),
        Kind(
            name="cleaned",
            address=_ADDRESS,
            marks=("OPTIN_TIME", "CONFIRM_TIME", "CLEAN_TIME"),
            rules=(Rule(status="hard_bounce", at=("CLEAN_TIME",)),),
            evidence=_EVIDENCE,
        ),
    ),
)
