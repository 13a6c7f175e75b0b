"""The unsubscribe link: its page, one click, the page's form, undo and reason.

Owns what a recipient meets behind `/u/<token>`. Invariants: GET, HEAD and OPTIONS write nothing; any POST to a valid
link acts, whatever its body, cookies or origin, and is answered 200 without redirect or cookie only after the act is
durable.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from flask import Blueprint, request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request, Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain import acts
from preferences.domain.addresses import mask
from preferences.domain.consent import effective, is_stopped
from preferences.domain.errors import BadLink, StaleLink, StoreBusy
from preferences.domain.records import Brand, Entry, Preference, Topic
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import BLANKET, Basis, Channel, MessageClass, OneClick, Origin, Status
from preferences.i18n import to_translate
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store.contact_state import Wishes, WishesKey
from preferences.store.reasons import state_reason
from preferences.store.transactions import Write
from preferences.tokens import UNDO_LIFE, UndoToken, UnsubscribeLink, trim
from preferences.web.shared.limits import TooOften, repeats, shorten_ip
from preferences.web.shared.render import Skeleton, plain, render
from preferences.web.shared.visit import spoken_in
from preferences.web.slow_bodies import NoTurn

MOST_BODY: Final = 64 * 1024
"""How much of a body is looked at. A mail program sends 26 bytes; whatever a longer one says, the link is enough."""

MOST_TAKEN: Final = 16 * 1024 * 1024
"""How much of a body is taken off the line: a program that is still sending would miss our answer."""

REASONS: Final = (
    ("too_many", to_translate("Too many messages")),
    ("not_relevant", to_translate("Not relevant to me")),
    ("never_asked", to_translate("I never signed up")),
    ("other_address", to_translate("I get them at another address")),
    ("other", to_translate("Another reason")),
)

CHANNEL_NAMES: Final = {
    Channel.EMAIL: "email",
    Channel.SMS: "text message",
    Channel.VOICE: "phone",
    Channel.POST: "post",
}
"""What a channel is called in an answer to a program, which is in English."""

EVERYWHERE: Final = "all-brands"
"""The intent of stopping all marketing of every brand. Only the page has it, never one click."""

PAGE: Final = Skeleton("unsubscribe/page.html")

blueprint = Blueprint("unsubscribe", __name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A link that was read, with the brand and the topic it names; None for a brand that is no more, and for `*`."""

    link: UnsubscribeLink
    brand: Brand | None
    topic: Topic | None


@blueprint.route("/u/<token>", methods=["GET", "POST"], strict_slashes=False)
def answer(token: str) -> Response:
    """The link itself."""
    return link(current_services(), request, token)


def link(services: Services, request: Request, token: str) -> Response:
    """GET shows the page; any POST stops the mail. Needs no application context: see `web.front`."""
    if request.method != "POST":
        return page(services, request, token)
    opened = _open(services, token)  # before the body: whoever made the token up gets no thread to wait for theirs
    form = _form(request)
    if (form is None or form.is_lost) and "text/html" not in request.headers.get("Accept", ""):
        return one_click(services, request, opened)
    return page_form(services, request, token, opened=opened, form=form or _Form())


def page(services: Services, request: Request, token: str) -> Response:
    """What the link stops, and what has been stopped already."""
    opened = _open(services, token)
    wishes = _wishes(services, opened, opened.link.brand)
    all_stopped = _since(wishes, _no(wishes.choices.get(BLANKET)))
    everywhere = all_stopped is not None and _is_stopped_everywhere(services, opened)
    topic_stopped = _since(wishes, _topic_stopped(wishes, opened))
    return (PAGE.render if all_stopped or topic_stopped else PAGE.fill)(
        services,
        brand=opened.brand,
        spoken=spoken_in(request, opened.brand),
        address=_masked(wishes),
        action=_action(services, opened, token),
        press=_new_press(),
        channel=opened.link.channel,
        topic=opened.topic,
        all_stopped=all_stopped,
        topic_stopped=topic_stopped,
        everywhere=everywhere,
        brand_names=_brand_names(services),
    )


