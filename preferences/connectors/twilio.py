"""Twilio SMS: replies in, consents out.

Source: Twilio's pages on webhook security, Advanced Opt-Out and the Consent API, and accounts_v1, read 2026-11-23;
47 CFR 64.1200(a)(10); CTIA 5.1.3. Invariants: a stop in any spelling ends all SMS marketing of the brand; a keyword
alone never opts in; no answer is a message to the contact.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from preferences.config import ConnectorSettings
from preferences.connectors.base import Connector, Listed, Options, Parsed, Push, Refusal
from preferences.connectors.forms import read_form, read_pairs
from preferences.connectors.http import basic_auth, json_body
from preferences.connectors.lists import require_lists
from preferences.connectors.parsing import event_id, find_address
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.vocabulary import BLANKET, Channel

STOP: Final = frozenset(
    {
        *("stop", "quit", "end", "revoke", "optout", "cancel", "unsubscribe", "stopall", "remove"),
        *("arret", "arrete", "arrett", "arreter", "alto", "parar", "desabo", "desabonner"),
    }
)
"""Stop words without case, accents, spaces and punctuation. The French ones include Twilio's
(twilio.com/docs/proxy/opt-out-keywords, 2026-11-30).
"""

START: Final = frozenset({"start", "yes", "unstop"})
HELP: Final = frozenset({"help", "info", "aide", "ayuda"})
FILLERS: Final = frozenset(
    {
        *("please", "pls", "plz", "thanks", "thank", "you", "now", "me", "all", "the", "this", "these", "it", "my"),
        *("text", "texts", "texting", "message", "messages", "messaging", "sms", "sending", "number", "from", "list"),
        *("i", "want", "to", "would", "like", "out", "of", "your", "just", "por", "favor", "svp", "merci", "gracias"),
    }
)
"""Words beside a stop word that leave no doubt: "please stop texting me"."""

PHRASES: Final = (
    "leave me alone",
    "do not text",
    "dont text",
    "no more text",
    "no more messages",
    "take me off",
    "opt me out",
)
"""Phrases that a reasonable person reads as a stop, anywhere in a message."""

PARTED: Final = re.compile(r"\b(?:(opt)[\W_]+(out)|(un)[\W_]+(subscribe)|(stop)[\W_]+(all))\b")
"""Stop words written as two, "opt-out" for "optout". Only these pairs: "stop out" stays two words."""

OPT_OUT_TYPES: Final = {"STOP": EventKind.UNSUBSCRIBE, "START": EventKind.RESUBSCRIBE, "HELP": None}
"""Twilio's own classification, with Advanced Opt-Out."""

NUMBER: Final = re.compile(r"(?:rcs:)?(\+[0-9]{5,15})")
"""The sender. One opt-out covers SMS, MMS and RCS (Twilio's changelog, 2026-03-15). WhatsApp and others have their own
prefixes and opt-outs.
"""
SENDER: Final = re.compile(r"MG[0-9a-fA-F]{32}|\+?[0-9]{3,15}")
ALGORITHMS: Final = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
"""With the auth token, and with a shared webhook key (twilio-python 9.13)."""

PORTS: Final = {"https": 443, "http": 80}


class TwilioOptions(Options):
    """`api_key` is the auth token of `account_sid`, or the secret of `api_key_sid`. `webhook_url`: the URL configured
    at Twilio, if not `PUBLIC_URL/webhooks/NAME`.
    """

    account_sid: str = ""
    api_key_sid: str = ""
    webhook_url: str = ""


