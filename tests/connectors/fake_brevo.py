"""A Brevo with contacts, their blocklists and their lists. Who was taken off a list looks as if never on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, Fault, json_answer

PAGE: Final = 2
WORDS: Final = ("unsubscribe", "unlinked")


class Fake(FakeVendor):
    kind = "brevo"

    def __init__(self) -> None:
        super().__init__()
        self.contacts: set[str] = set()

    def happens(self, change: Change) -> None:
        self.contacts.add(change.address)
        super().happens(change)

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in WORDS)

    def answer(self, asked: Asked) -> Answer:
        # Nothing here is done later.
        self.faults = [None if fault is Fault.LATER else fault for fault in self.faults]
        return super().answer(asked)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        if asked.headers.get("api-key") != "xkeysib-1":
            return [], json_answer({"code": "unauthorized", "message": "Key not found"}, 401)
        document = json.loads(asked.body) if asked.body else {}
        match asked.method, asked.path.strip("/").split("/")[1:]:
            case "GET", []:
                return [], self._page(int(asked.query["offset"]))
            case "GET", [name] if unquote(name) in self.contacts:
                return [], json_answer(self._row(unquote(name)) | {"listIds": self._lists(unquote(name))})
            case "POST", []:
                return self._block(document)
            case "PUT", [name]:
                return self._link(unquote(name), document)
        return [], json_answer({"code": "document_not_found", "message": "not there"}, 404)

    def _block(self, document: dict[str, Any]) -> tuple[Sequence[Change], Answer]:
        address = document.get("email") or document["attributes"]["SMS"]
        assert document["updateEnabled"] is True
        if address in self.refused:
            return [], json_answer({"code": "invalid_parameter", "message": f"{address} is not valid"}, 400)
        self.contacts.add(address)
        stands = bool(document.get("emailBlacklisted", document.get("smsBlacklisted")))
        if stands or self.holds(address, "global"):
            return [Change(address, "global", stands=stands)], Answer(204)
        return [], Answer(204)

    def _link(self, address: str, document: dict[str, Any]) -> tuple[Sequence[Change], Answer]:
        if address in self.refused:
            return [], json_answer({"code": "invalid_parameter", "message": "not valid"}, 400)
        # Whom it does not know it has on no list, and it comes to no list by itself.
        self.contacts.add(address)
        taken = [Change(address, f"list:{one}", "unlinked") for one in document.get("unlinkListIds", [])]
        refs = [f"list:{one}" for one in document.get("listIds", [])]
        keys = [(address, list_ref, word) for list_ref in refs for word in WORDS]
        return [*taken, *(Change(*key, stands=False) for key in keys if key in self.rows)], Answer(204)

    def _page(self, offset: int) -> Answer:
        names = sorted(self.contacts)[offset : offset + PAGE]
        return json_answer({"contacts": [self._row(name) for name in names], "count": len(self.contacts)})

    def _lists(self, name: str) -> list[int]:
        """The lists that a contact is on, of two."""
        return [number for number in (17, 18) if not self.holds(name, f"list:{number}")]

    def _row(self, name: str) -> dict[str, Any]:
        mine = {key: since for key, since in self.rows.items() if key[0] == name and key[2] == "unsubscribe"}
        changes = [since for key, since in self.rows.items() if key[0] == name]
        return {
            "email": name,
            "emailBlacklisted": (name, "global", "unsubscribe") in mine,
            "smsBlacklisted": False,
            "modifiedAt": datetime.fromtimestamp(max(changes, default=0), UTC).isoformat(),
            "listUnsubscribed": [int(ref.removeprefix("list:")) for _, ref, _ in mine if ref != "global"],
            "attributes": {},
        }
