"""The sign-up form: `/sign-up`.

Invariants: it only orders an email, so only a mailbox's owner can sign it up; known and unknown addresses get the same
answer; no cookie and no token, since other sites may embed the form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.i18n import Spoken, to_translate
from preferences.people.emails import order_email
from preferences.people.sign_up import HONEYPOT, Offer, offers_of, opt_in_to
from preferences.services import Services
from preferences.web.shared.limits import limiter
from preferences.web.shared.mail_request import EMAIL_REQUESTS, ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

NOTHING_TICKED: Final = to_translate("Choose at least one")

FROM_ALL_NETWORKS: Final = "2000 per hour"
"""Bounds emails to unknown addresses that many networks order at once."""

blueprint = Blueprint("sign_up", __name__)


@dataclass(frozen=True, slots=True)
class _Submitted:
    """`problems` by field: `topic` or `address`."""

    ticked: Sequence[Offer] = ()
    typed: str = ""
    address: Address | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@blueprint.get("/sign-up")
def ask() -> Response:
    services, brand, spoken = _here()
    return _form(services, brand, spoken, offers=offers_of(services, brand, spoken), submitted=_Submitted())


@blueprint.post("/sign-up")
@limiter.limit(EMAIL_REQUESTS)
@limiter.shared_limit(FROM_ALL_NETWORKS, scope="sign-up", key_func=lambda: "all")
def order() -> Response:
    services, brand, spoken = _here()
    offers = offers_of(services, brand, spoken)
    submitted = _read(offers)
    if submitted.address is None or submitted.problems:
        return _form(services, brand, spoken, offers=offers, submitted=submitted)
    if not request.form.get(HONEYPOT):
        _order_email(services, submitted.address, brand, spoken, ticked=submitted.ticked)
    return render(services, "sign_up/sent.html", brand=brand, spoken=spoken, here=f"{services.root_of(brand)}/sign-up")


def _order_email(
    services: Services, address: Address, brand: Brand, spoken: Spoken, *, ticked: Sequence[Offer]
) -> None:
    details = {"items": [opt_in_to(offer.topic).item for offer in ticked]}
    kind, language = EmailKind.SIGN_UP, spoken.language
    order_email(services, kind, to=address, brand=brand.slug, language=language, details=details)


def _here() -> tuple[Services, Brand, Spoken]:
    services = current_services()
    brand = brand_here(services, request)
    return services, brand, spoken_in(request, brand)


def _read(offers: Sequence[Offer]) -> _Submitted:
    """Topics no longer offered, from an old embedded form, are ignored."""
    typed = request.form.get("address", "")
    slugs = set(request.form.getlist("topic"))
    ticked = [offer for offer in offers if offer.topic.slug in slugs]
    address = typed_address(typed)
    problems = {} if ticked else {"topic": NOTHING_TICKED}
    if address is None:
        problems["address"] = ENTER_EMAIL
    return _Submitted(ticked, typed, address, problems)


def _form(
    services: Services, brand: Brand, spoken: Spoken, *, offers: Sequence[Offer], submitted: _Submitted
) -> Response:
    return render(
        services,
        "sign_up/form.html",
        brand=brand,
        spoken=spoken,
        status=400 if submitted.problems else 200,
        here=f"{services.root_of(brand)}/sign-up",
        offers=offers,
        ticked={offer.topic.slug for offer in submitted.ticked},
        value=submitted.typed,
        problems=submitted.problems,
        trap=HONEYPOT,
    )
