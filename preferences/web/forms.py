"""Forms of a signed-in person, each with a token that only our own page can hold.

Owns the check. Invariant: a post that uses the session's rights is acted on only with the token of that session; forms
behind a link, and public ones, have none: the link is the proof, or nothing is at stake.
"""

from __future__ import annotations

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
