"""Forms of a signed-in person, each with a token that only our own page can hold.

Owns the check. Invariant: a post that uses the session's rights is acted on only with the token of that session; forms
behind a link, and public ones, have none: the link is the proof, or nothing is at stake.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request
from flask_wtf import FlaskForm
from markupsafe import Markup
from werkzeug.exceptions import BadRequest


class SessionForm(FlaskForm):
    """The base of every form behind `guards.by_session`. Give it `request.form`, or it reads files and JSON as well.

    Its token is `form.hidden()` in a template. It lives as long as the session: see `create_app`.
    """

    def hidden(self) -> Markup:
        """The hidden field to put inside each `<form>`. The same one serves every form of a page, so it has no id."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(
            self.csrf_token.name, self.csrf_token.current_token
        )


def require_token() -> None:
    """Refuse a post that no page of this session made. For buttons that have no field of their own.

    Raises BadRequest: it was forged, or stood open since before another sign-in.
    """
    if not SessionForm(request.form).validate():
        raise BadRequest


def refuse_other_sites() -> None:
    """Refuse a post by which another site would sign somebody in here, as a person of its choice, unnoticed.

    There is no session yet, so no token either. Browsers say where a post comes from: all in `Origin` (RFC 6454), and
    most in `Sec-Fetch-Site` (W3C Fetch Metadata). Whatever says neither is no browser in which somebody could be
    deceived. Raises BadRequest.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise BadRequest
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise BadRequest
