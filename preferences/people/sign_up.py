"""The sign-up form: what is offered, and the plain HTML of it that other pages embed.

Owns the form's fields. Invariants: nothing is ticked beforehand; each box stands beside the wording that is shown
again, and stored, when it is confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from preferences.domain.preference_form import ON, Change, Control
from preferences.domain.records import Brand, Topic
from preferences.domain.topics import Section, is_public, sections_of
from preferences.domain.vocabulary import Channel
from preferences.i18n import Spoken
from preferences.people.consent_text import notice_for
from preferences.services import Services

HONEYPOT: Final = "homepage"
"""A field that no person sees. Programs that fill in every field get the usual answer, and no email is sent."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A topic on offer, the wording of opting in to it, and the section that begins with it."""

    topic: Topic
    wording: str
    begins: Section | None


def offers_of(services: Services, brand: Brand, spoken: Spoken) -> list[Offer]:
    """What the brand offers to anybody by email. Raises StoreBusy."""
    live = services.catalog.get().topics_of(brand.slug, marketing=True)
    sections = sections_of(topic for topic in live if Channel.EMAIL in topic.channels and is_public(topic))
    return [
        Offer(
            topic,
            notice_for(services, brand, opt_in_to(topic), spoken).text,
            section if section.has_heading and topic is section.topics[0] else None,
        )
        for section in sections
        for topic in section.topics
    ]


def opt_in_to(topic: Topic) -> Change:
    """The change that a ticked box stands for."""
    return Change(Control(Channel.EMAIL, topic.slug), ON)


def embeddable(services: Services, brand: Brand, spoken: Spoken, *, offers: Sequence[Offer]) -> str:
    """The form for a page of the company's own: HTML alone, without script or style."""
    template = services.templates[spoken.language].get_template("sign_up/embed.html")
    url = f"{services.url_of(brand)}/sign-up"
    return template.render(brand=brand, url=url, offers=offers, trap=HONEYPOT).strip() + "\n"
