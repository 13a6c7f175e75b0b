"""Calls to a provider over HTTP: time-outs, pace, and each failure put into its class.

Owns the session and what a status and its headers mean when the vendor says nothing else. Invariant: whatever a
provider answers, or fails to, comes out as an answer or as one of TryLater, Rejected and Misconfigured, and none of
them quotes what was sent or answered.
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
"""Seconds to connect and to wait for an answer. Well below a lease, so that no pass outlives its own."""

LONGEST_WAIT: Final = 3600.0
"""The most seconds that a provider can keep us away, whatever it asks for."""

RESETS: Final = ("x-ratelimit-reset", "ratelimit-reset", "x-sib-ratelimit-reset", "x-rate-limit-reset")
"""Where vendors say when their limit ends, beside Retry-After: an instant in unix seconds, or the seconds until it."""

AN_INSTANT: Final = 1e9
"""From here on a number of seconds is an instant and no wait (2001; no vendor keeps us away for thirty years)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered. Names of headers are in small letters; `document` is None where there is no JSON."""

    status: int
    headers: Mapping[str, str]
    document: Any


class SendingLimit:
    """At most so many calls a second, evenly spaced; 0 for as many as one likes."""

    def __init__(self, calls_per_second: float) -> None:
        self._gap = 1.0 / calls_per_second if calls_per_second else 0.0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may go out."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            starts_at = max(now, self._free_at)
            self._free_at = starts_at + self._gap
        time.sleep(starts_at - now)


class Session:
    """Calls to one provider: time-outs, no redirects, its pace, and each failure put into its class."""

    def __init__(self, calls_per_second: float = 0.0) -> None:
        # Here and not above: web processes only verify and parse, and are spared the memory.
        import requests

        self._session = requests.Session()
        # No password of the machine's .netrc in place of the connector's own key.
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
        """The decoded JSON of a 2xx answer (None when empty). Raises TryLater, Rejected or Misconfigured."""
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
        """The answer, if it is 2xx or its status is in `accept`. Raises TryLater, Rejected or Misconfigured."""
        answer = self._request(method, url, headers=headers, body=body, params=params)
        lower = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status_code not in accept:
            raise_for(answer.status_code, lower)
        return Answer(answer.status_code, lower, _document(answer.content, is_success=answer.ok))

    def tell(self, url: str, *, headers: Mapping[str, str], body: bytes) -> None:
        """Post to whoever need not answer anything but 2xx. Raises TryLater, Rejected or Misconfigured."""
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
            # Only the kind: the text of these errors quotes addresses and parameters.
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
    """A JSON body, small and in ASCII."""
    return json.dumps(document, separators=(",", ":")).encode()


def basic_auth(user: str, password: str) -> dict[str, str]:
    """The header of HTTP basic authentication (RFC 7617)."""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def batches(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """The items in order, so many at a time."""
    return [items[start : start + most] for start in range(0, len(items), most)]


def with_version(base_url: str, host: str, version: str) -> str:
    """The address of an interface whose version stands in its root, also where an operator has left it out."""
    parts = urlsplit(base_url)
    return f"{base_url}{version}" if not parts.path and (parts.hostname or "").endswith(host) else base_url


def raise_for(status: int, headers: Mapping[str, str]) -> None:
    """The failure class of an HTTP status: 2xx none; 408, 425, 429 and 5xx pass; 400, 409, 413 and 422 are about what
    was sent; redirects and every other 4xx are ours to mend. Names of `headers` are in small letters."""
    if 200 <= status < 300:
        return
    if status in {408, 425, 429} or status >= 500:
        raise TryLater(f"answer {status}", after=wait_asked_for(headers, datetime.now(UTC)))
    if status in {400, 409, 413, 422}:
        raise Rejected(f"answer {status}")
    raise Misconfigured(f"answer {status}: check address, key and mapping")


def wait_asked_for(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that an answer asks us to stay away: by Retry-After, or else by the vendor's own header."""
    asked = seconds_to_wait(headers.get("retry-after"), now)
    if asked is not None:
        return asked
    resets = (seconds_to_wait(headers.get(name), now) for name in RESETS)
    return next((seconds for seconds in resets if seconds is not None), None)


def seconds_to_wait(text: str | None, now: datetime) -> float | None:
    """What a header asks for (RFC 9110 §10.2.3: seconds or a date; some vendors: an instant in unix seconds).

    At most an hour; None if it says nothing.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    if seconds != seconds:  # noqa: PLR0124 - not a number, which no comparison below would catch
        return None
    if seconds >= AN_INSTANT:
        seconds -= now.timestamp()
    return min(max(seconds, 0.0), LONGEST_WAIT)
