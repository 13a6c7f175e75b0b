"""HubSpot: contacts, and unsubscribes and bounces. Preferences have no dates."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import TRUE, Kind, Rule, make

_ALL: Final = "Unsubscribed from all email"
_BOUNCE: Final = "Email hard bounce reason"
_PORTAL: Final = ("portal bounce", "portal unsubscribe", "portal spam report", "global bounce")
_NO_TOPICS: Final = ("email", "email address", *_PORTAL)
_NOT: Final = ("false", "no", "0")
"""Any other value, even unknown, is an opt-out."""
_FLAGS: Final = ("", "true", "false", "yes", "no", "1", "0")

FORMAT: Final = make(
    "hubspot",
    "HubSpot",
    (
        Kind(
            name="contacts",
            address=("Email",),
            marks=(_ALL,),
            known={_ALL: _FLAGS},
            rules=(
                Rule(status="unsubscribed", column=_ALL, values=TRUE, everything=True),
                Rule(status="unsubscribed", prefix="opted out of email: ", but=_NOT),
                Rule(status="hard_bounce", column=_BOUNCE, reason=(_BOUNCE,)),
            ),
            evidence=("Legal basis for processing contact's data", "Marketing contact status"),
        ),
        Kind(
            name="opt-outs",
            address=("Email", "Email Address"),
            marks=("Portal Unsubscribe",),
            known={"Portal Unsubscribe": _FLAGS, "Portal Spam Report": _FLAGS},
            rules=(
                Rule(status="unsubscribed", column="Portal Unsubscribe", values=TRUE, everything=True),
                Rule(status="complaint", column="Portal Spam Report", values=TRUE),
                *(
                    Rule(status="hard_bounce", column=column, but=_NOT, reason=(column,))
                    for column in ("Portal Bounce", "Global Bounce")
                ),
                Rule(
                    status="unsubscribed",
                    others=_NO_TOPICS,
                    values=TRUE,
                    but=_NOT,
                ),
            ),
        ),
    ),
)
