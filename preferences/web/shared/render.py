"""Rendering of every HTML page, with the values common to all templates.

Headers: `web.policies`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from markupsafe import escape
from werkzeug.wrappers import Response

from preferences.domain.records import Brand
from preferences.domain.vocabulary import PHONE_CHANNELS, OneClick
from preferences.i18n import NAMES, Spoken
from preferences.services import Services

HTML: Final = "text/html; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"
MOST_SKELETONS: Final = 1_000

_NO_BRAND: Final = Brand(
    slug="", name="Preference center", postal_address="", contact_email="", one_click=OneClick.EVERYTHING
)


def render(
    services: Services,
    template: str,
    *,
    brand: Brand | None,
    spoken: Spoken,
    status: int = 200,
    here: str = "",
    **context: Any,
) -> Response:
    """See `render_html`."""
    html = render_html(services, template, brand=brand, spoken=spoken, here=here, **context)
    return Response(html, status, content_type=HTML)


def render_html(
    services: Services, template: str, *, brand: Brand | None, spoken: Spoken, here: str = "", **context: Any
) -> str:
    """Render a template with the common values.

    `here` is the URL for the language switch if the page's own does not support GET.
    """
    return (
        services.templates[spoken.language]
        .get_template(template)
        .render(
            site={"root": services.root_of(brand), "version": services.style_version},
            brand=brand or _NO_BRAND,
            query=spoken.query,
            here=here,
            languages=NAMES,
            numbers=_takes_numbers(services),
            **context,
        )
    )


def _takes_numbers(services: Services) -> bool:
    """Whether some topic uses phone numbers. Only cached data: the page may report that the database is away."""
    catalog = services.catalog.last()
    return catalog is not None and bool(catalog.marketing_channels & PHONE_CHANNELS)


class Skeleton:
    """A cached page, except for an address, an action and a submission.

    For the unsubscribe page of contacts without opt-outs: scanners fetch it for every email of a mailing.
    """

    _ADDRESS: Final = "\ue000address\ue001"
    _ACTION: Final = "\ue000action\ue001"
    _SUBMISSION: Final = "\ue000submission\ue001"

    def __init__(self, template: str) -> None:
        self._template = template
        self._filled_in: dict[Hashable, str] = {}

    def render(self, services: Services, *, brand: Brand | None, spoken: Spoken, **context: Any) -> str:
        """Render without the cache."""
        return render_html(services, self._template, brand=brand, spoken=spoken, **context)

    def fill(
        self,
        services: Services,
        *,
        brand: Brand | None,
        spoken: Spoken,
        address: str | None,
        action: str,
        submission: str,
        **context: Any,
    ) -> str:
        """Fill in a page cached by all other values, which must be hashable. `submission` is hexadecimal."""
        key = (services.settings.root, services.style_version, brand, spoken, address is None, *context.values())
        html = self._filled_in.get(key)
        if html is None:
            marked = None if address is None else self._ADDRESS
            marks = {"address": marked, "action": self._ACTION, "submission": self._SUBMISSION}
            html = self.render(services, brand=brand, spoken=spoken, **marks, **context)
            if len(self._filled_in) < MOST_SKELETONS:
                self._filled_in[key] = html
        if address is not None:
            html = html.replace(self._ADDRESS, escape(address))
        return html.replace(self._ACTION, escape(action)).replace(self._SUBMISSION, submission)


def plain(text: str, status: int = 200) -> Response:
    return Response(text, status, content_type=PLAIN)
