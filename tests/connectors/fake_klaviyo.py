"""A Klaviyo where everybody is on every list until they leave. A job that names a list takes whoever is not on it off
everything."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, Fault, json_answer

WORDS: Final = {
    "unsubscribe": "UNSUBSCRIBE",
    "manual": "USER_SUPPRESSED",
    "bounce": "HARD_BOUNCE",
    "invalid": "INVALID_EMAIL",
    "complaint": "SPAM_COMPLAINT",
}
PAGE: Final = 2


class Fake(FakeVendor):
    kind = "klaviyo"

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, str] = {}
        """Addresses and numbers by the profile's id."""

    def add(self, address: str) -> str:
        """A profile that is on every list."""
        profile_id = hashlib.sha256(address.encode()).hexdigest()[:26].upper()
        self.known[profile_id] = address
        return profile_id

    def happens(self, change: Change) -> None:
        self.add(change.address)
        super().happens(change)

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in [*WORDS, "left"])

    def answer(self, asked: Asked) -> Answer:
        if asked.method != "POST":
            # Jobs alone are done later.
            self.faults[:1] = [None if fault is Fault.LATER else fault for fault in self.faults[:1]]
        return super().answer(asked)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        assert asked.headers["authorization"] == "Klaviyo-API-Key pk_1"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", asked.headers["revision"])
        document: Any = json.loads(asked.body)["data"] if asked.body else None
        match asked.method, asked.path.strip("/").split("/")[1:]:
            case "POST", ["profile-subscription-bulk-delete-jobs"]:
                return self._unsubscribed(document), Answer(202)
            case "POST", ["profile-suppression-bulk-create-jobs"]:
                emails = [one["attributes"]["email"] for one in document["attributes"]["profiles"]["data"]]
                assert len(emails) <= 100
                return [Change(one, "global", "manual") for one in emails], json_answer({"data": {"id": "job"}}, 202)
            case "GET", ["profiles"]:
                return [], self._profiles(asked)
            case "GET", ["lists", list_id, "profiles"]:
                return [], self._members(asked, f"list:{list_id}")
            case "DELETE", ["lists", list_id, "relationships", "profiles"]:
                ids = [one["id"] for one in document]
                return [Change(self.known[one], f"list:{list_id}", "left") for one in ids], Answer(204)
        return [], json_answer({"errors": [{"id": "1", "code": "not_found", "title": "", "detail": ""}]}, 404)

    def _unsubscribed(self, job: dict[str, Any]) -> list[Change]:
        profiles = job["attributes"]["profiles"]["data"]
        assert len(profiles) <= 100
        list_id: str = job.get("relationships", {}).get("list", {}).get("data", {}).get("id", "")
        changes = []
        for one in profiles:
            attributes = one["attributes"]
            assert list(attributes["subscriptions"].values()) == [{"marketing": {"consent": "UNSUBSCRIBED"}}]
            address = attributes.get("email") or attributes["phone_number"]
            is_there = bool(list_id) and not self.holds(address, f"list:{list_id}")
            changes.append(Change(address, f"list:{list_id}" if is_there else "global"))
        return changes

    def _profiles(self, asked: Asked) -> Answer:
        which = asked.query["filter"]
        if which.startswith("any(id,"):
            ids = json.loads(which.removeprefix("any(id,").removesuffix(")"))
            return self._paged(asked, [self._row(one) for one in ids if one in self.known])
        found = re.search(r'list_id,"(\w+)"', which)
        list_ref, name = (f"list:{found[1]}", "list_suppressions") if found else ("global", "suppression")
        rows = [self._row(one, list_ref, name) for one in sorted(self.known)]
        return self._paged(asked, [row for row in rows if row.pop("any")])

    def _row(self, profile_id: str, list_ref: str = "", name: str = "") -> dict[str, Any]:
        address = self.known[profile_id]
        entries = [
            {
                "reason": WORDS[word],
                "timestamp": datetime.fromtimestamp(since, UTC).isoformat(),
                **({"list_id": list_ref.removeprefix("list:")} if list_ref.startswith("list:") else {}),
            }
            for who, word, since in self.standing(list_ref)
            if who == address and word in WORDS
        ]
        key = "email" if "@" in address else "phone_number"
        subscriptions = {"email": {"marketing": {name: entries}}} if name else {}
        attributes = {key: address, "subscriptions": subscriptions}
        return {"type": "profile", "id": profile_id, "attributes": attributes, "any": bool(entries) and key == "email"}

    def _members(self, asked: Asked, list_ref: str) -> Answer:
        values = json.loads(asked.query["filter"].partition(",")[2].removesuffix(")"))
        there = [self.add(one) for one in values if not self.holds(one, list_ref)]
        return self._paged(asked, [self._row(one) for one in there])

    def _paged(self, asked: Asked, rows: Sequence[Any]) -> Answer:
        start = int(asked.query.get("page[cursor]", 0))
        more = f"https://elsewhere.example{asked.path}?page%5Bcursor%5D={start + PAGE}"
        links = {"next": more if start + PAGE < len(rows) else None}
        return json_answer({"data": rows[start : start + PAGE], "links": links})
