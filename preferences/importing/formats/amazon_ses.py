"""Amazon SES: the account's suppression list, and a contact list (JSON of the API, or CSV). Times carry their zone."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import TRUE, Kind, Rule, make

FORMAT: Final = make(
    "ses",
    "Amazon SES",
    (
        Kind(
            name="suppressed",
            address=("EmailAddress",),
            marks=("Reason", "LastUpdateTime"),
            known={"Reason": ("bounce", "complaint")},
            rules=(
                Rule(status="hard_bounce", column="Reason", values=("bounce",), at=("LastUpdateTime",)),
                Rule(status="complaint", column="Reason", values=("complaint",), at=("LastUpdateTime",)),
            ),
        ),
        Kind(
            name="contacts",
            address=("EmailAddress",),
            marks=("UnsubscribeAll",),
            known={"UnsubscribeAll": ("true", "false", "")},
            rules=(
                # LastUpdatedTimestamp is the contact's, not the preference's.
                Rule(status="unsubscribed", column="UnsubscribeAll", values=TRUE, everything=True),
                Rule(status="unsubscribed", prefix="topicpreferences.", but=("opt_in",)),
            ),
        ),
    ),
    epoch=True,
)
