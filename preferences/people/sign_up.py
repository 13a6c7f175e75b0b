"""The sign-up form: offered topics, and the HTML that other sites embed.

Invariants: nothing is ticked in advance; each box shows the wording that is stored at confirmation.
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
"""Hidden field for bots: if it is filled in, the answer is the usual and no email is sent."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offered topic, the wording of its opt-in, and the section that starts with it."""

    topic: Topic
    wording: str
    begins: Section | None


def offers_of(services: Services, brand: Brand, spoken: Spoken) -> list[Offer]:
    """Topics that the brand offers publicly by email. Raises StoreBusy."""
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
    return Change(Control(Channel.EMAIL, topic.slug), ON)


def embeddable(services: Services, brand: Brand, spoken: Spoken, *, offers: Sequence[Offer]) -> str:
    """The form for another site: HTML without script or style."""
    template = services.templates[spoken.language].get_template("sign_up/embed.html")
    url = f"{services.url_of(brand)}/sign-up"
    return template.render(brand=brand, url=url, offers=offers, trap=HONEYPOT).strip() + "\n"
