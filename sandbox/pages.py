"""The sandbox's pages for developers, and the JSON behind their buttons, which tests use as well.

Owns what is shown and asked; decides nothing. Invariant: a page changes nothing by being opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, abort, g, jsonify, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from sandbox.clock import iso_now
from sandbox.company import UnknownTopic
from sandbox.config import Person, name_from
from sandbox.faults import BadFault
from sandbox.mailbox import Mail, NoOneClick, one_click
from sandbox.mailer import LETTERS, OUTLET
from sandbox.offers import OUTLET_FOLDER
from sandbox.platform import GLOBAL_LIST, LISTS
from sandbox.world import current_sandbox

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'"
)
CHANNELS: Final = {"email": "email", "sms": "text message", "voice": "phone call", "post": "post"}

MAIL_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline';"
    " sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox"
)
"""A mail program runs no script of a mail and loads nothing; its links open in a window of their own.

Same origin, so that the page around it may measure its height.
"""

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def overview() -> str:
    """The story in four steps."""
    return render_template("overview.html", letters=LETTERS, sendings=current_sandbox().company.sendings(limit=3))


@blueprint.get("/mailbox")
def mailbox() -> str:
    """All mails, or those of one person (`?person=`, counted from 1)."""
    counts = current_sandbox().mailbox.counts()
    owners = _owners(counts)
    number = request.args.get("person", 0, type=int)
    person = owners[number - 1] if 0 < number <= len(owners) else None
    return render_template(
        "mailbox.html",
        letters=LETTERS,
        counts=counts,
        owners=owners,
        person=person,
        mails=current_sandbox().mailbox.mails(person.address if person else None, limit=100),
        sendings=current_sandbox().company.sendings(limit=1),
    )


@blueprint.get("/mailbox/<int:mail_id>")
def mail(mail_id: int) -> str:
    """One mail as a mail program shows it; `?view=text` and `?view=source` for the other tabs."""
    view = request.args.get("view", "message")
    return render_template("mail.html", mail=_mail(mail_id), view=view)


@blueprint.get("/mailbox/<int:mail_id>/body")
def mail_body(mail_id: int) -> Response:
    """The HTML part alone, for the frame of the page above."""
    # After the doctype, for in front of it the page would be laid out as in the nineties.
    response = Response(re.sub(r"(?i)^\s*(<!doctype[^>]*>)?", r'\1<base target="_blank">', _mail(mail_id).html))
    response.headers["Content-Security-Policy"] = MAIL_POLICY
    return response


@blueprint.get("/platform")
def platform() -> str:
    """The pretend platform: its list, its faults, and what it heard and said."""
    sandbox = current_sandbox()
    suppressions = sandbox.platform.suppressions()
    lists_of: dict[str, list[str]] = {}
    for row in suppressions:
        lists_of.setdefault(row["address"], []).append(f"{row['list']}: {row['kind']}")
    return render_template(
        "platform.html",
        suppressions=suppressions,
        lists_of=lists_of,
        lists=LISTS,
        channels=CHANNELS,
        faults=sandbox.platform.faults,
        pushes=sandbox.platform.pushes(),
        webhooks=sandbox.outbox.webhooks(),
    )


@blueprint.get("/api/version")
def version() -> Response:
    """Changes whenever a page would look different; the pages ask twice a second."""
    return jsonify(version=current_sandbox().store.version)


@blueprint.get("/api/suppressions")
def suppressions() -> Response:
    return jsonify(suppressions=current_sandbox().platform.suppressions())


@blueprint.get("/api/mails")
def mails() -> Response:
    """All mails, the newest first, or those to `?address=`."""
    return jsonify(mails=[mail.as_json() for mail in current_sandbox().mailbox.mails(request.args.get("address"))])


@blueprint.get("/api/mails/<int:mail_id>/raw")
def raw_mail(mail_id: int) -> Response:
    """The bytes as they arrived, to save as an .eml file."""
    return Response(_mail(mail_id).raw, mimetype="message/rfc822")


@blueprint.post("/api/mails/<int:mail_id>/one-click")
def press_unsubscribe(mail_id: int) -> Response:
    """Press the mail program's own "Unsubscribe"."""
    try:
        return jsonify(one_click(_mail(mail_id)).as_json())
    except NoOneClick as error:
        raise BadRequest(str(error)) from error


