"""Protection of forms against cross-site requests.

Invariant: a POST that uses a session acts only with the token of that session. Forms behind a link and public forms
have no token: the link is the proof, or nothing is at stake.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.exceptions import BadRequest


class SessionForm(FlaskForm):
    """Pass `request.form`, or it reads files and JSON too. The token lives as long as the session: see `create_app`."""

    def hidden(self) -> Markup:
        """The hidden field for each `<form>` of a page, without an id, since it is repeated."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(
            self.csrf_token.name, self.csrf_token.current_token
        )


def require_token() -> None:
    """Raises BadRequest for a POST without the token of this session: forged, or from before another sign-in."""
    if not SessionForm(request.form).validate():
        raise BadRequest


def refuse_other_sites() -> None:
    """Raises BadRequest for a POST from another site, which could sign a person in as somebody else (login CSRF).

    Before a sign-in there is no session, so no token. Browsers send `Origin` (RFC 6454), and most `Sec-Fetch-Site` (W3C
    Fetch Metadata). A client that sends neither is no browser.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise BadRequest
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise BadRequest
