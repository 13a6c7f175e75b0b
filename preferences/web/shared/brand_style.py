"""A brand's colour: `/brand/<slug>.css`.

Invariant: only a URL that names the colour is cacheable, so that changes show at once.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services

CACHED: Final = "public, max-age=31536000, immutable"

blueprint = Blueprint("brands", __name__)


@blueprint.get("/brand/<slug>.css")
def style(slug: str) -> Response:
    """`static/style.css` derives the other colours."""
    brand = current_services().catalog.get().brands.get(slug)
    if brand is None or not brand.colour:
        raise NotFound
    response = Response(f'[data-brand="{brand.slug}"] {{ --brand: {brand.colour} }}\n', content_type="text/css")
    if request.args.get("colour") == brand.colour.removeprefix("#"):
        response.headers["Cache-Control"] = CACHED
    return response