@blueprint.post("/api/send")
def send() -> Response:
    """Send to all customers, or to `addresses`: {"topic": "product-news"}."""
    asked = _asked()
    try:
        sending = current_sandbox().company.send(_text(asked, "topic"), _addresses(asked))
    except UnknownTopic as error:
        raise BadRequest(str(error)) from error
    return jsonify(sending.as_json())


@blueprint.get("/api/faults")
def faults() -> Response:
    return jsonify(current_sandbox().platform.faults.as_json())


@blueprint.post("/api/faults")
def set_faults() -> Response:
    """Switch faults on and off: {"down": true}. Those not named stay as they are."""
    try:
        current_sandbox().platform.faults = current_sandbox().platform.faults.changed(_asked())
    except BadFault as error:
        raise BadRequest(str(error)) from error
    return faults()


@blueprint.get("/api/webhooks")
def webhooks() -> Response:
    """What the platform reported, the newest first."""
    return jsonify(webhooks=current_sandbox().outbox.webhooks())


@blueprint.post("/api/webhooks/<webhook_id>/retry")
def retry_webhook(webhook_id: str) -> Response:
    current_sandbox().outbox.try_again(webhook_id)
    return jsonify(id=webhook_id)


@blueprint.get("/api/pushes")
def pushes() -> Response:
    """What the platform was told, the newest first."""
    return jsonify(pushes=current_sandbox().platform.pushes())


@blueprint.post("/api/events")
def event() -> Response:
    """Let something happen at the platform: {"kind": "complaint", "address": ..., "list": "global"}."""
    asked = {"list": GLOBAL_LIST, "occurred_at": iso_now()} | _asked()
    kind, address, list_name, at = (_text(asked, name) for name in ("kind", "address", "list", "occurred_at"))
    try:
        webhook_id = current_sandbox().platform.happened(kind, address.lower(), list_name, occurred_at=at)
    except ValueError as error:
        raise BadRequest("occurred_at is not an instant such as 2026-05-31T14:00:00+00:00") from error
    return jsonify(id=webhook_id)


@blueprint.post("/api/reset")
def reset() -> Response:
    """Start over: no mails, no suppressions, no faults. The preference center is not touched."""
    current_sandbox().reset()
    return jsonify(version=current_sandbox().store.version)


@blueprint.before_request
def prepare() -> None:
    # Before anything is read: a page may claim to be older than it is, never newer, or it would miss a change.
    g.version = current_sandbox().store.version
    # JSON alone: a page of another site can post a form here, but not this.
    if request.method == "POST" and not request.is_json:
        raise UnsupportedMediaType("JSON, please")


@blueprint.after_request
def guard(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.errorhandler(HTTPException)
def wrong(error: HTTPException) -> HTTPException:
    """JSON for what a script called, a page for what a person opened."""
    if request.path.startswith("/api/"):
        response = jsonify(title=error.description, status=error.code)
        response.status_code = error.code or 500
        error.response = response
    return error


@blueprint.app_context_processor
def on_every_page() -> dict[str, Any]:
    sandbox = current_sandbox()
    return {
        "version": g.version,
        "people": sandbox.company.people,
        "preferences_url": sandbox.config.preferences_url,
        "outlet": {"name": OUTLET, "url": f"{sandbox.config.preferences_url}/{OUTLET_FOLDER}"},
    }


def _owners(counts: Mapping[str, int]) -> list[Person]:
    """The company's people, and everybody else who got mail: whoever has just signed up."""
    known = {person.address: person for person in current_sandbox().company.people}
    strangers = [Person(name_from(address), address) for address in counts if address not in known]
    return [*known.values(), *strangers]


def _mail(mail_id: int) -> Mail:
    return current_sandbox().mailbox.find(mail_id) or abort(404)


def _asked() -> dict[str, Any]:
    asked = request.get_json()
    if not isinstance(asked, dict):
        raise BadRequest("a JSON object, please")
    return asked


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{name} is missing, or is no text")
    return value.strip()


def _addresses(asked: dict[str, Any]) -> list[str] | None:
    addresses = asked.get("addresses")
    if addresses is None or (isinstance(addresses, list) and all(isinstance(address, str) for address in addresses)):
        return addresses
    raise BadRequest("addresses is no list of text")
