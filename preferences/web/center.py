"""The page behind a manage link: what a contact gets, and a way to stop each thing.

Owns `/p/<token>`. Invariant: GET writes nothing; only what was asked for is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.domain import acts
from preferences.domain.addresses import mask
from preferences.domain.consent import effective
from preferences.domain.references import reference_of
from preferences.domain.terms import BLANKET, Basis, Origin, Status, Topic
from preferences.links import ManageLink
from preferences.site import Site, current_site
from preferences.store.queries import Wishes, WishesKey
from preferences.web import metrics
from preferences.web.pages import render
from preferences.web.unsubscribe import circumstances

blueprint = Blueprint("center", __name__)


@blueprint.get("/p/<token>", strict_slashes=False)
def show(token: str) -> Response:
    """The choices as they are."""
    site = current_site()
    return _page(site, token, site.links.read_manage(token, datetime.now(UTC)))


@blueprint.post("/p/<token>", strict_slashes=False)
def stop(token: str) -> Response:
    """Stop everything, or one topic."""
    site, now = current_site(), datetime.now(UTC)
    link = site.links.read_manage(token, now)
    wanted = {"all": BLANKET, "topic": request.form.get("topic", "")}.get(request.form.get("intent", ""))
    named = {one.slug: one.name for one in _topics(site, link)} | {BLANKET: "marketing e-mail"}
    if wanted not in named:
        return _page(site, token, link)
    site.writer.record(
        [
            acts.unsubscribe(
                link.contact_id,
                link.channel,
                brand=link.brand,
                topic=wanted,
                origin=Origin.PAGE,
                now=now,
                evidence=circumstances(request),
            )
        ]
    )
    metrics.RECORDED.labels(Origin.PAGE).inc()
    return _page(site, token, link, saved=f"Saved. We stopped {named[wanted]}.")


def _topics(site: Site, link: ManageLink) -> list[Topic]:
    return site.catalog.get().marketing_topics(link.brand, link.channel)


def _page(site: Site, token: str, link: ManageLink, saved: str | None = None) -> Response:
    wishes = site.reader.wishes(WishesKey(link.contact_id, link.channel, link.brand))
    blanket = wishes.choices.get(BLANKET)
    stopped = blanket if blanket is not None and blanket.status is Status.UNSUBSCRIBED else None
    return render(
        site,
        "center/page.html",
        brand=site.catalog.get().brands.get(link.brand),
        address=mask(wishes.address) if wishes.address else None,
        all_stopped=stopped and {"since": stopped.since, "reference": reference_of(wishes.entry_hashes[stopped.seq])},
        topics=[_state(topic, wishes) for topic in _topics(site, link)],
        saved=saved,
        action=f"{site.settings.root}/p/{token}",
    )


def _state(topic: Topic, wishes: Wishes) -> Mapping[str, Any]:
    choice = effective(wishes.choices.get(topic.slug), wishes.choices.get(BLANKET))
    status = choice.status if choice else Status.NEVER_ASKED
    return {
        "slug": topic.slug,
        "name": topic.name,
        "description": topic.description,
        "frequency": topic.frequency,
        "stopped": status is Status.UNSUBSCRIBED,
        "subscribed": status is Status.SUBSCRIBED or (choice is None and topic.basis is not Basis.CONSENT),
    }