def one_click(services: Services, request: Request, opened: _Opened) -> Response:
    """RFC 8058: a program stops the mail for its reader, without a question."""
    setting = opened.brand.one_click if opened.brand else OneClick.EVERYTHING
    topic = acts.one_click_topic(setting, opened.link.topic)
    try:
        (entry,) = _stop(services, request, opened, topic, Origin.ONE_CLICK, brands=[opened.link.brand])
        counts = entry.hash
    except TooOften:
        # Stopped it is, so a mail program must not tell its reader that it failed.
        counts = _what_stands(services, opened, topic)
    what = opened.topic.name if topic != BLANKET and opened.topic else "all marketing"
    by = CHANNEL_NAMES[opened.link.channel]
    return plain(f"You are unsubscribed from {what} by {by}. Reference {reference_of(counts)}.\n")


def _what_stands(services: Services, opened: _Opened, topic: str) -> str:
    """The hash of the entry by which the topic, or everything, is stopped."""
    wishes = _wishes(services, opened, opened.link.brand)
    choice = effective(wishes.choices.get(topic), wishes.choices.get(BLANKET))
    return wishes.entry_hashes[choice.seq] if choice else ""


def page_form(services: Services, request: Request, token: str, *, opened: _Opened, form: _Form) -> Response:
    """The page's own form, or another post from a browser: stop, and show what was stopped."""
    setting = opened.brand.one_click if opened.brand else OneClick.EVERYTHING
    topic = {"all": BLANKET, EVERYWHERE: BLANKET, "topic": opened.link.topic}.get(form.intent)
    topic = topic or acts.one_click_topic(setting, opened.link.topic)
    brands = _all_brands(services, opened) if form.intent == EVERYWHERE else [opened.link.brand]
    entries = _stop(services, request, opened, topic, Origin.PAGE, brands=brands, press=form.press)
    entry = entries[0]
    wishes = [_wishes_after(services, opened, brand) for brand in brands]
    choice = wishes[0].choices.get(topic)
    reference = reference_of(wishes[0].entry_hashes.get(choice.seq, entry.hash) if choice else entry.hash)
    undo = _undo_tokens(services, opened, entries, wishes)
    return render(
        services,
        "unsubscribe/done.html",
        brand=opened.brand,
        spoken=spoken_in(request, opened.brand),
        here=_action(services, opened, token),
        topic=opened.topic,
        scope=_scope(topic, len(brands)),
        address=_masked(wishes[0]),
        reference=reference,
        at=choice.since if choice else entry.recorded_at,
        undo=undo,
        undo_until=entry.recorded_at + UNDO_LIFE if undo else None,
        reasons=REASONS,
        channel=opened.link.channel,
        brand_names=_brand_names(services),
        action=_action(services, opened, token),
        press=_new_press(),
        is_lost=form.is_lost,
    )


def _undo_tokens(services: Services, opened: _Opened, entries: Sequence[Entry], wishes: Sequence[Wishes]) -> list[str]:
    """What takes back all that this very press has stopped: a token for each brand.

    Whoever presses twice sends the same press, and finds their own entry again. What somebody else has stopped, however
    short a while ago, is not theirs to take back.
    """
    now = datetime.now(UTC)
    return [
        services.links.sign_undo(UndoToken(opened.link.contact_id, entry.seq, entry.recorded_at))
        for entry, held in zip(entries, wishes, strict=True)
        if entry.changed and now < entry.recorded_at + UNDO_LIFE and _is_stopped_since(held, entry)
    ]


def _is_stopped_since(wishes: Wishes, entry: Entry) -> bool:
    """Whether what the entry stopped is stopped still, and not only again."""
    choice = _no(wishes.choices.get(entry.topic))
    return choice is not None and choice.seq <= entry.seq


