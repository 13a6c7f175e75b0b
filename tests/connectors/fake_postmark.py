"""A Postmark with three streams: a result for each address inside a 200, and rows that nobody but it may take off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

REASONS: Final = {"unsubscribe": "ManualSuppression", "bounce": "HardBounce", "complaint": "SpamComplaint"}


class Fake(FakeVendor):
    kind = "postmark"

    def __init__(self) -> None:
        super().__init__()
        self.streams = {"broadcast", "deals", "all"}

    def breaks(self) -> None:
        """Somebody archives a stream."""
        self.streams.discard("deals")

    def mends(self) -> None:
        self.streams.add("deals")

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in REASONS)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        match asked.method, asked.path.strip("/").split("/")[1:]:
            case _, [stream, *_] if stream not in self.streams:
                return [], json_answer({"ErrorCode": 1226, "Message": f"no stream {stream}"}, 422)
            case "GET", [stream, "suppressions", "dump"]:
                return [], self._dump(stream, asked.query.get("EmailAddress"))
            case "POST", [stream, "suppressions"]:
                return self._changed(asked, stream, stands=True)
            case "POST", [stream, "suppressions", "delete"]:
                return self._changed(asked, stream, stands=False)
        return [], json_answer({"ErrorCode": 0, "Message": "not found"}, 404)

    def _dump(self, stream: str, only: str | None) -> Answer:
        rows = [
            {
                "EmailAddress": address,
                "SuppressionReason": REASONS[word],
                "Origin": "Recipient",
                "CreatedAt": datetime.fromtimestamp(since, UTC).isoformat(),
            }
            for address, word, since in self.standing(stream)
            if only in {None, address}
        ]
        return json_answer({"Suppressions": rows})

    def _changed(self, asked: Asked, stream: str, *, stands: bool) -> tuple[Sequence[Change], Answer]:
        emails = [row["EmailAddress"] for row in json.loads(asked.body)["Suppressions"]]
        if len(emails) > 50:
            return [], json_answer({"ErrorCode": 1410, "Message": "too many"}, 422)
        taken = [one for one in emails if one not in self.refused]
        done = "Suppressed" if stands else "Deleted"
        results = {one: (done, None) if one in taken else ("Failed", f"{one} is not taken") for one in emails}
        rows = [{"EmailAddress": one, "Status": word, "Message": why} for one, (word, why) in results.items()]
        words = ("unsubscribe",) if stands else tuple(REASONS)
        changes = [Change(one, stream, word, stands=stands) for one in taken for word in words]
        return changes, json_answer({"Suppressions": rows})
