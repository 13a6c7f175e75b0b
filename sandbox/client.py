"""How a sending system asks the preference center: may I send, and with which links?

Owns the two calls and their words. Invariant: whatever goes wrong on the way is NoAnswer, because all that the sender
must know is that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests


class NoAnswer(Exception):
    """The preference center did not answer, or would not. What to do then depends on the message class."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one address may be sent to, and why."""

    address: str
    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Links:
    """What a message to one address must carry. A transactional one has neither headers nor an unsubscribe link."""

    address: str
    unsubscribe_url: str | None
    manage_url: str | None
    headers: dict[str, str]


class Center:
    """The preference center, seen from a sending system."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url.rstrip("/")
        self._api_key = api_key

    def decide(self, message_class: str, topic: str, addresses: Sequence[str]) -> dict[str, Decision]:
        """Ask for permission, right before sending: one decision for each address. Raises NoAnswer."""
        question = {"channel": "email", "class": message_class, "topic": topic, "addresses": list(addresses)}
        return {
            item["address"]: Decision(item["address"], allowed=item["allowed"], reason=item["reason"])
            for item in self._ask("decisions", question)
        }

    def link(self, topic: str, addresses: Sequence[str], message_ref: str) -> dict[str, Links]:
        """Ask for signed links and headers, for each address. Raises NoAnswer.

        `message_ref` names the sending; the preference center keeps it with every click.
        """
        question = {"channel": "email", "topic": topic, "message_ref": message_ref, "addresses": list(addresses)}
        return {
            item["address"]: Links(
                item["address"], item["unsubscribe_url"], item["manage_url"], headers=item["headers"]
            )
            for item in self._ask("links", question)
        }

    def is_ready(self) -> bool:
        """Whether the preference center is up, with its database."""
        try:
            return requests.get(f"{self._url}/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    def _ask(self, what: str, question: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            answer = requests.post(
                f"{self._url}/api/v1/{what}",
                json=question,
                headers={"Authorization": f"Bearer {self._api_key}"},
                timeout=10,
                allow_redirects=False,
            )
            if answer.status_code != 200:
                raise NoAnswer(f"status {answer.status_code}")
            items: list[dict[str, Any]] = answer.json()[what]
        except (requests.RequestException, ValueError, KeyError) as error:
            raise NoAnswer(type(error).__name__) from error
        if {item["address"] for item in items} != set(question["addresses"]):
            raise NoAnswer("an answer about other addresses")
        return items
