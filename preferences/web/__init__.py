"""The route map: each blueprint with its URL prefix, guard and headers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Flask
from werkzeug.wrappers import Response

from preferences.web import api, guards, health, policies, webhooks
from preferences.web.account import addresses, history, openid, page, sign_in
from preferences.web.api import docs, operations
from preferences.web.policies import ACCOUNT, DOCS, FILES, MACHINES, PUBLIC, Policy
from preferences.web.public import center, confirm, lost_link, optout, sign_up, unsubscribe
from preferences.web.shared import brand_style, errors


@dataclass(frozen=True, slots=True)
class Route:
    """A blueprint. `open_because` justifies the guard `open_to_all`, and is empty otherwise."""

    blueprint: Blueprint
    guard: Callable[[], Response | None]
    policy: Policy
    prefix: str | None = None
    open_because: str = ""


ROUTES: Final = (
    Route(unsubscribe.blueprint, guards.by_unsubscribe_link, PUBLIC),
    Route(center.blueprint, guards.by_manage_link, PUBLIC),
    Route(confirm.blueprint, guards.by_confirm_link, PUBLIC),
    Route(optout.blueprint, guards.open_to_all, PUBLIC, open_because="it only stops mail, and answers all alike"),
    Route(sign_up.blueprint, guards.open_to_all, PUBLIC, open_because="it only orders an email that asks"),
    Route(lost_link.blueprint, guards.open_to_all, PUBLIC, open_because="it only orders an email to the address"),
    Route(brand_style.blueprint, guards.open_to_all, FILES, open_because="a colour"),
    Route(sign_in.blueprint, guards.open_to_all, PUBLIC, open_because="there is no session yet; codes are the proof"),
    Route(sign_in.by_email, guards.by_sign_in_link, PUBLIC),
    Route(sign_in.handing_over, guards.by_hand_off, ACCOUNT),
    Route(sign_in.leaving, guards.by_session, ACCOUNT),
    Route(
        openid.blueprint, guards.open_to_all, PUBLIC, open_because="there is no session yet; the provider is the proof"
    ),
    Route(page.blueprint, guards.by_session, ACCOUNT, "/account"),
    Route(history.blueprint, guards.by_session, ACCOUNT, "/account"),
    Route(addresses.own, guards.by_session, ACCOUNT, "/account"),
    Route(addresses.blueprint, guards.by_address_link, PUBLIC),
    Route(webhooks.blueprint, guards.by_signature, MACHINES),
    Route(api.blueprint, guards.by_api_key, MACHINES, "/api/v1"),
    Route(docs.blueprint, guards.open_to_all, DOCS, open_because="a description of the API, the same for everybody"),
    Route(health.blueprint, guards.open_to_all, MACHINES, open_because="counters, and nothing about a person"),
)


def register(app: Flask) -> None:
    app.url_map.merge_slashes = False  # it redirects, and mail programs do not follow a redirected POST
    for route in ROUTES:
        if route.guard not in route.blueprint.before_request_funcs.get(None, []):
            route.blueprint.before_request(route.guard)
        app.register_blueprint(route.blueprint, url_prefix=route.prefix)
    operations.require_declared(app)
    policies.register(app, {route.blueprint.name: route.policy for route in ROUTES})
    errors.register(app)
