"""Signing in with an account elsewhere: believed is what the named provider has signed, for us, for this attempt."""

from __future__ import annotations

import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from preferences.config import SignInSettings, read_sign_in
from preferences.current import services_of
from preferences.domain.acts import retire_address
from preferences.domain.errors import Misconfigured
from preferences.domain.records import Brand
from preferences.domain.vocabulary import OneClick
from preferences.ledger import record as ledger
from preferences.store import contacts
from preferences.store.catalog import save_brand
from preferences.web.shared.limits import limiter
from tests.processes import contents
from tests.servers import free_port
from tests.support import add_contact, close, email, new_app, new_sqlite

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock

# The provider that we test against uses a part of its library that is to go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

KNOWN = "jane.doe@example.com"
LABEL = "Sign in with your Maple & Finch account"
SECRET = "secret-of-the-client"
BACK = "https://preferences.example.test/sign-in/with/shop/callback"

TABLE = """
[sign_in.shop]
issuer = "{issuer}"
client_id = "preferences"
client_secret = "{secret}"
label = "{label}"
"""


def app_with(folder: Path, database_url: str, issuer: str) -> Flask:
    file = folder / "config.toml"
    file.write_text(TABLE.format(issuer=issuer, secret=SECRET, label=LABEL))
    app = new_app(database_url, config_file=file)
    with app.app_context():
        limiter.reset()
    return app


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The issuer of a real OpenID provider, run here."""
    people = [
        oidc_provider_mock.User(sub=name, claims={"email": address, "email_verified": verified})
        for name, address, verified in (
            ("jane", "Jane.Doe@Example.com", True),
            ("unsure", KNOWN, False),
            ("words", KNOWN, "true"),
            ("stranger", "nobody.known@example.org", True),
            ("odd", "not an address", True),
        )
    ]
    people.append(oidc_provider_mock.User(sub="silent", claims={"email": KNOWN}))
    with oidc_provider_mock.run_server_in_thread(user_claims=people, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def shop(provider: str, database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """A site whose customers have accounts at the provider, on both engines."""
    app = app_with(tmp_path, database_url, provider)
    add_contact(services_of(app), email(KNOWN))
    yield app
    close(app)


@pytest.fixture
def visitor(shop: Flask) -> FlaskClient:
    """Somebody's browser."""
    return shop.test_client()


def leave(visitor: FlaskClient, query: str = "") -> str:
    """Press the button, and return the address that one is sent to."""
    page = visitor.post(f"/sign-in/with/shop{query}")
    assert page.status_code == 200
    return page.headers["Refresh"].removeprefix("0; url=")


def at_the_provider(url: str, person: str = "jane", **changes: str) -> str:
    """Sign in there, and return the path and query that one is sent back to. `changes` are made to the way there."""
    there = urlsplit(url)
    query = urlencode(dict(parse_qsl(there.query)) | changes)
    answer = requests.post(
        there._replace(query=query).geturl(), data={"sub": person}, allow_redirects=False, timeout=10
    )
    assert answer.status_code == 302
    back = answer.headers["Location"]
    assert back.startswith(f"{BACK}?")
    return back.removeprefix("https://preferences.example.test")


def is_signed_in(visitor: FlaskClient) -> bool:
    return visitor.get("/account/").status_code == 200


def test_an_account_at_the_provider_signs_in(shop: Flask, visitor: FlaskClient) -> None:
    page = visitor.get("/sign-in")
    assert f"<bdi>{LABEL.replace('&', '&amp;')}</bdi>" in page.text
    assert 'action="/sign-in/with/shop"' in page.text
    before = contents(services_of(shop).settings.database_url)

    answer = visitor.get(at_the_provider(leave(visitor)))

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/account/"
    assert is_signed_in(visitor)
    assert contents(services_of(shop).settings.database_url) == before, "coming back is a GET, and writes nothing"


def test_the_request_asks_for_the_email_scope_and_is_bound_to_it(visitor: FlaskClient) -> None:
    first, second = (dict(parse_qsl(urlsplit(leave(visitor)).query)) for _ in range(2))
    assert first["scope"] == "openid email"
    assert first["response_type"] == "code"
    assert first["redirect_uri"] == BACK
    assert first["code_challenge_method"] == "S256"
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]


