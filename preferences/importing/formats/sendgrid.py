"""SendGrid: the lists of suppressions (CSV, or JSON from the API) and the export of contacts. Times are UTC."""

from __future__ import annotations

from typing import Final

from preferences.importing.formats.base import Kind, Rule, make

_ADDRESS: Final = ("email",)
_AT: Final = ("created", "created_at")

FORMAT: Final = make(
    "sendgrid",
    "SendGrid",
    (
        Kind(
            name="bounces",
            address=_ADDRESS,
            marks=("status", "reason", "created"),
            rules=(Rule(status="hard_bounce", at=_AT, reason=("reason",)),),
            evidence=("status",),
        ),
        Kind(name="blocks", address=_ADDRESS, marks=("status", "reason", "created")),
        Kind(
            name="invalid-emails",
            address=_ADDRESS,
            marks=("reason", "created"),
            rules=(Rule(status="invalid", at=_AT, reason=("reason",)),),
        ),
        Kind(
            name="spam-reports",
            address=_ADDRESS,
            marks=("ip", "created"),
            rules=(Rule(status="complaint", at=_AT),),
            evidence=("ip",),
        ),
        Kind(
            name="global-unsubscribes",
            address=_ADDRESS,
            marks=("created",),
            rules=(Rule(status="unsubscribed", everything=True, at=_AT),),
        ),
        Kind(
            name="group-unsubscribes",
            address=_ADDRESS,
            marks=("created",),
            rules=(Rule(status="unsubscribed", at=_AT),),
        ),
        Kind(
            name="groups",
            address=_ADDRESS,
            marks=("group_name", "created_at"),
            rules=(
                Rule(status="unsubscribed", column="group_name", names="group_name", at=_AT),
                Rule(status="unsubscribed", unless=("group_name",), everything=True, at=_AT),
            ),
            evidence=("group_id", "group_name"),
        ),
        Kind(name="contacts", address=_ADDRESS, marks=("contact_id", "created_at", "updated_at")),
    ),
    epoch=True,
)