@blueprint.route("/u/<token>/undo", methods=["POST"], strict_slashes=False)
def undo(token: str) -> Response:
    """Put back what the done page's entries changed: all of it, or nothing."""
    services, now = current_services(), datetime.now(UTC)
    opened = _open(services, token)
    tokens = list(dict.fromkeys(request.form.getlist("undo"))) or [""]
    undos = [services.links.read_undo(one, now) for one in tokens]
    if any(one.contact_id != opened.link.contact_id for one in undos):
        raise BadLink("an undo of somebody else")
    details = circumstances(request, opened.link.message_ref)
    entry, *others = services.writer.run(_undo_all, undos, now=now, details=details)
    metrics.RECORDED.labels(Origin.UNDO).inc(len(undos))
    wishes = _wishes_after(services, opened, opened.link.brand)
    return render(
        services,
        "unsubscribe/undone.html",
        brand=opened.brand,
        spoken=spoken_in(request, opened.brand),
        here=_action(services, opened, token),
        topic=opened.topic,
        scope=_scope(entry.topic, len(others) + 1),
        subscribed=entry.topic != BLANKET and _is_subscribed(wishes, entry.topic),
        address=_masked(wishes),
        reference=reference_of(entry.hash),
        at=entry.recorded_at,
        channel=opened.link.channel,
        brand_names=_brand_names(services),
        action=_action(services, opened, token),
        press=_new_press(),
    )


def _undo_tokens_kept(services: Services, opened: _Opened, tokens: Sequence[str]) -> list[str]:
    """Those of the done page, as far as they still work, so that who says why can take it back on the next page."""
    now, kept = datetime.now(UTC), []
    for token in dict.fromkeys(tokens):
        with suppress(BadLink, StaleLink):
            if services.links.read_undo(token, now).contact_id == opened.link.contact_id:
                kept.append(token)
    return kept


def _undo_all(write: Write, undos: Sequence[UndoToken], *, now: datetime, details: Mapping[str, str]) -> list[Entry]:
    return [ledger.undo(write, one.seq, contact_id=one.contact_id, now=now, details=details) for one in undos]


@blueprint.route("/u/<token>/reason", methods=["POST"], strict_slashes=False)
def reason(token: str) -> Response:
    """Note why, for who wants to say: after the choice, and never needed for it."""
    services = current_services()
    opened = _open(services, token)
    wishes = _wishes(services, opened, opened.link.brand)
    choice = _topic_stopped(wishes, opened) or _no(wishes.choices.get(BLANKET))
    given = request.form.get("reason", "")
    if choice is not None and given in dict(REASONS):
        seq, now = choice.seq, datetime.now(UTC)
        services.database.save(state_reason, seq, given, now)
    return render(
        services,
        "unsubscribe/thanks.html",
        brand=opened.brand,
        spoken=spoken_in(request, opened.brand),
        undo=_undo_tokens_kept(services, opened, request.form.getlist("keep")) if choice is not None else [],
        here=_action(services, opened, token),
        action=_action(services, opened, token),
    )


def circumstances(request: Request, message_ref: str = "") -> Mapping[str, str]:
    """What proves an act, and no more: a shortened network address, the program's name, the mail it came from."""
    details = {
        "network": shorten_ip(request.remote_addr or ""),
        "user_agent": request.headers.get("User-Agent", "")[:200],
        "message_ref": message_ref,
    }
    return {name: value for name, value in details.items() if value}


def _open(services: Services, token: str) -> _Opened:
    link = services.links.read_unsubscribe(token)
    catalog = services.catalog.get()
    topic = None if link.topic == BLANKET else catalog.topics.get(link.topic) or _retired(link)
    return _Opened(link, catalog.brands.get(link.brand), topic)


def _retired(link: UnsubscribeLink) -> Topic:
    """A topic that is no more, as far as its slug tells: an old mail's link must still speak of it."""
    return Topic(
        slug=link.topic,
        brand=link.brand,
        name=link.topic.replace("-", " ").capitalize(),
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=(link.channel,),
    )


def _stop(
    services: Services,
    request: Request,
    opened: _Opened,
    topic: str,
    origin: Origin,
    *,
    brands: Sequence[str],
    press: str = "",
) -> list[Entry]:
    """Stop the topic of each brand. Returns an entry for each. Raises TooOften for what is not worth recording."""
    link = opened.link
    if _is_repetition(services, opened, topic, brands):
        raise TooOften("an opt-out that changes nothing, too many times in a minute")
    now, evidence = datetime.now(UTC), circumstances(request, link.message_ref)
    entries = services.writer.record(
        [
            acts.unsubscribe(
                link.contact_id,
                link.channel,
                brand=brand,
                topic=topic,
                origin=origin,
                now=now,
                evidence=evidence,
                ref=acts.press_ref(press, link.contact_id, link.channel, brand=brand, topic=topic),
            )
            for brand in brands
        ]
    )
    repeats.count(entries)
    metrics.RECORDED.labels(origin).inc(len(entries))
    return entries


