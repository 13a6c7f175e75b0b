"""The text of our own email, from a template and the values of `prepare`.

Invariant: reads only templates and writes nothing.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import datetime
from email.headerregistry import Address as Mailbox
from typing import Final

from preferences.domain.colours import ink_on
from preferences.domain.outbox import QueuedEmail
from preferences.domain.records import Brand
from preferences.mail.message import Content, Message, build
from preferences.mail.prepare import Context
from preferences.services import Services

DEFAULT_COLOUR: Final = "#14594d"


def compose(services: Services, brand: Brand, queued: QueuedEmail, context: Context, now: datetime) -> Message:
    host = services.settings.host
    return build(
        _render(services, brand, queued, context),
        sender=_sender(brand, host),
        recipient=queued.address,
        # Unique for each attempt: a repeated sign-in email has another code and is no duplicate.
        message_id=f"<{queued.id}.{queued.attempts}@{host}>",
        now=now,
    )


def _render(services: Services, brand: Brand, queued: QueuedEmail, context: Context) -> Content:
    template = services.templates[queued.language].get_template(f"mail/{queued.kind}.html")
    subject, text, page = (
        template.render(layout=f"mail/layout.{form}", brand=brand, button=_button(brand), **context)
        for form in ("subject", "text", "html")
    )
    # The same escaping template renders subject, text and HTML.
    return Content(
        subject=html.unescape(subject), text=html.unescape(text).strip("\n") + "\n", html=page, language=queued.language
    )


def _button(brand: Brand) -> Mapping[str, str]:
    paper = brand.colour or DEFAULT_COLOUR
    return {"paper": paper, "ink": ink_on(paper)}


def _sender(brand: Brand, host: str) -> Mailbox:
    address = brand.contact_email or f"no-reply@{host}"
    return Mailbox(display_name=" ".join(brand.name.split()), addr_spec=address)
