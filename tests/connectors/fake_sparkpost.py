"""A SparkPost with account-level and list-level entries. A DELETE that names no level removes everything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from tests.connectors.contract import Answer, Asked
from tests.connectors.fakes import Change, FakeVendor, json_answer

SOURCES: Final = {
    "unsubscribe": "List Unsubscribe",
    "manual": "Manually Added",
    "bounce": "Bounce Rule",
    "complaint": "Spam Complaint",
    "compliance": "Compliance",
}
PAGE: Final = 3


class Fake(FakeVendor):
    kind = "sparkpost"

    def holds(self, address: str, list_ref: str) -> bool:
        return any((address, list_ref, word) in self.rows for word in SOURCES)

    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        assert asked.headers["authorization"] == "key-1"
        _, _, _, *recipient = asked.path.strip("/").split("/")
        match asked.method, recipient:
            case "PUT", []:
                return self._put(json.loads(asked.body)["recipients"])
            case "GET", []:
                return [], self._page(asked)
            case "GET", [name]:
                rows = [row for row in self._all() if row["recipient"] == unquote(name)]
                return [], json_answer({"results": rows, "links": []}, 200 if rows else 404)
            case "DELETE", [name]:
                return self._delete(asked, unquote(name))
        return [], json_answer({"errors": [{"message": "not found"}]}, 404)

    def _put(self, rows: list[dict[str, Any]]) -> tuple[Sequence[Change], Answer]:
        assert len(rows) <= 10_000
        bad = [row["recipient"] for row in rows if row["recipient"] in self.refused]
        if bad:
            return [], json_answer({"errors": [{"message": f"invalid recipient(s): {', '.join(bad)}"}]}, 400)
        changes = [Change(row["recipient"], _ref(row.get("list_id"), row["type"]), "manual") for row in rows]
        return changes, json_answer({"results": {"message": "Suppression List successfully updated"}})

    def _delete(self, asked: Asked, address: str) -> tuple[Sequence[Change], Answer]:
        body = json.loads(asked.body or b"{}")
        level = _ref(asked.query.get("list_id"), body.get("type", "transactional"))
        mine = [key for key in self.rows if key[0] == address and ("list_id" not in asked.query or key[1] == level)]
        if any(word == "compliance" for _, _, word in mine):
            return [], json_answer({"errors": [{"message": "Recipient could not be removed - Compliance"}]}, 403)
        changes = [Change(address, list_ref, word, stands=False) for _, list_ref, word in mine]
        return changes, Answer(204 if mine else 404)

    def _all(self) -> list[dict[str, Any]]:
        return [
            {
                "recipient": address,
                "type": "transactional" if list_ref == "transactional" else "non_transactional",
                "source": SOURCES[word],
                "created": datetime.fromtimestamp(since, UTC).isoformat(),
                "updated": datetime.fromtimestamp(since, UTC).isoformat(),
                **({"list_id": list_ref.removeprefix("list:")} if list_ref.startswith("list:") else {}),
            }
            for (address, list_ref, word), since in sorted(self.rows.items())
        ]

    def _page(self, asked: Asked) -> Answer:
        assert int(asked.query["per_page"]) <= 10_000
        start = 0 if asked.query["cursor"] == "initial" else int(asked.query["cursor"])
        rows = self._all()
        href = f"https://elsewhere.example/api/v1/suppression-list?cursor={start + PAGE}&per_page=10000"
        links = [{"href": href, "rel": "next"}] if start + PAGE < len(rows) else []
        return json_answer({"results": rows[start : start + PAGE], "links": links, "total_count": len(rows)})


def _ref(list_id: str | None, kind: str) -> str:
    if kind == "transactional":
        return kind
    return f"list:{list_id}" if list_id else "global"
