"""listmonk: the export of its subscribers' page, and the query of subscriptions that docs/moving-in.md shows.

No opt-out has a date: not every way in which listmonk blocks or unsubscribes somebody moves `updated_at`, and an edit
by a colleague does.
"""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_STATUS: Final = "subscription_status"

FORMAT: Final = make(
    "listmonk",
    "listmonk",
    (
        Kind(
            name="subscribers",
            address=("email",),
            marks=("uuid", "attributes", "status", "updated_at"),
            known={"status": ("enabled", "disabled", "blocklisted")},
            rules=(
                Rule(
                    status="unsubscribed",
                    column="status",
                    values=("disabled", "blocklisted"),
                    everything=True,
                    reason=("status",),
                ),
            ),
        ),
        Kind(
            name="subscriptions",
            address=("email",),
            marks=("list_name", _STATUS),
            needs=("subscription_created_at", "optin_ip"),
            known={_STATUS: ("confirmed", "unconfirmed", "unsubscribed")},
            rules=(
                Rule(
                    status="subscribed",
                    column=_STATUS,
                    values=("confirmed",),
                    names="list_name",
                    at=("subscription_created_at",),
                    source=("optin_ip",),
                ),
                Rule(status="unsubscribed", column=_STATUS, values=("unsubscribed",), names="list_name"),
            ),
            evidence=("list_name", "subscription_created_at", "subscription_updated_at"),
        ),
    ),
)
