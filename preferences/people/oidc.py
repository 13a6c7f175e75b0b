"""OpenID Connect Core 1.0 client: authorization code flow with PKCE.

Invariants: an address is accepted only if the configured provider signed it as verified, for this client and attempt;
only the errors named here are raised. Nothing is cached, so a rotated key takes effect at once.
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
"""Seconds per request."""

LEEWAY: Final = 60
"""Allowed clock difference in seconds."""

SCOPE: Final = "openid email"

# Asymmetric only: `none` proves nothing, and the HS256 key is shared with the provider.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


# Raised by the libraries for malformed answers.
_MALFORMED: Final = (
    *(AuthlibBaseError, JoseError),
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
)


class Provider:
    """One provider. `redirect_uri` is the callback registered there."""

    def __init__(self, settings: SignInSettings, redirect_uri: str) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri

    def authorization(self) -> tuple[str, dict[str, str]]:
        """Return the authorization URL, and the secrets of this attempt to keep in the session.

        Raises TryLater when the provider is unreachable, BadSignature for malformed metadata.
        """
        attempt = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "code_verifier")}
        with _translated():
            client = self._client()
            url, _ = client.create_authorization_url(self._metadata(client)["authorization_endpoint"], **attempt)
            return str(url), attempt

    def verified_address(self, attempt: Mapping[str, str], answer: Mapping[str, str]) -> Address:
        """Raises TryLater when the provider is unreachable, NotAllowed without a verified address, BadSignature
        otherwise."""
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt["state"].encode()):
            raise BadSignature("another attempt than the one that began here")
        if "code" not in answer:
            raise BadSignature("the provider sent no code")
        with _translated():
            client = self._client()
            metadata = self._metadata(client)
            if answer.get("iss", metadata["issuer"]) != metadata["issuer"]:  # RFC 9207
                raise BadSignature("another provider answered")
            client.token_endpoint_auth_method = _method_of(metadata)
            token = client.fetch_token(
                metadata["token_endpoint"],
                code=answer["code"],
                code_verifier=attempt["code_verifier"],
                redirect_uri=self._redirect_uri,
            )
            claims = self._claims(client, metadata, token, attempt["nonce"])
            return _verified_address(_with_email(client, metadata, claims))

    def _client(self) -> Any:
        return OAuth2Session(
            self._settings.client_id,
            self._settings.client_secret,
            scope=SCOPE,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            default_timeout=TIMEOUT,
            leeway=0,  # a token is used within a second of its issue
        )

    def _metadata(self, client: Any) -> Mapping[str, Any]:
        """OpenID Connect Discovery 1.0 §4."""
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
        """Verify the ID token (OpenID Connect Core 1.0 §3.1.3.7)."""
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
    """The token endpoint's authentication method: the standard's default if the provider offers it."""
    offered = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"


def _with_email(client: Any, metadata: Mapping[str, Any], claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the userinfo claims if the ID token has no `email`."""
    if "email" in claims or "userinfo_endpoint" not in metadata:
        return claims
    answer = client.get(metadata["userinfo_endpoint"])
    answer.raise_for_status()
    more = dict(answer.json())
    if more["sub"] != claims["sub"]:
        raise BadSignature("the userinfo is about another subject")
    return more


def _verified_address(claims: Mapping[str, Any]) -> Address:
    if claims.get("email_verified") is not True:
        raise NotAllowed("the provider has not verified the address")
    try:
        return read_address(Channel.EMAIL, str(claims.get("email", "")))
    except BadAddress:
        raise NotAllowed("the provider knows no address") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Translate library errors, whose messages quote their input."""
    try:
        yield
    except RequestException as error:
        raise TryLater(type(error).__name__) from None
    except _MALFORMED as error:
        raise BadSignature(type(error).__name__) from None
