"""A client for sending systems: one file to copy. It needs Python 3.11 and `requests`, and nothing else of this package.

Owns the calls of the API, their batches and their retries, and the list headers of a message. Invariants: a call that
is repeated counts once; when no answer can be had, marketing is not sent and a transactional message is; no address,
key or link stands in an exception or a log line.

    client = Client("https://preferences.example.com", "pref_…")
    if client.may_send("jane@example.com", topic="product-news").allowed:
        …

A client may be shared between threads: each gets a connection of its own, which stays open from call to call.
"""

from __future__ import annotations

import re
from collections import UserString
from collections.abc import Mapping
from email.message import Message
from email.policy import Policy
from typing import Any, Final

LIST_HEADERS: Final = ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id")
LONGEST_LINE: Final = 998
"""Characters in a line of a message, without its end (RFC 5322 §2.1.1)."""

_PRINTABLE: Final = re.compile(r"[ -~]*[!-~]")
_LIST_HEADER: Final = re.compile(r"List-[A-Za-z-]+")


class BadHeader(ValueError):
    """A list header that a message cannot carry as it is. Names the header, never its value."""


def put_list_headers(message: Message[Any, Any], headers: Mapping[str, str]) -> None:
    """Put the `headers` of a `Links` on a message, each once, on one line, exactly as they are.

    Whatever the message had of them before is taken away, so none (`{}`) leaves it without list headers. With its usual
    policies, Python encodes a `List-Unsubscribe` of more than 75 characters into something that mail programs do not
    read (python/cpython#85725); what is put here passes every policy untouched. `str(message["List-Id"])` reads one.

    Raises BadHeader, and leaves the message alone, for a header that would not fit or is not plain ASCII.
    """
    for name, value in headers.items():
        _check_header(name, value)
    for name in {*LIST_HEADERS, *headers}:
        del message[name]
    for name, value in headers.items():
        message[name] = _AsItIs(name, value)


def _check_header(name: str, value: str) -> None:
    if not _LIST_HEADER.fullmatch(name):
        raise BadHeader("only List-… headers are put here")
    if not _PRINTABLE.fullmatch(value):
        raise BadHeader(f"{name} must be one line of printable ASCII")
    if len(name) + len(": ") + len(value) > LONGEST_LINE:
        raise BadHeader(
            f"{name} is longer than the {LONGEST_LINE} characters of a line; shorten PUBLIC_URL or its text"
        )


class _AsItIs(UserString):
    """A header that the policies of `email` write as it is. They fold what is a `str`; this is not one, but reads like
    one. They ask it to fold itself if it has a name, and the oldest of them to encode itself."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(value)
        self.name = name

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self.data}{policy.linesep}"

    def encode(self, *_: object, **__: object) -> str:  # type: ignore[override]
        return self.data