def test_the_page_before_the_provider_works_without_refresh(visitor: FlaskClient) -> None:
    page = visitor.post("/sign-in/with/shop")
    (link,) = re.findall(r'class="go" href="([^"]+)"', page.text)
    assert link.replace("&amp;", "&") == page.headers["Refresh"].removeprefix("0; url=")
    assert "<script" not in page.text


def test_the_language_is_kept_through_the_provider(visitor: FlaskClient) -> None:
    answer = visitor.get(at_the_provider(leave(visitor, "?lang=fr")))
    assert answer.headers["Location"] == "/account/?lang=fr"


def test_an_unknown_address_is_told_so_and_shown_another_way(visitor: FlaskClient) -> None:
    page = visitor.get(at_the_provider(leave(visitor), "stranger"))
    assert page.status_code == 404
    assert "We have no record of this address" in page.text
    assert 'href="/sign-up"' in page.text
    assert not is_signed_in(visitor)


def test_a_replaced_address_signs_nobody_in(shop: Flask, visitor: FlaskClient) -> None:
    services, now = services_of(shop), datetime.now(UTC)
    jane = add_contact(services, email(KNOWN))
    services.database.write(contacts.attach, jane, email("new@example.com"), services.fingerprints, now)
    services.database.write(
        ledger.record, [retire_address(email(KNOWN), now, {})], fingerprints=services.fingerprints, now=now
    )
    assert visitor.get(at_the_provider(leave(visitor))).status_code == 404
    assert not is_signed_in(visitor)


@pytest.mark.parametrize("person", ["unsure", "silent", "words", "odd"])
def test_an_unverified_address_is_refused(visitor: FlaskClient, person: str) -> None:
    page = visitor.get(at_the_provider(leave(visitor), person))
    assert page.status_code == 403
    assert "Your email address is not confirmed there" in page.text
    assert "Get a new code" in page.text
    assert not is_signed_in(visitor)


def refused(page: TestResponse, visitor: FlaskClient) -> None:
    assert page.status_code == 400
    assert "You are not signed in" in page.text
    assert "Get a new code" in page.text
    assert not is_signed_in(visitor)


def test_an_answer_to_another_attempt_is_refused(visitor: FlaskClient) -> None:
    refused(visitor.get(at_the_provider(leave(visitor), state="of-another")), visitor)


def test_an_answer_with_another_nonce_is_refused(visitor: FlaskClient) -> None:
    refused(visitor.get(at_the_provider(leave(visitor), nonce="of-another")), visitor)


def test_an_answer_in_another_browser_is_refused(shop: Flask, visitor: FlaskClient) -> None:
    stranger = shop.test_client()
    refused(stranger.get(at_the_provider(leave(visitor))), stranger)


def test_an_answer_is_accepted_once(shop: Flask, visitor: FlaskClient) -> None:
    back = at_the_provider(leave(visitor))
    assert visitor.get(back).status_code == 303
    refused(shop.test_client().get(back), shop.test_client())
    with visitor.session_transaction() as session:
        session.clear()
    refused(visitor.get(back), visitor)


def test_a_failed_attempt_cannot_be_resumed(visitor: FlaskClient) -> None:
    back = at_the_provider(leave(visitor))
    refused(visitor.get("/sign-in/with/shop/callback?state=wrong&code=wrong"), visitor)
    refused(visitor.get(back), visitor)


@pytest.mark.parametrize("query", ["", "?error=access_denied&state=x", "?code=x", "?state=x", "?state=%FF&code=%00"])
def test_a_malformed_callback_is_refused(visitor: FlaskClient, query: str) -> None:
    refused(visitor.get(f"/sign-in/with/shop/callback{query}"), visitor)
    leave(visitor)
    refused(visitor.get(f"/sign-in/with/shop/callback{query}"), visitor)


def test_a_cancelled_sign_in_shows_another_way(visitor: FlaskClient) -> None:
    state = dict(parse_qsl(urlsplit(leave(visitor)).query))["state"]
    refused(visitor.get(f"/sign-in/with/shop/callback?error=access_denied&state={state}"), visitor)