def _is_repetition(services: Services, opened: _Opened, topic: str, brands: Sequence[str]) -> bool:
    """Whether this was recorded so often in this minute that once more is not needed, and would change nothing."""
    link = opened.link
    if not all(repeats.is_reached(link.contact_id, link.channel, brand=brand, topic=topic) for brand in brands):
        return False
    return all(is_stopped(_wishes(services, opened, brand).choices, topic) for brand in brands)


def _all_brands(services: Services, opened: _Opened) -> list[str]:
    """Every brand, the link's own first."""
    return list(dict.fromkeys((opened.link.brand, *services.catalog.get().brands)))


def _is_stopped_everywhere(services: Services, opened: _Opened) -> bool:
    """Whether one more stop of every brand would change nothing."""
    return all(is_stopped(_wishes(services, opened, brand).choices, BLANKET) for brand in _all_brands(services, opened))


def _brand_names(services: Services) -> tuple[str, ...]:
    return tuple(brand.name for brand in services.catalog.get().brands.values())


@dataclass(frozen=True, slots=True)
class _Form:
    """What the page's form says: its intent, and the random field that names the press of its button.

    `is_lost` is a form that could not be read, whatever it said: its sender is told so.
    """

    intent: str = ""
    press: str = ""
    is_lost: bool = False


def _form(request: Request) -> _Form | None:
    """The page's form; None for a mail program, whose body does not matter."""
    body = _beginning(request)
    if body is None:
        return _Form(is_lost=True)
    if not request.headers.get("Content-Type", "").lower().startswith("application/x-www-form-urlencoded"):
        return None
    if b"intent=" not in body:
        return None
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=50)
    except ValueError:
        return _Form()
    return _Form(fields.get("intent", [""])[0], fields.get("press", [""])[0])


def _new_press() -> str:
    """A name for the press of a button on the page, which nobody can guess."""
    return secrets.token_urlsafe(16)


def _beginning(request: Request) -> bytes | None:
    """The first MOST_BODY bytes of the body. None if the line broke, or if there is no thread to wait for it: the link
    says enough, and no opt-out is lost for its sake."""
    kept, taken = bytearray(), 0
    try:
        while taken < MOST_TAKEN and (chunk := request.stream.read(MOST_BODY)):
            kept += chunk[: MOST_BODY - len(kept)]
            taken += len(chunk)
    except (ClientDisconnected, NoTurn, OSError):
        return None
    return bytes(kept)


def _wishes(services: Services, opened: _Opened, brand: str) -> Wishes:
    return services.reader.wishes(WishesKey(opened.link.contact_id, opened.link.channel, brand))


def _wishes_after(services: Services, opened: _Opened, brand: str) -> Wishes:
    """What to show after a choice was saved. Should the database go away at this very moment, the page says less, and
    never that nothing was saved."""
    try:
        return _wishes(services, opened, brand)
    except StoreBusy:
        return Wishes(address=None, choices={}, entry_hashes={})


def _no(choice: Preference | None) -> Preference | None:
    return choice if choice is not None and choice.status is Status.UNSUBSCRIBED else None


def _is_subscribed(wishes: Wishes, topic: str) -> bool:
    choice = effective(wishes.choices.get(topic), wishes.choices.get(BLANKET))
    return choice is not None and choice.status is Status.SUBSCRIBED


def _topic_stopped(wishes: Wishes, opened: _Opened) -> Preference | None:
    return _no(effective(wishes.choices.get(opened.link.topic), wishes.choices.get(BLANKET)))


def _since(wishes: Wishes, choice: Preference | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {"since": choice.since, "reference": reference_of(wishes.entry_hashes[choice.seq])}


def _masked(wishes: Wishes) -> str | None:
    return mask(wishes.address) if wishes.address else None


def _scope(topic: str, brands: int) -> str:
    if topic != BLANKET:
        return "topic"
    return "brands" if brands > 1 else "all"


def _action(services: Services, opened: _Opened, token: str) -> str:
    return f"{services.root_of(opened.brand)}/u/{trim(token)}"
