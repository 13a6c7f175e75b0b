"""A Mailgun with one domain: unsubscribes by tag, bounces and complaints, pages in alphabetical order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

WORDS: Final = {"bounces": "bounce", "complaints": "complaint"}
PAGE: Final = 3
"""Small, so that a list has several."""


class Fake(FakeVendor):
    kind = "mailgun"

    def holds(self, address: str, list_ref: str) -> bool:
        rows = {(its_list, word) for its_address, its_list, word in self.rows if its_address == address}
        return any((list_ref, word) in rows for word in ("unsubscribe", *WORDS.values()))

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        match asked.method, asked.path.strip("/").split("/")[2:]:
            case "GET", [table]:
                return [], self._page(table, asked)
            case "POST", [table]:
                rows = json.loads(asked.body)
                if len(rows) > 1_000 or self.refused & {row["address"] for row in rows}:
                    return [], json_answer({"message": "address is not valid"}, 400)
                changes = [
                    Change(row["address"], tag, WORDS.get(table, "unsubscribe"))
                    for row in rows
                    for tag in row.get("tags", ["*"])
                ]
                return changes, json_answer({"message": f"{len(rows)} addresses have been added"})
            case "GET", ["unsubscribes", address]:
                return [], self._row(unquote(address))
            case "GET", [table, address]:
                return [], self._own_row(table, unquote(address))
            case "DELETE", ["bounces" | "complaints" as table, address]:
                removed = {"message": "Address has been removed", "address": unquote(address)}
                return [Change(unquote(address), "*", WORDS[table], stands=False)], json_answer(removed)
            case "DELETE", ["unsubscribes", address]:
                removed = {"message": "Unsubscribe event has been removed", "address": unquote(address)}
                return [Change(unquote(address), asked.query["tag"], stands=False)], json_answer(removed)
        return [], json_answer({"message": "Not Found"}, 404)

    def _row(self, address: str) -> Answer:
        held = {tag: since for (who, tag, word), since in self.rows.items() if (who, word) == (address, "unsubscribe")}
        if not held:
            return json_answer({"message": "Address not found in unsubscribes table"}, 404)
        at = datetime.fromtimestamp(min(held.values()), UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
        return json_answer({"address": address, "tags": list(held), "created_at": at})

    def _own_row(self, table: str, address: str) -> Answer:
        since = self.rows.get((address, "*", WORDS[table]))
        if since is None:
            return json_answer({"message": f"Address not found in {table} table"}, 404)
        at = datetime.fromtimestamp(since, UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
        return json_answer({"address": address, "code": "550", "error": "no such mailbox", "created_at": at})

    def _page(self, table: str, asked: Asked) -> Answer:
        tags: dict[str, list[str]] = {}
        sinces: dict[str, float] = {}
        for (address, tag, word), since in self.rows.items():
            if word == WORDS.get(table, "unsubscribe"):
                tags.setdefault(address, []).append(tag)
                sinces[address] = max(since, sinces.get(address, since))
        after = asked.query.get("address", "")
        addresses = sorted(address for address in tags if address > after)[:PAGE]
        items: list[dict[str, Any]] = [
            {
                "address": address,
                "created_at": datetime.fromtimestamp(sinces[address], UTC).strftime("%a, %d %b %Y %H:%M:%S UTC"),
                **({"tags": tags[address]} if table == "unsubscribes" else {}),
                **({"code": "550", "error": "no such mailbox"} if table == "bounces" else {}),
            }
            for address in addresses
        ]
        last = quote(addresses[-1] if addresses else after)
        page = "https://api.mailgun.net/?page="
        paging = {
            "first": f"{page}first",
            "previous": f"{page}previous",
            "next": f"{page}next&address={last}",
            "last": f"{page}last",
        }
        return json_answer({"items": items, "paging": paging})