def test_an_unconfigured_provider_is_not_found(visitor: FlaskClient) -> None:
    assert visitor.post("/sign-in/with/other").status_code == 404
    assert visitor.get("/sign-in/with/other/callback").status_code == 404


def test_an_attempt_ends_with_its_cookie(visitor: FlaskClient) -> None:
    back = at_the_provider(leave(visitor))
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=31)):
        refused(visitor.get(back), visitor)


def test_an_unreachable_provider_is_named_and_a_code_offered(tmp_path: Path) -> None:
    app = app_with(tmp_path, new_sqlite(tmp_path), f"http://localhost:{free_port()}")
    with capture_logs() as events:
        page = app.test_client().post("/sign-in/with/shop")
    assert page.status_code == 503
    assert "We cannot reach your account right now" in page.text
    assert "Get a new code" in page.text
    assert events == [
        {"event": "sign-in elsewhere failed", "kind": "TryLater", "why": "ConnectionError", "log_level": "warning"}
    ]
    close(app)


def test_no_personal_data_is_logged(visitor: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as events, caplog.at_level("DEBUG"):
        back = at_the_provider(leave(visitor), "unsure")
        visitor.get(back)
        refused(visitor.get(back), visitor)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("preferences", "authlib"))]
    said = f"{events} {ours}"
    assert [event["kind"] for event in events] == ["NotAllowed", "BadSignature"]
    for private in (KNOWN, SECRET, *dict(parse_qsl(urlsplit(back).query)).values()):
        assert private not in said


# A provider that lies.

ISSUED_TO = "preferences"


@cache
def key_named(_name: str) -> RSAKey:
    """A key: making one takes longer than a test."""
    return RSAKey.generate_key(2048, {"kid": "one"})


@dataclass
class Liar:
    """A provider of our own, which says whatever a test wants it to."""

    port: int = field(default_factory=free_port)
    key: RSAKey = field(default_factory=lambda: key_named("its own"))
    claims: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[Liar, dict[str, Any]], str] | None = None
    nonce: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        """As it should be."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str) -> Any:
        """What it says at this path."""
        if path == "/.well-known/openid-configuration":
            ends = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
            found = {name: f"{self.issuer}/{name}" for name in ends}
            return {"issuer": self.issuer} | found | self.metadata
        if path == "/jwks_uri":
            return {"keys": [self.key.as_dict(private=False)]}
        if path == "/userinfo_endpoint":
            return self.userinfo
        token = {"access_token": "opaque", "token_type": "Bearer", "expires_in": 60}
        return token | {"id_token": self.id_token()} | self.token

    def id_token(self) -> str:
        """The one it gives out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "1",
            "aud": ISSUED_TO,
            "exp": now + 60,
            "iat": now,
            "nonce": self.nonce,
            "email": KNOWN,
            "email_verified": True,
        }
        wanted = {name: value for name, value in (claims | self.claims).items() if value is not None}
        return self.sign(self, wanted) if self.sign else jwt.encode({"alg": "RS256", "kid": "one"}, wanted, self.key)


