"""The unsubscribe link: page, one click, form, undo, reason: `/u/<token>`.

Invariants: GET, HEAD and OPTIONS write nothing; any POST to a valid link acts, whatever its body, cookies or origin,
and gets 200 without redirect or cookie once the opt-out is durable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from flask import Blueprint, g, request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request, Response

from preferences.current import current_services
from preferences.domain.vocabulary import BLANKET, Channel
from preferences.people import opt_outs
from preferences.people.opt_outs import REASONS, LinkState, Outcome, Subject
from preferences.services import Services
from preferences.tokens import UnsubscribeLink, trim
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.render import HTML, PLAIN, Skeleton, render_html
from preferences.web.shared.visit import spoken_in
from preferences.web.slow_bodies import NoThreadFree

MOST_BODY: Final = 64 * 1024
"""Bytes of a body that are parsed. Mail programs send 26."""

MOST_READ: Final = 16 * 1024 * 1024
"""Bytes of a body that are read: a client that is still sending would miss the answer."""

CHANNEL_NAMES: Final = {
    Channel.EMAIL: "email",
    Channel.SMS: "text message",
    Channel.VOICE: "phone",
    Channel.POST: "post",
}
"""Channel names in answers to programs, which are in English."""

PAGE: Final = Skeleton("unsubscribe/page.html")

blueprint = Blueprint("unsubscribe", __name__)


@blueprint.route("/u/<token>", methods=["GET", "POST"], strict_slashes=False)
def answer(token: str) -> Response:
    body, content_type = respond(current_services(), request, link=g.link, token=token)
    return Response(body, content_type=content_type)


def respond(services: Services, request: Request, *, link: UnsubscribeLink, token: str) -> tuple[str, str]:
    """GET shows the page; POST opts out. Returns the body of a 200 and its content type.

    Needs no application context: see `web.front`.
    """
    if request.method != "POST":
        return _page(services, request, token, opt_outs.read_state(services, link)), HTML
    form, evidence = _read_form(request), evidence_of(request, link.message_ref)
    if form.is_from_program and "text/html" not in request.environ.get("HTTP_ACCEPT", ""):
        what, reference = opt_outs.one_click(services, link, evidence)
        return f"You are unsubscribed from {what} by {CHANNEL_NAMES[link.channel]}. Reference {reference}.\n", PLAIN
    done = opt_outs.stop(services, link, intent=form.intent, submission=form.submission, evidence=evidence)
    return _done(services, request, token, done, is_lost=form.is_lost), HTML


@blueprint.route("/u/<token>/undo", methods=["POST"], strict_slashes=False)
def undo(token: str) -> Response:
    services = current_services()
    evidence = evidence_of(request, g.link.message_ref)
    undone = opt_outs.undo(services, g.link, request.form.getlist("undo"), evidence)
    more = _outcome_context(undone) | {"subscribed": undone.subscribed}
    html = _fill_in(services, request, token, undone.subject, template="unsubscribe/undone.html", **more)
    return Response(html, content_type=HTML)


@blueprint.route("/u/<token>/reason", methods=["POST"], strict_slashes=False)
def reason(token: str) -> Response:
    services = current_services()
    kept = opt_outs.give_reason(services, g.link, request.form.get("reason", ""), request.form.getlist("keep"))
    subject = opt_outs.read_subject(services, g.link)
    html = _fill_in(services, request, token, subject, template="unsubscribe/thanks.html", undo=kept)
    return Response(html, content_type=HTML)


def _page(services: Services, request: Request, token: str, state: LinkState) -> str:
    """What the link can stop, and what is stopped. Contacts without opt-outs share a cached page."""
    subject = state.subject
    brand = subject.brand
    return (PAGE.render if state.everything or state.topic else PAGE.fill)(
        services,
        brand=brand,
        spoken=spoken_in(request, brand),
        address=state.address,
        action=f"{services.root_of(brand)}/u/{trim(token)}",
        submission=_new_submission(),
        channel=subject.link.channel,
        topic=subject.topic,
        all_stopped=state.everything,
        topic_stopped=state.topic,
        everywhere=state.every_brand,
        brand_names=subject.brand_names,
    )


def _done(services: Services, request: Request, token: str, done: Outcome, *, is_lost: bool) -> str:
    more = _outcome_context(done) | {
        "undo": done.undo_tokens,
        "reasons": REASONS.items(),
        "is_lost": is_lost,
    }
    return _fill_in(services, request, token, done.subject, template="unsubscribe/done.html", **more)


def _outcome_context(outcome: Outcome) -> dict[str, Any]:
    scope = "topic" if outcome.topic != BLANKET else "brands" if outcome.brands > 1 else "all"
    return {
        "scope": scope,
        "address": outcome.address,
        "reference": outcome.reference,
        "at": outcome.at,
        "submission": _new_submission(),
    }


def _fill_in(
    services: Services, request: Request, token: str, subject: Subject, *, template: str, **context: Any
) -> str:
    action = f"{services.root_of(subject.brand)}/u/{trim(token)}"
    return render_html(
        services,
        template,
        brand=subject.brand,
        spoken=spoken_in(request, subject.brand),
        here=action,
        action=action,
        topic=subject.topic,
        channel=subject.link.channel,
        brand_names=subject.brand_names,
        **context,
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """The page's form. `submission` is its random field.

    `is_from_program`: no form was found, as from a mail program. `is_lost`: the body could not be read, which the page
    mentions.
    """

    intent: str = ""
    submission: str = ""
    is_from_program: bool = False
    is_lost: bool = False


_FROM_PROGRAM: Final = _Form(is_from_program=True)
_LOST: Final = _Form(is_from_program=True, is_lost=True)


def _read_form(request: Request) -> _Form:
    body = _read_body(request)
    if body is None:
        return _LOST
    content_type: str = request.environ.get("CONTENT_TYPE", "")
    if b"intent=" not in body or not content_type.lower().startswith("application/x-www-form-urlencoded"):
        return _FROM_PROGRAM
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=50)
    except ValueError:
        return _Form()
    return _Form(fields.get("intent", [""])[0], fields.get("press", [""])[0])


def _new_submission() -> str:
    return os.urandom(16).hex()


def _read_body(request: Request) -> bytes | None:
    """Up to MOST_BODY bytes; None if the connection broke or no thread was free. The link suffices, so no opt-out
    depends on the body."""
    kept, read = bytearray(), 0
    try:
        while read < MOST_READ and (chunk := request.stream.read(MOST_BODY)):
            kept += chunk[: MOST_BODY - len(kept)]
            read += len(chunk)
    except (ClientDisconnected, NoThreadFree, OSError):
        return None
    return bytes(kept)
