"""listmonk: the subscribers export, and the query in docs/moving-in.md.

Opt-outs have no date: some leave `updated_at` unchanged, and edits by staff change it.
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