@pytest.fixture
def liar() -> Iterator[Liar]:
    """A provider that can lie, running."""
    running = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            running.asked.append((self.path, self.headers.get("Authorization", "")))
            answer = running.answer(self.path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", running.port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield running
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fooled(liar: Liar, tmp_path: Path) -> Iterator[Flask]:
    """A site that names the liar as its provider."""
    app = app_with(tmp_path, new_sqlite(tmp_path), liar.issuer)
    add_contact(services_of(app), email(KNOWN))
    yield app
    close(app)


def come_back(app: Flask, liar: Liar, **more: str) -> TestResponse:
    """Go there and come back."""
    visitor = app.test_client()
    asked = dict(parse_qsl(urlsplit(leave(visitor)).query))
    liar.nonce = asked["nonce"]
    page = visitor.get("/sign-in/with/shop/callback", query_string={"state": asked["state"], "code": "c"} | more)
    assert is_signed_in(visitor) is (page.status_code == 303)
    return page


def test_the_fake_provider_is_accepted_while_it_is_honest(fooled: Flask, liar: Liar) -> None:
    assert come_back(fooled, liar).status_code == 303
    assert come_back(fooled, liar, iss=liar.issuer).status_code == 303
    assert [path for path, _ in liar.asked][:3] == ["/.well-known/openid-configuration"] * 2 + ["/token_endpoint"]


def by_another_key(liar: Liar, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key_named("another"))


def by_nobody(_liar: Liar, claims: dict[str, Any]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no signature is the point
        return jwt.encode({"alg": "none"}, claims, OctKey.generate_key(), algorithms=["none"])


def by_our_secret(_liar: Liar, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(SECRET.ljust(32, "x")))


@pytest.mark.parametrize("sign", [by_another_key, by_nobody, by_our_secret])
def test_an_answer_with_a_bad_signature_is_refused(
    fooled: Flask, liar: Liar, sign: Callable[[Liar, dict[str, Any]], str]
) -> None:
    liar.sign = sign
    assert come_back(fooled, liar).status_code == 400


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": ["another-client"]},
        {"aud": ["another-client"], "azp": ISSUED_TO},
        {"aud": [ISSUED_TO, "another-client"], "azp": "another-client"},
        {"aud": None},
        {"exp": NOW - 600},
        {"exp": None},
        {"exp": "soon"},
        {"iat": NOW + 6000},
        {"iat": None},
        {"nbf": NOW + 6000},
        {"nonce": "of-another"},
        {"nonce": None},
        {"sub": None},
        {"at_hash": "of-another-token"},
    ],
    ids="-".join,  # the names and not the values: a time differs from one worker to the next
)
def test_a_signed_answer_for_another_client_or_time_is_refused(
    fooled: Flask, liar: Liar, claims: dict[str, Any]
) -> None:
    liar.claims = claims
    assert come_back(fooled, liar).status_code == 400


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"token_endpoint": "ftp://127.0.0.1/"},
        {"token_endpoint": 5},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
