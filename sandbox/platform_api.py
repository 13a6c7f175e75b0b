"""What the platform offers to the preference center: take a push, list the suppressions, look for single addresses.

Owns the HTTP of these, and how the faults show there. The rest of the sandbox is in `pages`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from sandbox.platform import BadPush, BadSignature, Change
from sandbox.world import current_sandbox

PREFIX: Final = "/platform-api"
LARGEST_PAGE: Final = 1000

blueprint = Blueprint("platform_api", __name__, url_prefix=PREFIX)


@blueprint.post("/preferences")
def take_push() -> Response:
    """Take what the preference center says now holds. Set semantics, so a repeat is harmless."""
    response, outcome, changes = _answer_push()
    webhook_id = request.headers.get("webhook-id", "")[:80]
    current_sandbox().platform.note_push(webhook_id, response.status_code, outcome, changes=changes)
    return response


def _answer_push() -> tuple[Response, str, list[Change]]:
    platform = current_sandbox().platform
    if fault := _fault():
        return fault, "turned away by a fault", []
    try:
        changes = platform.read_push(request.get_data(), dict(request.headers))
    except BadSignature as error:
        return _problem(401, str(error)), "not authentic", []
    except BadPush as error:
        return _problem(400, str(error)), "not understood", []
    rejected = platform.take(changes)
    if platform.faults.lossy:
        return jsonify(rejected=[]), "answered and lost", changes
    return jsonify(rejected=rejected), f"{len(rejected)} rejected" if rejected else "taken", changes


@blueprint.get("/suppressions")
def list_suppressions() -> Response:
    """One page of the suppression list, for a reconcile."""
    platform = current_sandbox().platform
    if refused := _fault() or _unknown():
        return refused
    after = request.args.get("after", 0, type=int)
    limit = max(1, min(request.args.get("limit", LARGEST_PAGE, type=int), LARGEST_PAGE))
    page, following = platform.list_suppressed(after, limit)
    return jsonify(suppressions=page, next=None if following is None else str(following))


@blueprint.post("/suppressions/search")
def search_suppressions() -> Response:
    """What is held against single addresses, which the preference center reads before it tells of a return."""
    if refused := _fault() or _unknown():
        return refused
    try:
        wanted = [(str(item["channel"]), str(item["address"])) for item in json.loads(request.get_data())["addresses"]]
    except (KeyError, TypeError, ValueError):
        return _problem(400, "not as agreed")
    return jsonify(suppressions=current_sandbox().platform.search(wanted))


def _unknown() -> Response | None:
    """The answer to a key that is not the agreed one."""
    if request.headers.get("Authorization") != f"Bearer {current_sandbox().config.api_key}":
        return _problem(401, "the API key is not known")
    return None


def _fault() -> Response | None:
    """The answer that a fault in force gives, after the delay that another one asks for."""
    platform = current_sandbox().platform
    platform.dawdle()
    if platform.faults.down:
        return _problem(503, "the platform is down")
    if platform.faults.busy_seconds:
        response = _problem(429, "too many requests")
        response.headers["Retry-After"] = f"{platform.faults.busy_seconds:.0f}"
        return response
    return None


def _problem(status: int, title: str) -> Response:
    body: dict[str, Any] = {"title": title, "status": status}
    response = jsonify(body)
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response
