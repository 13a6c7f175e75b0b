"""HTTP calls to providers: timeouts, rate limit, classes of failure.

Invariant: a call ends in an answer, TryLater, Rejected or Misconfigured; errors quote neither request nor answer.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from preferences.domain.errors import Misconfigured, Rejected, TryLater

TIMEOUT: Final = (3.05, 10.0)
"""Seconds to connect and to read; well below a cursor claim."""

LONGEST_WAIT: Final = 3600.0
"""Maximum requested wait, in seconds."""

RESETS: Final = ("x-ratelimit-reset", "ratelimit-reset", "x-sib-ratelimit-reset", "x-rate-limit-reset")
"""Headers beside Retry-After: Unix time of the reset, or seconds until it."""

AN_INSTANT: Final = 1e9
"""Larger numbers are Unix times, not waits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are in lower case. `document` is None without JSON."""

    status: int
    headers: Mapping[str, str]
    document: Any


class SendingLimit:
    """Evenly spaced calls; 0 for no limit."""

    def __init__(self, calls_per_second: float) -> None:
        self._gap = 1.0 / calls_per_second if calls_per_second else 0.0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            starts_at = max(now, self._free_at)
            self._free_at = starts_at + self._gap
        time.sleep(starts_at - now)


class Session:
    """Calls to one provider, without redirects and rate-limited."""

    def __init__(self, calls_per_second: float = 0.0) -> None:
        # Web processes never need it.
        import requests

        self._session = requests.Session()
        # Without this, requests may replace the key by a password from .netrc.
        self._session.auth = _no_auth
        self._pace = SendingLimit(calls_per_second)

    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded JSON of a 2xx answer, None if empty. Raises TryLater, Rejected or Misconfigured."""
        return self.ask(method, url, headers=headers, body=body, params=params).document

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """The answer if 2xx or in `accept`. Raises TryLater, Rejected or Misconfigured."""
        answer = self._request(method, url, headers=headers, body=body, params=params)
        lower = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status_code not in accept:
            raise_for(answer.status_code, lower)
        return Answer(answer.status_code, lower, _document(answer.content, is_success=answer.ok))

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> None:
        """Post, ignoring the answer's body. Raises TryLater, Rejected or Misconfigured."""
        answer = self._request("POST", url, headers=headers, body=body)
        raise_for(answer.status_code, {name.lower(): value for name, value in answer.headers.items()})

    def _request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        import requests

        self._pace.wait()
        try:
            return self._session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                params=params,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            # The error's text quotes addresses.
            raise TryLater(type(error).__name__) from None


def _no_auth(request: Any) -> Any:
    return request


def _document(content: bytes, *, is_success: bool) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        if is_success:
            raise TryLater("an answer that is not JSON") from None
        return None


def json_body(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def basic_auth(user: str, password: str) -> dict[str, str]:
    """HTTP basic authentication (RFC 7617)."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def batches(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    return [items[start : start + most] for start in range(0, len(items), most)]


def with_version(base_url: str, host: str, version: str) -> str:
    """Add the API version if left out."""
    parts = urlsplit(base_url)
    return f"{base_url}{version}" if not parts.path and (parts.hostname or "").endswith(host) else base_url


def raise_for(status: int, headers: Mapping[str, str]) -> None:
    """Raise TryLater for 408, 425, 429 and 5xx; Rejected for 400, 409, 413 and 422; Misconfigured for redirects and
    other 4xx. Header names are in lower case.
    """
    if 200 <= status < 300:
        return
    if status in {408, 425, 429} or status >= 500:
        raise TryLater(f"answer {status}", after=wait_asked_for(headers, datetime.now(UTC)))
    if status in {400, 409, 413, 422}:
        raise Rejected(f"answer {status}")
    raise Misconfigured(f"answer {status}: check address, key and mapping")


def wait_asked_for(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait by Retry-After, else by a provider's header."""
    asked = seconds_to_wait(headers.get("retry-after"), now)
    if asked is not None:
        return asked
    resets = (seconds_to_wait(headers.get(name), now) for name in RESETS)
    return next((seconds for seconds in resets if seconds is not None), None)


def seconds_to_wait(text: str | None, now: datetime) -> float | None:
    """Read seconds, a date (RFC 9110 §10.2.3) or a Unix time; at most an hour."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    if seconds != seconds:  # noqa: PLR0124 - NaN
        return None
    if seconds >= AN_INSTANT:
        seconds -= now.timestamp()
    return min(max(seconds, 0.0), LONGEST_WAIT)
