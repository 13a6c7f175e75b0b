"""The route map: each blueprint, where it stands, and who may come in."""

from __future__ import annotations

from typing import Final

from flask import Flask

from preferences.web import api, guards, health, webhooks
from preferences.web.account import addresses, history, openid, page, sign_in
from preferences.web.api import docs, operations
from preferences.web.public import center, confirm, lost_link, optout, sign_up, unsubscribe
from preferences.web.shared import brand_style, errors

ROUTES: Final = (
    # blueprint             prefix     guard
    (unsubscribe.blueprint, None, guards.by_link),
    (center.blueprint, None, guards.by_link),
    (optout.blueprint, None, guards.open_to_all),
    (sign_up.blueprint, None, guards.open_to_all),
    (confirm.blueprint, None, guards.by_link),
    (lost_link.blueprint, None, guards.open_to_all),
    (brand_style.blueprint, None, guards.open_to_all),
    (sign_in.blueprint, None, guards.open_to_all),
    (sign_in.arriving, None, guards.by_link),
    (sign_in.leaving, None, guards.by_session),
    (openid.blueprint, None, guards.open_to_all),
    (webhooks.blueprint, None, guards.by_signature),
    (page.blueprint, "/account", guards.by_session),
    (history.blueprint, "/account", guards.by_session),
    (addresses.own, "/account", guards.by_session),
    (addresses.blueprint, None, guards.by_link),
    (api.blueprint, "/api/v1", guards.by_api_key),
    (docs.blueprint, None, guards.open_to_all),
    (health.blueprint, None, guards.open_to_all),
)


def register(app: Flask) -> None:
    """Open every door, each with its guard."""
    app.url_map.merge_slashes = False  # it redirects, and mail programs do not follow a redirected POST
    for blueprint, prefix, guard in ROUTES:
        if guard not in blueprint.before_request_funcs.get(None, []):
            blueprint.before_request(guard)
        app.register_blueprint(blueprint, url_prefix=prefix)
    operations.require_declared(app)
    errors.register(app)