class Twilio(Connector):
    """`list_ref` is a messaging service (`MG…`) or a number."""

    busy_code = 503
    refused_code = 403
    batch_size = 25
    calls_per_second = 100 / 60
    can_list = False
    channels = frozenset({Channel.SMS})
    # Empty TwiML: plain text would be sent to the contact.
    accepted = ("<Response/>", "text/xml")
    options_type = TwilioOptions
    options: TwilioOptions

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, SENDER, example="MG… (a messaging service) or +12025550123")

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        # No time is signed, so none is checked; the ledger entry of a MessageSid detects repeats.
        try:
            pairs = read_pairs(body)
        except BadPayload:
            raise BadSignature("not a form") from None
        given = headers.get("x-twilio-signature", "").encode("utf-8", "replace")
        algorithm = _algorithm(headers.get("x-twilio-webhooks-signature-settings", ""))
        address = self._address(url)
        fits = [
            hmac.compare_digest(given, expected_signature(secret, candidate, pairs, algorithm=algorithm))
            for secret in self.settings.webhook_secrets
            if secret
            for candidate in _with_and_without_port(address)
        ]
        if not any(fits):
            raise BadSignature("no token fits")

    def _address(self, url: str) -> str:
        query = urlsplit(url).query if url else ""
        ours = self.options.webhook_url
        return url if not ours else ours if "?" in ours or not query else f"{ours}?{query}"

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        form = read_form(body)
        message_id = event_id(form.get("MessageSid") or form.get("SmsSid"))
        if message_id is None or "From" not in form:
            raise BadPayload("not a message as Twilio describes it")
        kind = read_word(form)
        sender = NUMBER.fullmatch(form["From"])
        address = find_address(Channel.SMS, sender[1]) if sender else None
        if kind is None or address is None:
            return Parsed([], 1)
        event = ProviderEvent(
            kind=kind,
            address=address,
            event_id=message_id,
            occurred_at=None,
            brand=self.settings.brand,
            topic=BLANKET,
        )
        return Parsed([event], 0)

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        refusals = [Refusal(push.contact_id, "Twilio shows no consents") for push in pushes if push.is_lift]
        return refusals + self._opt_out([push for push in pushes if not push.is_lift])

    def _opt_out(self, pushes: Sequence[Push]) -> list[Refusal]:
        if not pushes:
            return []
        items = {_correlation_id(push): push for push in pushes}
        form = [("Items", json_body(_consent(push, correlation)).decode()) for correlation, push in items.items()]
        headers = self._headers | {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self.settings.base_url}/v1/Consents/Bulk"
        answer = self.session.call("POST", url, headers=headers, body=urlencode(form).encode())
        try:
            failed = {str(item["correlation_id"]): _why(item) for item in answer["items"] if item["error_code"]}
        except (KeyError, TypeError, AttributeError):
            raise TryLater("an answer that is not as described") from None
        return [Refusal(push.contact_id, failed[item_id]) for item_id, push in items.items() if item_id in failed]

    @property
    def _headers(self) -> dict[str, str]:
        user = self.options.api_key_sid or self.options.account_sid
        if not user:
            raise Misconfigured("options.account_sid is empty")
        return basic_auth(user, self.settings.api_key)

    def list_suppressed(self) -> Iterator[Listed]:
        """Empty: Twilio has no way to read consents."""
        return iter(())


def expected_signature(
    secret: str, url: str, pairs: Sequence[tuple[str, str]], *, algorithm: str = "HMAC_SHA1"
) -> bytes:
    """Base64 HMAC over the URL and each parameter's name and value, sorted by name.

    Each distinct value of a repeated name counts once (twilio.com/docs/usage/webhooks, 2026-11-23).
    """
    text = url + "".join(name + value for name, value in sorted(set(pairs)))
    digest = hmac.digest(secret.encode("utf-8", "replace"), text.encode("utf-8", "replace"), ALGORITHMS[algorithm])
    return base64.b64encode(digest)


def _algorithm(settings: str) -> str:
    """The algorithm in `X-Twilio-Webhooks-Signature-Settings` (`key=…,algorithm=HMAC_SHA256`); default SHA-1."""
    parts = (part.partition("=") for part in settings.split(","))
    named = [value.strip().upper() for name, _, value in parts if name.strip() == "algorithm" and value.strip()]
    algorithm = named[0] if named else "HMAC_SHA1"
    if algorithm not in ALGORITHMS:
        raise BadSignature("an algorithm that we do not know")
    return algorithm


def _with_and_without_port(url: str) -> Iterator[str]:
    """The URL as given, and with the default port added or removed: Twilio signs either."""
    yield url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return
    if port is None and parts.scheme in PORTS:
        yield urlunsplit(parts._replace(netloc=f"{host}:{PORTS[parts.scheme]}"))
    elif port == PORTS.get(parts.scheme):
        yield urlunsplit(parts._replace(netloc=host))


def read_word(form: Mapping[str, str]) -> EventKind | None:
    """Whether a message opts out, opts in, or neither."""
    said = form.get("OptOutType", "").upper()
    if said in OPT_OUT_TYPES:
        return OPT_OUT_TYPES[said]
    words = _words(form.get("Body", ""))
    whole = "".join(words)
    if whole in HELP:
        return None
    if whole in START:
        return EventKind.RESUBSCRIBE
    return EventKind.UNSUBSCRIBE if whole in STOP or _means_stop(words) else None


def _means_stop(words: Sequence[str]) -> bool:
    text = " ".join(words)
    left = {word for word in words if word not in FILLERS}
    return (bool(left) and left <= STOP) or any(phrase in text for phrase in PHRASES)


def _words(text: str) -> list[str]:
    """The words in lower case, without accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("'", "").replace("’", ""))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"\w+", PARTED.sub(lambda found: "".join(half for half in found.groups() if half), letters))


def _correlation_id(push: Push) -> str:
    """32 hexadecimal digits, the same for each retry of a push."""
    parts = f"{push.contact_id}|{push.list_ref}|{push.status}|{push.entry}|{push.address.channel}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _consent(push: Push, correlation_id: str) -> dict[str, str]:
    return {
        "contact_id": push.address.value,
        "correlation_id": correlation_id,
        "sender_id": push.list_ref,
        "status": "opt-out",
        "source": "others",
        "date_of_consent": push.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _why(item: Mapping[str, Any]) -> str:
    messages = item.get("error_messages")
    names = messages if isinstance(messages, list) else []
    safe = [str(name) for name in names if re.fullmatch(r"[A-Z_]{1,60}", str(name))]
    return f"error {item['error_code']}: {', '.join(safe[:5])}"[:200]
