"""The form of the preference page: field names and template context.

Decides nothing: see `people.preferences`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from preferences.domain.preference_form import (
    LONGEST_PAUSE,
    UNANSWERED,
    WEEKLY_LIMITS,
    Aspect,
    Change,
    Control,
    Provenance,
)
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Purpose
from preferences.people import preferences
from preferences.people.consent_text import notice_for
from preferences.people.opt_outs import ALL, ALL_BRANDS
from preferences.people.preferences import Page, Saved, Submitted
from preferences.services import Services

SET, WAS, SEEN = "set.", "was.", "seen."
"""Field prefixes: new value, shown value, tag of the entry."""

SAVE: Final = "save"


def submit(services: Services, page: Page, form: Mapping[str, str], *, by: Provenance, fresh: bool) -> Saved:
    """Apply the pressed button: stop everything, stop every brand, or save. Raises BadValue, StoreBusy, TooOften."""
    intent = form.get("intent", SAVE)
    if intent in {ALL, ALL_BRANDS}:
        return preferences.stop_all(services, page, by=by, everywhere=intent == ALL_BRANDS)
    return preferences.save(services, page, _submitted(form), by=by, fresh=fresh)


def _submitted(form: Mapping[str, str]) -> dict[str, Submitted]:
    names = [field.removeprefix(SET) for field in form if field.startswith(SET)]
    return {
        name: Submitted(form[SET + name], form.get(WAS + name, UNANSWERED), form.get(SEEN + name, "")) for name in names
    }


def context(
    services: Services, page: Page, *, saved: Saved | None, problem: str | None, form: Mapping[str, str] | None
) -> dict[str, Any]:
    """Template context. `form` holds values to show again after an error."""
    catalog = services.catalog.get()
    chosen, tomorrow = form or {}, timedelta(days=1)
    return {
        "page": page,
        "Control": Control,
        "Aspect": Aspect,
        "Purpose": Purpose,
        "weekly_limits": WEEKLY_LIMITS,
        "tag": page.tag,
        "values": {name: chosen.get(SET + name, setting.value) for name, setting in page.settings.items()},
        "all_stopped": page.all_stopped,
        "all_brands_stopped": preferences.all_brands_stopped(services, page),
        "cannot_be_reached": page.cannot_be_reached,
        "reference_of": reference_of,
        "always_sent": catalog.topics_of(page.brand.slug, marketing=False),
        "brand_names": [brand.name for brand in catalog.brands.values()],
        "stopped_since": page.stopped_since,
        "saved": saved,
        "problem": problem,
        "say": partial(wording, services, page),
        "first_day": (datetime.now(UTC) + tomorrow).date(),
        "last_day": (datetime.now(UTC) + LONGEST_PAUSE).date(),
    }


def wording(services: Services, page: Page, change: Change) -> str:
    return notice_for(services, page.brand, change, page.spoken).text
