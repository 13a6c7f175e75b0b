"""A Resend with contacts, their topics, and a suppression list that may be closed. Topics cannot be listed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, Fault, json_answer

PAGE: Final = 2
WORDS: Final = ("unsubscribe", "told")


class Fake(FakeVendor):
    kind = "resend"

    def __init__(self) -> None:
        super().__init__()
        self.contacts: set[str] = set()
        self.suppressed: dict[str, str] = {}
        self.takes_lists = False

    def happens(self, change: Change) -> None:
        """What people choose about a topic is told by webhook alone: nobody could find it here later."""
        if change.list_ref == "global" or change.word == "told":
            self.contacts.add(change.address)
            super().happens(change)

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in WORDS)

    def answer(self, asked: Asked) -> Answer:
        # Nothing here is done later.
        self.faults = [None if fault is Fault.LATER else fault for fault in self.faults]
        return super().answer(asked)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        assert asked.headers["authorization"] == "Bearer re_1"
        document: Any = json.loads(asked.body) if asked.body else None
        match asked.method, asked.path.strip("/").split("/"):
            case "GET", [("contacts" | "suppressions") as name]:
                return [], self._page(name, asked.query.get("after"))
            case "POST", ["contacts"]:
                return self._switch(document["email"], document)
            case "PATCH", ["contacts", address] if unquote(address) in self.contacts:
                return self._switch(unquote(address), document)
            case "PATCH", ["contacts", address, "topics"] if unquote(address) in self.contacts:
                return self._choose(unquote(address), document)
            case "POST", ["suppressions", "batch", "add"]:
                self.suppressed |= dict.fromkeys(document["emails"], "manual")
                return [], json_answer({"data": [{"object": "suppression", "id": "1"} for _ in document["emails"]]})
        return [], json_answer({"statusCode": 404, "message": "Contact not found", "name": "not_found"}, 404)

    def _switch(self, address: str, document: dict[str, Any]) -> tuple[Sequence[Change], Answer]:
        if address in self.refused and "unsubscribed" in document:
            return [], json_answer({"statusCode": 422, "name": "validation_error"}, 422)
        self.contacts.add(address)
        if document.get("unsubscribed") is True:
            return [Change(address, "global", "told")], json_answer({"object": "contact", "id": address}, 201)
        gone = [(word, (address, "global", word)) for word in WORDS if "unsubscribed" in document]
        changes = [Change(address, "global", word, stands=False) for word, key in gone if key in self.rows]
        return changes, json_answer({"object": "contact", "id": address}, 201)

    def _choose(self, address: str, document: Any) -> tuple[Sequence[Change], Answer]:
        if isinstance(document, list) != self.takes_lists or address in self.refused:
            return [], json_answer({"statusCode": 422, "name": "validation_error"}, 422)
        changes = []
        for one in document if self.takes_lists else document["topics"]:
            key = (address, f"topic:{one['id']}", "told")
            stands = one["subscription"] == "opt_out"
            if stands or key in self.rows:
                changes.append(Change(*key, stands=stands))
        return changes, json_answer({"id": address})

    def _page(self, name: str, after: str | None) -> Answer:
        if name == "contacts":
            held = {address for address, list_ref, _ in self.rows if list_ref == "global"}
            rows = [{"id": one, "email": one, "unsubscribed": one in held} for one in sorted(self.contacts)]
        else:
            rows = [
                {"id": one, "email": one, "origin": origin, "created_at": "2026-05-31T14:00:07.000Z"}
                for one, origin in sorted(self.suppressed.items())
            ]
        rest = [row for row in rows if after is None or str(row["id"]) > after]
        return json_answer({"object": "list", "has_more": len(rest) > PAGE, "data": rest[:PAGE]})
