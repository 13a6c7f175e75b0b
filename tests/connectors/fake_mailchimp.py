"""A Mailchimp with three audiences. Refusals stand inside a 200."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

PAGE: Final = 2
WORDS: Final = {"unsubscribe": "unsubscribed", "bounce": "cleaned"}


class Fake(FakeVendor):
    kind = "mailchimp"

    def __init__(self) -> None:
        super().__init__()
        self.audiences = {"a6b5da1054", "c7c7c7c7c7", "b1b1b1b1b1"}

    def breaks(self) -> None:
        """Somebody deletes an audience, and with it its members."""
        self.audiences.discard("c7c7c7c7c7")
        self.rows = {key: since for key, since in self.rows.items() if key[1] != "list:c7c7c7c7c7"}

    def mends(self) -> None:
        self.audiences.add("c7c7c7c7c7")

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in WORDS)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        match asked.method, asked.path.strip("/").split("/"):
            case _, ["lists", audience, *_] if audience not in self.audiences:
                return [], json_answer({"type": "about:blank", "title": "Resource Not Found", "status": 404}, 404)
            case "GET", ["lists", audience]:
                return [], json_answer({"id": audience})
            case "GET", ["lists", audience, "members"]:
                return [], self._page(f"list:{audience}", asked)
            case "GET", ["lists", audience, "members", name]:
                return [], self._member(f"list:{audience}", name)
            case "POST", ["lists", audience]:
                return self._batch(f"list:{audience}", json.loads(asked.body))
        return [], json_answer({"title": "Resource Not Found"}, 404)

    def _member(self, list_ref: str, name: str) -> Answer:
        for address, word, since in self.standing(list_ref):
            if hashlib.md5(address.encode(), usedforsecurity=False).hexdigest() == name:
                at = datetime.fromtimestamp(since, UTC).isoformat()
                return json_answer({"email_address": address, "status": WORDS[word], "last_changed": at})
        return json_answer({"type": "about:blank", "title": "Resource Not Found", "status": 404}, 404)

    def _page(self, list_ref: str, asked: Asked) -> Answer:
        rows = [
            {
                "email_address": address,
                "status": WORDS[word],
                "last_changed": datetime.fromtimestamp(since, UTC).isoformat(),
            }
            for address, word, since in self.standing(list_ref)
            if WORDS[word] == asked.query["status"]
        ]
        offset = int(asked.query["offset"])
        return json_answer({"members": rows[offset : offset + PAGE]})

    def _batch(self, list_ref: str, document: dict[str, Any]) -> tuple[Sequence[Change], Answer]:
        assert len(document["members"]) <= 500
        changes, errors = [], []
        for member in document["members"]:
            address, status = member["email_address"], member["status"]
            if address in self.refused:
                errors.append({"email_address": address, "error": "odd", "error_code": "ERROR_GENERIC"})
            elif status in WORDS.values():
                changes.append(Change(address, list_ref, "bounce" if status == "cleaned" else "unsubscribe"))
            else:
                keys = [(address, list_ref, word) for word in WORDS]
                changes += [Change(*key, stands=False) for key in keys if key in self.rows]
        return changes, json_answer({"new_members": [], "updated_members": [], "errors": errors})
