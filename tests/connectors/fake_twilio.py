"""A Twilio that takes consents for a sender, and shows them to nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, Fault, json_answer


class Fake(FakeVendor):
    kind = "twilio"

    def happens(self, change: Change) -> None:
        """What people write to a sender is told by webhook alone: nobody could find it here later."""
        if change.word == "told":
            super().happens(change)

    def holds(self, address: str, list_ref: str) -> bool:
        return (address, list_ref, "told") in self.rows

    def answer(self, asked: Asked) -> Answer:
        self.faults = [None if fault is Fault.LATER else fault for fault in self.faults]
        return super().answer(asked)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        assert (asked.method, asked.path) == ("POST", "/v1/Consents/Bulk")
        items = [json.loads(item) for item in parse_qs(asked.body.decode())["Items"]]
        assert len(items) <= 25
        taken = [item for item in items if item["contact_id"] not in self.refused]
        changes = [
            Change(item["contact_id"], item["sender_id"], "told", stands=item["status"] == "opt-out")
            for item in taken
            if item["status"] == "opt-out" or self.holds(item["contact_id"], item["sender_id"])
        ]
        return changes, json_answer({"items": [_result(item, failed=item not in taken) for item in items]}, 201)


def _result(item: dict[str, Any], *, failed: bool) -> dict[str, Any]:
    errors = ["INVALID_CONTACT_ID"] if failed else []
    return {"correlation_id": item["correlation_id"], "error_code": 30646 if failed else 0, "error_messages": errors}
