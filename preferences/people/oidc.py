"""Signing in with an account elsewhere: the conversation with a company's own OpenID provider.

Owns what is asked and what is believed (OpenID Connect Core 1.0, authorization code flow with PKCE). Invariants: an
address is believed only when the provider of the settings has signed it, for us, for this very attempt, and calls it
verified; whatever a provider answers, only the errors named here come out. Nothing is cached: signing in is rare, and
a key that was changed a minute ago counts.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from requests import RequestException

from preferences.address_parsing import read_address
from preferences.config import SignInSettings
from preferences.domain.errors import BadAddress, BadSignature, NotAllowed, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel

TIMEOUT: Final = 5.0
"""Seconds to wait for each answer: a person is looking at a blank page."""

LEEWAY: Final = 60
"""Seconds by which the provider's clock may differ from ours."""

SCOPE: Final = "openid email"

# Signatures that only the provider can make. Never `none`; nor HS256, whose key is known to whoever verifies it.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


# Whatever the libraries raise over an answer of another shape than the standards say.
_MISFITS: Final = (
    *(AuthlibBaseError, JoseError),
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
)


class Provider:
    """One provider: where to send somebody, and whom it says has come back to `back_to`."""

    def __init__(self, settings: SignInSettings, back_to: str) -> None:
        self._settings = settings
        self._back_to = back_to

    def leave(self) -> tuple[str, dict[str, str]]:
        """The address to go to, and what the browser must keep for us until it comes back.

        Raises TryLater when the provider cannot be asked, BadSignature when it does not say what it must.
        """
        kept = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "code_verifier")}
        with _declared():
            client = self._client()
            url, _ = client.create_authorization_url(self._metadata(client)["authorization_endpoint"], **kept)
            return str(url), kept

    def come_back(self, kept: Mapping[str, str], answer: Mapping[str, str]) -> Address:
        """The address of whoever came back with this answer.

        Raises TryLater when the provider cannot be asked; NotAllowed when it does not vouch for an address; and
        BadSignature for everything that does not fit together.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), kept["state"].encode()):
            raise BadSignature("another attempt than the one that began here")
        if "code" not in answer:
            raise BadSignature("the provider sent no code")
        with _declared():
            client = self._client()
            metadata = self._metadata(client)
            if answer.get("iss", metadata["issuer"]) != metadata["issuer"]:  # RFC 9207
                raise BadSignature("another provider answered")
            client.token_endpoint_auth_method = _method_of(metadata)
            token = client.fetch_token(
                metadata["token_endpoint"],
                code=answer["code"],
                code_verifier=kept["code_verifier"],
                redirect_uri=self._back_to,
            )
            claims = self._claims(client, metadata, token, kept["nonce"])
            return _verified_address(_with_email(client, metadata, claims))

    def _client(self) -> Any:
        return OAuth2Session(
            self._settings.client_id,
            self._settings.client_secret,
            scope=SCOPE,
            redirect_uri=self._back_to,
            code_challenge_method="S256",
            default_timeout=TIMEOUT,
            leeway=0,  # what it gives out is used within the second, however short its life
        )

    def _metadata(self, client: Any) -> Mapping[str, Any]:
        """What the provider publishes about itself (OpenID Connect Discovery 1.0 §4)."""
        issuer = self._settings.issuer
        metadata = _fetch(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if metadata["issuer"] != issuer:
            raise BadSignature("the provider calls itself otherwise than the settings do")
        scheme = urlsplit(issuer).scheme
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if urlsplit(metadata[name]).scheme not in {"https", scheme}:
                raise BadSignature("the provider names an address that is not safe")
        return metadata

    def _claims(
        self, client: Any, metadata: Mapping[str, Any], token: Mapping[str, Any], nonce: str
    ) -> Mapping[str, Any]:
        """The claims of the ID token, verified (OpenID Connect Core 1.0 §3.1.3.7)."""
        client_id = self._settings.client_id
        keys = KeySet.import_key_set(_fetch(client, metadata["jwks_uri"]))  # type: ignore[arg-type]
        decoded = jwt.decode(token["id_token"], keys, algorithms=ALGORITHMS)
        claims: Any = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "values": [metadata["issuer"]]},
                "aud": {"essential": True, "values": [client_id]},
            },
            {"nonce": nonce, "client_id": client_id, "access_token": token.get("access_token")},
        )
        claims.validate(leeway=LEEWAY)
        return dict(claims)


def _fetch(client: Any, url: str) -> dict[str, Any]:
    answer = client.get(url, withhold_token=True)
    answer.raise_for_status()
    return dict(answer.json())


def _method_of(metadata: Mapping[str, Any]) -> str:
    """How the provider wants us to prove who we are: the standard's way unless it offers the other one alone."""
    offered = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"


def _with_email(client: Any, metadata: Mapping[str, Any], claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims, with those that some providers tell only when asked once more."""
    if "email" in claims or "userinfo_endpoint" not in metadata:
        return claims
    answer = client.get(metadata["userinfo_endpoint"])
    answer.raise_for_status()
    more = dict(answer.json())
    if more["sub"] != claims["sub"]:
        raise BadSignature("the provider speaks of somebody else")
    return more


def _verified_address(claims: Mapping[str, Any]) -> Address:
    if claims.get("email_verified") is not True:
        raise NotAllowed("the provider has not verified the address")
    try:
        return read_address(Channel.EMAIL, str(claims.get("email", "")))
    except BadAddress:
        raise NotAllowed("the provider knows no address") from None


@contextmanager
def _declared() -> Iterator[None]:
    """Only the declared errors come out: the libraries' own messages quote what was sent."""
    try:
        yield
    except RequestException as error:
        raise TryLater(type(error).__name__) from None
    except _MISFITS as error:
        raise BadSignature(type(error).__name__) from None
