"""A SendGrid with groups, the global list and its own lists of bounces, spam reports and invalid addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

OWN_LISTS: Final = {"bounces": "bounce", "spam_reports": "spam", "invalid_emails": "invalid"}
GLOBAL: Final = "global"


class Fake(FakeVendor):
    kind = "sendgrid"

    def __init__(self) -> None:
        super().__init__()
        self.groups = {17, 18, 99}

    def breaks(self) -> None:
        """Somebody deletes a group, and with it its suppressions."""
        self.groups.discard(17)
        self.rows = {key: since for key, since in self.rows.items() if key[1] != "asm:17"}

    def mends(self) -> None:
        self.groups.add(17)

    def holds(self, address: str, list_ref: str) -> bool:
        rows = {(its_list, word) for its_address, its_list, word in self.rows if its_address == address}
        return any((list_ref, word) in rows for word in ("unsubscribe", *OWN_LISTS.values()))

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        match asked.method, asked.path.strip("/").split("/")[1:]:
            case "GET", ["asm", "groups"]:
                return [], json_answer([{"id": one, "name": str(one), "description": ""} for one in self.groups])
            case "GET", ["asm", "suppressions"]:
                return [], json_answer(
                    [
                        {"email": address, "group_id": group, "group_name": str(group), "created_at": int(since)}
                        for group in self.groups
                        for address, _, since in self.standing(f"asm:{group}")
                    ]
                )
            case "GET", ["suppression", name]:
                begins = asked.query.get("email", "")
                rows = [
                    row
                    for row in self.standing(GLOBAL, OWN_LISTS.get(name, "unsubscribe"))
                    if row[0].startswith(begins)
                ]
                start, most = int(asked.query["offset"]), min(int(asked.query["limit"]), 500)
                page = [{"email": address, "created": int(since)} for address, _, since in rows]
                return [], json_answer(page[start : start + most])
            case "GET", ["suppression", name, address]:
                held = self.standing(GLOBAL, OWN_LISTS[name])
                rows = [row for row in held if row[0] == unquote(address)]
                return [], json_answer([{"email": row[0], "created": int(row[2]), "reason": "550"} for row in rows])
            case "DELETE", ["suppression", name, address]:
                return [Change(unquote(address), GLOBAL, OWN_LISTS[name], stands=False)], Answer(204)
            case "POST", ["asm", "suppressions", "global"]:
                return self._added(asked, GLOBAL)
            case "POST", ["asm", "groups", group, "suppressions"]:
                # A group that is gone: the vendor puts whoever is added to it on the global list.
                return self._added(asked, f"asm:{group}" if int(group) in self.groups else GLOBAL)
            case "DELETE", ["asm", "suppressions", "global", address]:
                return [Change(unquote(address), GLOBAL, stands=False)], Answer(204)
            case "DELETE", ["asm", "groups", group, "suppressions", address]:
                return [Change(unquote(address), f"asm:{group}", stands=False)], Answer(204)
        return [], json_answer({"errors": [{"message": "not found"}]}, 404)

    def _added(self, asked: Asked, list_ref: str) -> tuple[Sequence[Change], Answer]:
        emails = json.loads(asked.body)["recipient_emails"]
        if self.refused & set(emails):
            return [], json_answer({"errors": [{"message": f"{emails[0]} is not valid"}]}, 400)
        return [Change(one, list_ref) for one in emails], json_answer({"recipient_emails": emails}, 201)
