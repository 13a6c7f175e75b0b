"""A stand-in for the preference center, so that the sandbox can be tested alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import requests
from flask import Flask, Response, jsonify, request
from standardwebhooks.webhooks import Webhook
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.servers import free_port

SIGNING_SECRET = "whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXRlc3Rz"
WEBHOOK_SECRET = "whsec_d2ViaG9vay1zZWNyZXQtb2YtdGhlLXRlc3Rz"
API_KEY = "key-of-the-platform"
PREFERENCES_API_KEY = "key-of-the-company"
PUBLIC_URL = "https://preferences.example.com"


class StubCenter:
    """Answers as a preference center does, and remembers what it was told.

    `said_no` holds who gets no marketing. `webhook_answers` are given one by one, then 200. `broken` makes every
    answer of the API a 503.
    """

    def __init__(self, port: int | None = None) -> None:
        self.said_no: set[str] = set()
        self.forgets: set[str] = set()
        self.broken = False
        self.webhook_answers: list[tuple[int, dict[str, str]]] = []
        self.webhooks: list[dict[str, Any]] = []
        self.clicks: list[dict[str, Any]] = []
        self.click_answer: tuple[str, int, dict[str, str]] = ("<title>x</title><p>You're out</p>", 200, {})
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server = make_server("127.0.0.1", self.port, self._app(), threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _app(self) -> Flask:
        app = Flask("stub")
        app.add_url_rule("/readyz", view_func=lambda: "ready")
        app.add_url_rule("/api/v1/decisions", view_func=self._decide, methods=["POST"])
        app.add_url_rule("/api/v1/links", view_func=self._link, methods=["POST"])
        app.add_url_rule("/webhooks/sandbox", view_func=self._webhook, methods=["POST"])
        app.add_url_rule("/u/<token>", view_func=self._click, methods=["POST"])
        return app

    def _decide(self) -> Response:
        self._refuse_if_broken()
        asked = request.get_json()
        return jsonify(
            as_of="now",
            decisions=[
                {
                    "address": address,
                    "allowed": asked["class"] == "transactional" or address not in self.said_no,
                    "reason": "unsubscribed" if address in self.said_no else "subscribed",
                    "rule": "stub",
                    "entry": 1,
                }
                for address in asked["addresses"]
                if address not in self.forgets
            ],
        )

    def _link(self) -> Response:
        self._refuse_if_broken()
        asked = request.get_json()
        return jsonify(links=[_links(asked, number, self.url) for number in range(len(asked["addresses"]))])

    def _refuse_if_broken(self) -> None:
        from flask import abort

        if request.headers["Authorization"] != f"Bearer {PREFERENCES_API_KEY}":
            abort(401)
        if self.broken:
            abort(503)

    def _webhook(self) -> Response:
        body = request.get_data()
        Webhook(WEBHOOK_SECRET).verify(body, dict(request.headers))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.webhooks.append({**json.loads(body), "headers": headers, "at": datetime.now(UTC)})
        status, extra = self.webhook_answers.pop(0) if self.webhook_answers else (200, {})
        return Response("heard", status, headers=extra)

    def _click(self, token: str) -> Response:
        self.clicks.append({"token": token, "body": request.get_data(), "headers": dict(request.headers)})
        text, status, extra = self.click_answer
        return Response(text, status, headers=extra)


def _links(asked: dict[str, Any], number: int, url: str) -> dict[str, Any]:
    token = f"{'t' * 130}{number}"
    links = {"address": asked["addresses"][number], "manage_url": f"{url}/p/{token}"}
    if asked["topic"] == "receipts":
        return {**links, "unsubscribe_url": None, "headers": {}}
    link = f"{url}/u/{token}"
    headers = {
        "List-Unsubscribe": f"<{link}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{asked['topic']}.default.list-id.example.com>",
    }
    return {**links, "unsubscribe_url": link, "headers": headers}


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name is werkzeug's
        pass


def change(address: str, **others: Any) -> dict[str, Any]:
    """One item of a push: an unsubscribe from product-news, unless `others` say otherwise."""
    return {
        "contact": f"id-of-{address}",
        "channel": "email",
        "address": address,
        "list": "product-news",
        "status": "unsubscribed",
        "reason": None,
        "entry": 7,
        "since": "2026-05-01T10:00:00.123456+00:00",
        **others,
    }


def signed_headers(body: str, secrets: Iterable[str] = (SIGNING_SECRET,), age: float = 0) -> dict[str, str]:
    """The headers of Standard Webhooks, with one signature for each secret."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    return {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign("msg_1", at, body) for secret in secrets),
    }


def push(sandbox_url: str, *changes: dict[str, Any], secrets: Iterable[str] = (SIGNING_SECRET,)) -> requests.Response:
    """Tell the platform what now holds."""
    body = json.dumps({"type": "preferences.changed", "timestamp": "x", "data": {"changes": changes}})
    return requests.post(
        f"{sandbox_url}/platform-api/preferences", data=body, headers=signed_headers(body, secrets), timeout=10
    )
