"""What each guard proves, and leaves in `flask.g` before any view runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import time_machine
from flask import Flask, g
from standardwebhooks.webhooks import Webhook
from werkzeug.exceptions import HTTPException, NotFound, Unauthorized
from werkzeug.wrappers import Response

from preferences.current import services_of
from preferences.domain.errors import BadLink, BadPayload, BadSignature, StaleLink
from preferences.domain.vocabulary import Channel
from preferences.services import Services
from preferences.tokens import ConfirmLink, ManageLink, Ticket, UnsubscribeLink
from preferences.web import ROUTES, Route, guards
from tests.support import add_contact, api_headers, close, new_app, new_sqlite

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = f'[connectors.shop]\nkind = "webhook"\nbase_url = "https://shop.example"\nwebhook_secrets = ["{SECRET}"]\n'
NOW = datetime.now(UTC).replace(microsecond=0)
SOMEBODY = UUID(int=7)


@pytest.fixture(autouse=True)
def _links_are_fresh() -> Iterator[None]:
    """Stop the clock at NOW: some links live for two minutes, and a test may run later than that after its import."""
    with time_machine.travel(NOW):
        yield


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    yield app
    close(app)


@pytest.fixture
def services(app: Flask) -> Services:
    return services_of(app)


def proven(app: Flask, path: str, **request: Any) -> dict[str, Any]:
    """What is in `g` once the guard has run; raises what the guard raises. No view runs."""
    with app.test_request_context(path, **request):
        assert app.preprocess_request() is None
        return dict(vars(g))


def test_an_unsubscribe_link_is_left_as_it_was_signed(app: Flask, services: Services) -> None:
    link = UnsubscribeLink(SOMEBODY, Channel.EMAIL, "no-such-brand", "offers", "m-7")
    path = f"/u/{services.links.sign_unsubscribe(link)}"
    for suffix in ("", "/", "/undo", "/reason"):
        method = "POST" if suffix in {"/undo", "/reason"} else "GET"
        assert proven(app, path + suffix, method=method)["link"] == link


def test_a_manage_link_is_left_with_its_brand(app: Flask, services: Services) -> None:
    link = ManageLink(SOMEBODY, Channel.EMAIL, "default", NOW)
    left = proven(app, f"/p/{services.links.sign_manage(link)}")
    assert (left["link"], left["brand"].slug) == (link, "default")


def test_a_confirm_link_is_left_with_its_brand(app: Flask, services: Services) -> None:
    link = ConfirmLink(SOMEBODY, "default", ("email.offers.status=on",), NOW)
    left = proven(app, f"/confirm/{services.links.sign_confirm(link)}")
    assert (left["link"], left["brand"].slug) == (link, "default")


def test_links_for_signing_in_and_addresses_are_left(app: Flask, services: Services) -> None:
    ticket = Ticket(SOMEBODY, NOW)
    for path in (
        f"/sign-in/link/{services.links.sign_sign_in(ticket)}",
        f"/sign-in/hand-off/{services.links.sign_hand_off(ticket)}",
        f"/confirm/address/{services.links.sign_address(ticket)}",
    ):
        left = proven(app, path)["link"]
        assert (left.id, left.issued_at) == (SOMEBODY, NOW), path


LINKS = ("/u/{}", "/p/{}", "/confirm/{}", "/confirm/address/{}", "/sign-in/link/{}", "/sign-in/hand-off/{}")


@pytest.mark.parametrize("path", LINKS)
def test_a_token_of_another_kind_proves_nothing(app: Flask, services: Services, path: str) -> None:
    ticket, links = Ticket(SOMEBODY, NOW), services.links
    tokens = {
        "/u/{}": links.sign_unsubscribe(UnsubscribeLink(SOMEBODY, Channel.EMAIL, "default", "*")),
        "/p/{}": links.sign_manage(ManageLink(SOMEBODY, Channel.EMAIL, "default", NOW)),
        "/confirm/{}": links.sign_confirm(ConfirmLink(SOMEBODY, "default", (), NOW)),
        "/confirm/address/{}": links.sign_address(ticket),
        "/sign-in/link/{}": links.sign_sign_in(ticket),
        "/sign-in/hand-off/{}": links.sign_hand_off(ticket),
    }
    for kind, token in tokens.items():
        if kind == path:
            assert proven(app, path.format(token))["link"]
            continue
        with pytest.raises(BadLink):
            proven(app, path.format(token))
    with pytest.raises(BadLink):
        proven(app, path.format("junk"))


def test_an_expired_link_proves_nothing(app: Flask, services: Services) -> None:
    old = NOW - timedelta(days=400)
    tokens = {
        "/p/": services.links.sign_manage(ManageLink(SOMEBODY, Channel.EMAIL, "default", old)),
        "/confirm/": services.links.sign_confirm(ConfirmLink(SOMEBODY, "default", (), old)),
        "/confirm/address/": services.links.sign_address(Ticket(SOMEBODY, old)),
        "/sign-in/link/": services.links.sign_sign_in(Ticket(SOMEBODY, old)),
        "/sign-in/hand-off/": services.links.sign_hand_off(Ticket(SOMEBODY, old)),
    }
    for path, token in tokens.items():
        with pytest.raises(StaleLink):
            proven(app, path + token)


def test_a_link_of_a_removed_brand_manages_nothing(app: Flask, services: Services) -> None:
    for path, token in (
        ("/p/", services.links.sign_manage(ManageLink(SOMEBODY, Channel.EMAIL, "gone", NOW))),
        ("/confirm/", services.links.sign_confirm(ConfirmLink(SOMEBODY, "gone", (), NOW))),
    ):
        with pytest.raises(BadLink):
            proven(app, path + token)


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    at = datetime.now(UTC)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }


def test_a_signed_report_is_left_with_its_connector(app: Flask) -> None:
    body = json.dumps({"type": "complaint"}).encode()
    left = proven(app, "/webhooks/shop", method="POST", data=body, headers=signed(body))
    assert (left["connector"].name, left["report"].body) == ("shop", body)
    assert left["report"].headers["webhook-id"] == "msg_1"


def test_an_unsigned_report_proves_nothing(app: Flask) -> None:
    body = b"{}"
    forged = signed(body, "whsec_" + "b3RoZXIgc2VjcmV0IG9mIHNvbWVib2R5")
    for data, headers in ((body, {}), (body, forged), (b"{ }", signed(body))):
        with pytest.raises(BadSignature):
            proven(app, "/webhooks/shop", method="POST", data=data, headers=headers)
    with pytest.raises((BadPayload, BadSignature)):
        proven(app, "/webhooks/shop", method="POST", data=b"", headers=signed(body))


def test_a_connector_that_there_is_not_has_no_webhook(app: Flask) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(NotFound):
            proven(app, "/webhooks/nobody", method=method)
    assert proven(app, "/webhooks/shop")["connector"].name == "shop"


def test_an_api_key_is_left(app: Flask, services: Services) -> None:
    left = proven(app, "/api/v1/topics", headers=api_headers(services, "shop"))
    assert left["api_key"].name == "shop"
    with pytest.raises(Unauthorized):
        proven(app, "/api/v1/topics", headers={"Authorization": "Bearer pref_wrong"})


def test_a_session_is_left_with_its_contact(app: Flask, services: Services) -> None:
    contact_id = add_contact(services)
    client = app.test_client()
    token = services.links.sign_hand_off(Ticket(contact_id, datetime.now(UTC)))
    app.config["PREFERRED_URL_SCHEME"] = "https"
    assert client.post(f"/sign-in/hand-off/{token}").status_code == 303
    with client:
        assert client.get("/account/").status_code == 200
        assert (g.session.subject.id, g.contact.contact_id) == (contact_id, contact_id)
    with app.test_request_context("/account/"):
        answer = app.preprocess_request()
        assert isinstance(answer, Response)
        assert answer.status_code == 303
        assert "session" not in g


def test_open_to_all_leaves_nothing(app: Flask) -> None:
    for path in ("/", "/optout", "/sign-up", "/sign-in", "/link", "/api/docs", "/healthz"):
        assert not vars(g_after(app, path)).keys() & {"link", "session", "api_key", "connector", "report"}, path


def g_after(app: Flask, path: str) -> Any:
    with app.test_request_context(path):
        try:
            app.preprocess_request()
        except HTTPException:
            pytest.fail("it is open")
        return g._get_current_object()


VALUES = {"token": "junk", "contact_id": SOMEBODY, "address_id": SOMEBODY, "ref": SOMEBODY}


GUARDED = [route for route in ROUTES if route.guard is not guards.open_to_all]


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.blueprint.name)
def test_no_view_of_a_guarded_blueprint_runs_without_proof(app: Flask, route: Route) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.partition(".")[0] == route.blueprint.name]
    assert rules
    for rule in rules:
        method = "POST" if "POST" in (rule.methods or ()) else "GET"
        values = VALUES | {"name": "shop" if method == "POST" else "nobody"}
        built = rule.build({name: values.get(name, "junk") for name in rule.arguments}, append_unknown=False)
        assert built is not None
        with app.test_request_context(built[1], method=method):
            try:
                answer = app.preprocess_request()
            except (HTTPException, BadLink, BadSignature):
                continue
            assert answer is not None, rule
