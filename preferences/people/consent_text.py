"""Consent texts for pages, emails and the notices of the ledger.

Invariant: one template makes a wording everywhere, so the wording shown is the wording stored.
"""

from __future__ import annotations

import html
from datetime import date

from preferences.domain.notices import Notice
from preferences.domain.permission import purpose_topic
from preferences.domain.preference_form import Aspect, Change, Control
from preferences.domain.records import Brand, Topic
from preferences.domain.vocabulary import Purpose
from preferences.i18n import Spoken
from preferences.services import Services


def notice_for(services: Services, brand: Brand, change: Change, spoken: Spoken) -> Notice:
    """The wording of a change. Raises StoreBusy."""
    control = change.control
    template = services.templates[spoken.language].get_template("notices/change.txt")
    text = template.render(
        brand=brand,
        control=control,
        value=change.value,
        pause_end=date.fromisoformat(change.value) if control.aspect is Aspect.PAUSE and change.value else None,
        topic=topic_of(services, brand, control).text(spoken.language),
        purposes=Purpose,
    )
    return Notice(f"{brand.slug}/{control.name}", spoken.language, " ".join(html.unescape(text).split()))


def topic_of(services: Services, brand: Brand, control: Control) -> Topic:
    """The topic or purpose of a control. Raises KeyError for a removed topic."""
    if control.topic in set(Purpose):
        return purpose_topic(Purpose(control.topic), brand.slug)
    return services.catalog.get(control.topic).topics[control.topic]
