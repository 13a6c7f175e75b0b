"""The confirm link: what was asked for on a form or a page, confirmed from the person's own mailbox.

Owns `/confirm/<token>`. Invariants: opening it writes nothing; it counts once, however often it is pressed; a no that
came after it was asked for outweighs it; the words on the page are the words that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mask
from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.preference_form import OFF, ON, Asker, Aspect, BadValue, Change, check_value, read_item
from preferences.domain.records import Entry
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Channel, Origin
from preferences.ledger import duplicates
from preferences.people.consent_text import notice_for
from preferences.services import Services
from preferences.tokens import ConfirmLink, ManageLink, stem, trim
from preferences.web.public.unsubscribe import circumstances
from preferences.web.shared import preferences_page
from preferences.web.shared.limits import RequestLimit
from preferences.web.shared.preferences_page import Page, Saved
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

SOMETHING_NEWER: Final = 409

blueprint = Blueprint("confirm", __name__)
limit = RequestLimit(per_minute=60)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A confirm link that was read: what it asks for, as far as that can still be chosen, and what came of it before.

    `ref` names the link in the ledger.
    """

    token: str
    ref: str
    link: ConfirmLink
    page: Page
    changes: Sequence[Change]
    earlier: Sequence[Entry]


@blueprint.get("/confirm/<token>", strict_slashes=False)
def show(token: str) -> Response:
    """What was asked for, and one button."""
    services = current_services()
    opened = _open(services, token)
    if opened.earlier:
        return _already(services, opened)
    if not opened.changes:
        return _page(services, opened, "confirm/gone.html")
    topics_only = all(
        one.control.aspect is Aspect.STATUS and not one.control.topic.startswith("@") for one in opened.changes
    )
    return _page(
        services, opened, "confirm/ask.html", wordings=_say(services, opened, opened.changes), topics_only=topics_only
    )


@blueprint.post("/confirm/<token>", strict_slashes=False)
def confirm(token: str) -> Response:
    """The button was pressed: record it, unless it was before, or something newer says no."""
    services = current_services()
    opened = _open(services, token)
    limit.check(stem(token))
    if opened.earlier:
        return _already(services, opened)
    if not opened.changes:
        return _page(services, opened, "confirm/gone.html")
    asker = Asker(
        contact_id=opened.link.contact_id,
        brand=opened.page.brand.slug,
        origin=Origin.CONFIRMATION,
        evidence=circumstances(request),
        asked_at=opened.link.issued_at,
    )
    saved = Saved()
    preferences_page.record(services, opened.page, opened.changes, asker, saved=saved, ref=opened.ref)
    return _done(services, opened, saved)


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    """A link whose time has passed, or whose owner has ended every link from before."""
    services = current_services()
    brand = brand_here(services, request)
    return render(services, "confirm/expired.html", brand=brand, spoken=spoken_in(request, brand), status=410)


@blueprint.errorhandler(BadLink)
def broken(_error: BadLink) -> Response:
    """A link that lost a part of itself on the way: its owner wanted something, so the way back to it is offered."""
    services = current_services()
    brand = brand_here(services, request)
    return render(services, "confirm/broken.html", brand=brand, spoken=spoken_in(request, brand), status=404)


def _open(services: Services, token: str) -> _Opened:
    """Raises BadLink, and StaleLink for one whose time has passed, that was ended, or whose contact is no more."""
    link = services.links.read_confirm(token, datetime.now(UTC))
    brand = services.catalog.get().brands.get(link.brand)
    if brand is None:
        raise BadLink("a brand that is no more")
    page = preferences_page.read_page(services, link.contact_id, brand, spoken_in(request, brand))
    revoked_at = page.standing.revoked_at
    if not page.standing.exists or (revoked_at is not None and link.issued_at <= revoked_at):
        raise StaleLink("nobody is there any more, or they have ended their links")
    ref = services.links.confirm_ref(token)
    asked = list(_changes(page, link))
    refs = [preferences_page.ref_of(ref, item.partition("=")[0]) for item in link.items]
    earlier = services.database.read(duplicates.find_by_refs, Origin.CONFIRMATION, refs)
    return _Opened(token, ref, link, page, [*asked, *preferences_page.pauses_to_end(page, asked)], earlier)


def _changes(page: Page, link: ConfirmLink) -> Iterator[Change]:
    """What the link asks for, without what cannot be chosen any more: a topic that is gone, a day that has passed."""
    now = datetime.now(UTC)
    for item in link.items:
        with suppress(ValueError, BadValue):
            change = read_item(item)
            check_value(change.control, change.value, now)
            if change.control.name in page.settings:
                yield change


def _done(services: Services, opened: _Opened, saved: Saved) -> Response:
    stale = _say(services, opened, saved.stale)
    if not saved.recorded:
        return _page(services, opened, "confirm/stale.html", status=SOMETHING_NEWER, stale=stale)
    return _page(
        services,
        opened,
        "confirm/done.html",
        cannot_be_reached=preferences_page.cannot_be_reached(opened.page),
        started=_say(services, opened, saved.recorded),
        stale=stale,
        at=saved.entries[0].recorded_at,
        reference=reference_of(saved.entries[0].hash),
        manage=_fresh_link(services, opened),
    )


def _already(services: Services, opened: _Opened) -> Response:
    settings = opened.page.settings
    now_at = [Change(one.control, settings[one.control.name].value) for one in opened.changes]
    ended = any(one.value == ON and is_at.value == OFF for one, is_at in zip(opened.changes, now_at, strict=True))
    return _page(
        services,
        opened,
        "confirm/already.html",
        now_at=_say(services, opened, now_at),
        ended=ended,
        at=opened.earlier[0].recorded_at,
        reference=reference_of(opened.earlier[0].hash),
        manage=_fresh_link(services, opened),
    )


def _say(services: Services, opened: _Opened, changes: Sequence[Change]) -> list[str]:
    return [notice_for(services, opened.page.brand, change, opened.page.spoken).text for change in changes]


def _fresh_link(services: Services, opened: _Opened) -> str:
    """To the person's own page: it can do no more than the links in every email."""
    brand = opened.page.brand
    link = ManageLink(opened.link.contact_id, Channel.EMAIL, brand.slug, datetime.now(UTC))
    return f"{services.root_of(brand)}/p/{services.links.sign_manage(link)}"


def _page(services: Services, opened: _Opened, template: str, *, status: int = 200, **context: Any) -> Response:
    """`action` names the language: what is kept shall be what was shown."""
    brand, spoken = opened.page.brand, opened.page.spoken
    known = opened.page.standing.current_addresses(Channel.EMAIL)
    return render(
        services,
        template,
        brand=brand,
        spoken=spoken,
        status=status,
        address=mask(known[0].address) if known else None,
        action=f"{services.root_of(brand)}/confirm/{trim(opened.token)}?lang={spoken.language}",
        **context,
    )