def test_malformed_provider_metadata_is_refused(fooled: Flask, liar: Liar, metadata: dict[str, Any]) -> None:
    liar.metadata = metadata
    page = fooled.test_client().post("/sign-in/with/shop")
    assert page.status_code == 400
    assert "Refresh" not in page.headers


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"5", b"null", b'{"keys": 5}', b"\xff\xfe", b"[" * 100_000])
def test_any_answer_of_the_provider_ends_in_a_page(
    fooled: Flask, liar: Liar, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    visitor = fooled.test_client()
    asked = dict(parse_qsl(urlsplit(leave(visitor)).query))
    for broken in ("/jwks_uri", "/token_endpoint", "/.well-known/openid-configuration"):
        whole = Liar.answer
        monkeypatch.setattr(
            Liar,
            "answer",
            lambda self, path, broken=broken, whole=whole: answer if path == broken else whole(self, path),
        )
        page = visitor.get("/sign-in/with/shop/callback", query_string={"state": asked["state"], "code": "c"})
        assert page.status_code in {400, 503}
        assert "Get a new code" in page.text
        monkeypatch.setattr(Liar, "answer", whole)
        asked = dict(parse_qsl(urlsplit(leave(visitor)).query))


def test_an_answer_that_names_another_issuer_is_refused(fooled: Flask, liar: Liar) -> None:
    assert come_back(fooled, liar, iss="https://other.example.com").status_code == 400


def test_an_address_in_the_userinfo_alone_is_fetched(fooled: Flask, liar: Liar) -> None:
    liar.claims = {"email": None, "email_verified": None}
    liar.userinfo = {"sub": "1", "email": KNOWN, "email_verified": True}
    assert come_back(fooled, liar).status_code == 303
    assert liar.asked[-1] == ("/userinfo_endpoint", "Bearer opaque")

    liar.userinfo = {"sub": "2", "email": KNOWN, "email_verified": True}
    assert come_back(fooled, liar).status_code == 400, "of somebody else"
    liar.userinfo = {"sub": "1", "email": KNOWN, "email_verified": False}
    assert come_back(fooled, liar).status_code == 403


def test_the_client_authenticates_as_the_provider_supports(fooled: Flask, liar: Liar) -> None:
    come_back(fooled, liar)
    liar.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert come_back(fooled, liar).status_code == 303
    basic, post = (header for path, header in liar.asked if path == "/token_endpoint")
    assert basic.startswith("Basic ")
    assert post == ""


def test_a_refusal_by_the_provider_is_logged_by_its_kind(fooled: Flask, liar: Liar) -> None:
    liar.token = {"error": "invalid_client", "error_description": f"{KNOWN} is none"}
    with capture_logs() as events:
        assert come_back(fooled, liar).status_code == 400
    assert [(event["kind"], event["why"]) for event in events] == [("BadSignature", "OAuthError")]


def test_each_brand_has_its_own_callback(shop: Flask) -> None:
    services, visitor = services_of(shop), shop.test_client()
    acme = Brand(
        slug="acme", name="Acme", postal_address="", contact_email="", one_click=OneClick.EVERYTHING, path="acme"
    )
    services.database.save(save_brand, acme, datetime.now(UTC))
    services.catalog.get("no such topic")  # reads the brands again
    url = visitor.post("/acme/sign-in/with/shop").headers["Refresh"].removeprefix("0; url=")
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["redirect_uri"] == "https://preferences.example.test/acme/sign-in/with/shop/callback"
    answer = requests.post(url, data={"sub": "jane"}, allow_redirects=False, timeout=10)
    back = answer.headers["Location"].removeprefix("https://preferences.example.test")
    assert visitor.get(back).headers["Location"] == "/acme/account/"


def test_a_rotated_key_counts_at_once(fooled: Flask, liar: Liar) -> None:
    assert come_back(fooled, liar).status_code == 303
    liar.key = key_named("another")
    assert come_back(fooled, liar).status_code == 303


def test_a_slow_provider_times_out(fooled: Flask, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.people.oidc.TIMEOUT", 0.2)
    whole = Liar.answer

    def slowly(self: Liar, path: str) -> Any:
        time.sleep(1)
        return whole(self, path)

    monkeypatch.setattr(Liar, "answer", slowly)
    began = time.monotonic()
    page = fooled.test_client().post("/sign-in/with/shop")
    assert page.status_code == 503
    assert time.monotonic() - began < 0.9


# The settings.

GOOD = """
[sign_in.shop]
issuer = "https://accounts.example.com/"
client_id = "preferences"
client_secret = { env = "SHOP_SECRET" }
label = "Sign in with your account"
"""


def settings_of(folder: Path, text: str, **environment: str) -> dict[str, SignInSettings]:
    file = folder / "config.toml"
    file.write_text(text)
    return read_sign_in(file, environment)


def test_provider_settings_are_read_with_their_secret(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, GOOD, SHOP_SECRET="hunter2")["shop"]
    assert settings.issuer == "https://accounts.example.com/", "exactly: it is compared with what the provider says"
    assert settings.client_secret == "hunter2"
    assert read_sign_in(tmp_path / "nothing-here.toml", {}) == {}
    assert settings_of(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('client_id = "preferences"\n', "", "sign_in shop: client_id: Field required"),
        ('"preferences"', '""', "sign_in shop: client_id: "),
        ('{ env = "SHOP_SECRET" }', '""', "sign_in shop: client_secret: "),
        ('{ env = "SHOP_SECRET" }', '{ env = "OTHER" }', "sign_in shop: the environment has no OTHER"),
        ('label = "Sign in with your account"', "", "sign_in shop: label: Field required"),
        ("https://accounts.example.com/", "http://accounts.example.com", "sign_in shop: issuer: "),
        ("https://", "https://user:hunter2@", "sign_in shop: issuer: "),
        ("sign_in.shop", "sign_in.Shop", "sign_in Shop: name: "),
        ("label", "labell", "sign_in shop: label"),
        ("[sign_in.shop]", "[[sign_in]]", "config.toml: sign_in must be tables, such as [sign_in.my-shop]"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        settings_of(tmp_path, GOOD.replace(old, new), SHOP_SECRET="hunter2")
    assert str(refusal.value).startswith(said)
    assert "hunter2" not in str(refusal.value)


def test_without_a_provider_there_is_no_button(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/sign-in")
    assert page.text.count("<form") == 1
    assert "Have an account with us?" not in page.text
