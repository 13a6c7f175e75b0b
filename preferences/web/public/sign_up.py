"""The sign-up form: tick what you want, type your address, and confirm from your own mailbox.

Owns `/sign-up`. Invariants: it writes nothing but an order for one letter, so nobody can be signed up by somebody else;
the answer is the same for an address that we know and for one that we do not; it needs no cookie and no token, since a
page of the company's own may hold the form.
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
from preferences.people.sign_up import TRAP, Offer, offers_of, yes_to
from preferences.services import Services
from preferences.web.shared.limits import limiter
from preferences.web.shared.mail_request import EMAIL_REQUESTS, ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

NOTHING_TICKED: Final = to_translate("Choose at least one")

FROM_ALL_NETWORKS: Final = "2000 per hour"
"""Letters to strangers that we let ourselves be made to send, should very many networks ask for them at once."""

blueprint = Blueprint("sign_up", __name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the form says. `problems` by field: `topic` or `address`."""

    ticked: Sequence[Offer] = ()
    typed: str = ""
    address: Address | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@blueprint.get("/sign-up")
def ask() -> Response:
    """The form."""
    services, brand, spoken = _here()
    return _form(services, brand, spoken, offers=offers_of(services, brand, spoken), asked=_Asked())


@blueprint.post("/sign-up")
@limiter.limit(EMAIL_REQUESTS)
@limiter.shared_limit(FROM_ALL_NETWORKS, scope="sign-up", key_func=lambda: "all")
def order() -> Response:
    """Order the letter in which it is confirmed."""
    services, brand, spoken = _here()
    offers = offers_of(services, brand, spoken)
    asked = _read(offers)
    if asked.address is None or asked.problems:
        return _form(services, brand, spoken, offers=offers, asked=asked)
    if not request.form.get(TRAP):
        items = [yes_to(offer.topic).item for offer in asked.ticked]
        order_email(
            services,
            EmailKind.SIGN_UP,
            to=asked.address,
            brand=brand.slug,
            language=spoken.language,
            details={"items": items},
        )
    return render(services, "sign_up/sent.html", brand=brand, spoken=spoken, here=f"{services.root_of(brand)}/sign-up")


def _here() -> tuple[Services, Brand, Spoken]:
    services = current_services()
    brand = brand_here(services, request)
    return services, brand, spoken_in(request, brand)


def _read(offers: Sequence[Offer]) -> _Asked:
    """A box for something that is sent no more, on a page that embeds an old form, counts as none."""
    typed = request.form.get("address", "")
    slugs = set(request.form.getlist("topic"))
    ticked = [offer for offer in offers if offer.topic.slug in slugs]
    address = typed_address(typed)
    problems = {} if ticked else {"topic": NOTHING_TICKED}
    if address is None:
        problems["address"] = ENTER_EMAIL
    return _Asked(ticked, typed, address, problems)


def _form(services: Services, brand: Brand, spoken: Spoken, *, offers: Sequence[Offer], asked: _Asked) -> Response:
    return render(
        services,
        "sign_up/form.html",
        brand=brand,
        spoken=spoken,
        status=400 if asked.problems else 200,
        here=f"{services.root_of(brand)}/sign-up",
        offers=offers,
        ticked={offer.topic.slug for offer in asked.ticked},
        value=asked.typed,
        problems=asked.problems,
        trap=TRAP,
    )
