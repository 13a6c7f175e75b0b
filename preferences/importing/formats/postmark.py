"""Postmark: the suppressions of one message stream (CSV, or the JSON of the dump). Times carry their zone."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_AT: Final = ("CreatedAt",)
_REASON: Final = "SuppressionReason"

FORMAT: Final = make(
    "postmark",
    "Postmark",
    (
        Kind(
            name="suppressions",
            address=("EmailAddress",),
            marks=(_REASON, "Origin", "CreatedAt"),
            known={_REASON: ("manualsuppression", "hardbounce", "spamcomplaint")},
            rules=(
                Rule(status="unsubscribed", column=_REASON, values=("manualsuppression",), at=_AT),
                Rule(status="hard_bounce", column=_REASON, values=("hardbounce",), at=_AT),
                Rule(status="complaint", column=_REASON, values=("spamcomplaint",), at=_AT),
            ),
            evidence=("Origin",),
        ),
    ),
)
