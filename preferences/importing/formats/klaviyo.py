"""Klaviyo: profiles of a list or segment, and suppressed profiles. Times without a zone are read as UTC."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_CONSENT: Final = "Email Marketing Consent"
_HELD: Final = "Email Suppressions"
_AT: Final = ("Email Marketing Consent Timestamp",)
"""Not documented to move with an opt-out, so opt-outs do not use it."""

_SMS: Final = "SMS Marketing Consent"
_UNSUBSCRIBED: Final = ("unsubscribed", "unsubscribe")
_TECHNICAL: Final = ("hard_bounce", "spam_complaint", "invalid_email")
_BY_HAND: Final = ("unsubscribed", "unsubscribe", "user_suppressed")
_STATES: Final = ("", "subscribed", "subscribe", *_UNSUBSCRIBED, "never_subscribed", "never subscribed", "pending")

_SUPPRESSED: Final = (
    Rule(status="hard_bounce", column=_HELD, holds=("hard_bounce",)),
    Rule(status="complaint", column=_HELD, holds=("spam_complaint",)),
    Rule(status="invalid", column=_HELD, holds=("invalid_email",)),
    Rule(status="unsubscribed", column=_HELD, holds=_BY_HAND, everything=True, reason=(_HELD,)),
    # An unknown cause is an opt-out of marketing.
    Rule(status="unsubscribed", column=_HELD, lacks=(*_TECHNICAL, *_BY_HAND), everything=True, reason=(_HELD,)),
)

FORMAT: Final = make(
    "klaviyo",
    "Klaviyo",
    (
        Kind(
            name="profiles",
            address=("Email",),
            marks=(_CONSENT,),
            known={_CONSENT: _STATES, _SMS: _STATES},
            rules=(
                *_SUPPRESSED,
                Rule(
                    status="subscribed",
                    column=_CONSENT,
                    values=("subscribed", "subscribe"),
                    unless=(_HELD,),
                    at=_AT,
                    source=("Source", "IP Address"),
                ),
                Rule(status="unsubscribed", column=_CONSENT, values=_UNSUBSCRIBED, everything=True),
                Rule(
                    status="unsubscribed",
                    column=_SMS,
                    values=_UNSUBSCRIBED,
                    everything=True,
                    channel="sms",
                    address=("Phone Number",),
                ),
            ),
            evidence=(_CONSENT, "Source", "IP Address"),
        ),
        Kind(
            name="suppressed",
            address=("Email",),
            rules=(
                *_SUPPRESSED,
                Rule(status="unsubscribed", unless=(_HELD,), everything=True, reason=("Reason",)),
            ),
        ),
    ),
)
