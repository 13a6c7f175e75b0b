"""CSRF protection.

Invariant: a POST that uses a session requires its token. Forms behind links and public forms have none: the link is the
proof, or nothing is at stake.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.exceptions import BadRequest


class SessionForm(FlaskForm):
    """Pass `request.form`, or files and JSON are read too. The token lives as long as the session: see `create_app`."""

    def hidden(self) -> Markup:
        """The hidden field, without an id, since a page repeats it."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(
            self.csrf_token.name, self.csrf_token.current_token
        )


def require_token() -> None:
    """Raises BadRequest for a POST without this session's token."""
    if not SessionForm(request.form).validate():
        raise BadRequest


def refuse_other_sites() -> None:
    """Raises BadRequest for a POST from another site, against login CSRF.

    Before the sign-in there is no session for a token. Browsers send `Origin` (RFC 6454) or `Sec-Fetch-Site` (W3C Fetch
    Metadata); a client without both is no browser.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise BadRequest
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise BadRequest
