"""An SES with one contact list. An update of a contact forgets every preference that it leaves out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

LIST: Final = "list:Customers"
ACCOUNT: Final = "the account's own list"
GONE: Final = {"x-amzn-ErrorType": "NotFoundException"}
PAGE: Final = 2


class Fake(FakeVendor):
    kind = "amazon_ses"

    def __init__(self) -> None:
        super().__init__()
        self.contacts: set[str] = set()

    def happens(self, change: Change) -> None:
        if change.list_ref != ACCOUNT:
            self.contacts.add(change.address)
        super().happens(change)

    def holds(self, address: str, list_ref: str) -> bool:
        return (address, list_ref, "unsubscribe") in self.rows

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        document = json.loads(asked.body) if asked.body else {}
        match asked.method, asked.path.strip("/").split("/")[2:]:
            case "GET", ["suppression", "addresses"]:
                rows = [
                    {"EmailAddress": address, "Reason": reason, "LastUpdateTime": since}
                    for address, reason, since in self.standing(ACCOUNT)
                ]
                return [], json_answer({"SuppressedDestinationSummaries": rows})
            case "GET", ["suppression", "addresses", name]:
                held = [row for row in self.standing(ACCOUNT) if row[0] == unquote(name)]
                if not held:
                    return [], Answer(404, b'{"message":"gone"}', GONE)
                ((address, reason, since),) = held
                found = {"EmailAddress": address, "Reason": reason, "LastUpdateTime": since}
                return [], json_answer({"SuppressedDestination": found})
            case "DELETE", ["suppression", "addresses", name]:
                return [
                    Change(unquote(name), ACCOUNT, reason, stands=False) for reason in ("BOUNCE", "COMPLAINT")
                ], json_answer({})
            case "PUT", ["suppression", "addresses"]:
                return [Change(document["EmailAddress"], ACCOUNT, document["Reason"])], json_answer({})
            case _, ["contact-lists", "Customers", "contacts", "list"]:
                return [], self._page(document.get("NextToken"))
            case "POST", ["contact-lists", "Customers", "contacts"]:
                return self._update(document["EmailAddress"], document)
            case method, ["contact-lists", "Customers", "contacts", name]:
                address = unquote(name)
                if address not in self.contacts:
                    return [], Answer(404, b'{"message":"gone"}', GONE)
                if method != "GET":
                    return self._update(address, document)
                row = self._row(address)
                # The service sends a number, its description wants text, and the library reads both.
                at = datetime.fromtimestamp(row["LastUpdatedTimestamp"], UTC).isoformat()
                return [], json_answer(row | {"LastUpdatedTimestamp": at})
        return [], Answer(404, b'{"message":"no such list"}', GONE)

    def _update(self, address: str, document: dict[str, Any]) -> tuple[Sequence[Change], Answer]:
        if address in self.refused:
            return [], Answer(400, b'{"message":"bad address"}', {"x-amzn-ErrorType": "BadRequestException"})
        self.contacts.add(address)
        statuses = {one["TopicName"]: one["SubscriptionStatus"] for one in document["TopicPreferences"]}
        out = {f"{LIST}/{name}" for name, status in statuses.items() if status == "OPT_OUT"}
        out |= {LIST} if document["UnsubscribeAll"] else set()
        held = {list_ref for who, list_ref, word in self.rows if who == address and word == "unsubscribe"}
        changes = [Change(address, list_ref) for list_ref in sorted(out - held)]
        changes += [Change(address, list_ref, stands=False) for list_ref in sorted(held - out)]
        return changes, json_answer({})

    def _row(self, address: str) -> dict[str, Any]:
        rows = self.rows.items()
        held = {ref: since for (who, ref, word), since in rows if who == address and word == "unsubscribe"}
        topics = [list_ref.removeprefix(f"{LIST}/") for list_ref in held if list_ref != LIST]
        return {
            "EmailAddress": address,
            "TopicPreferences": [{"TopicName": name, "SubscriptionStatus": "OPT_OUT"} for name in topics],
            "UnsubscribeAll": LIST in held,
            "LastUpdatedTimestamp": max(held.values(), default=0),
        }

    def _page(self, token: str | None) -> Answer:
        start = int(token or 0)
        names = sorted(self.contacts)
        more = {"NextToken": str(start + PAGE)} if start + PAGE < len(names) else {}
        return json_answer({"Contacts": [self._row(name) for name in names[start : start + PAGE]], **more})
