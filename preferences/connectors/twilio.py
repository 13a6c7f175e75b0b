"""Twilio SMS: the words that recipients send, and the consents that we push.

Facts: Twilio's pages on webhook security, Advanced Opt-Out and the Consent API (generally available since 30 June 2026)
and the description accounts_v1, read 2026-11-23; the words by 47 CFR 64.1200(a)(10) and CTIA 5.1.3. Invariants: who
says stop, in whatever spelling, is stopped for all marketing by SMS of the brand and not for one sender only; nobody
comes back by a word alone; the answer to a report is never a message to the person.
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
"""Words that stop, without case, accents, spaces and punctuation: "Opt-Out!" is `optout`. The French ones are Twilio's
own as well (twilio.com/docs/proxy/opt-out-keywords, 2026-11-30)."""

START: Final = frozenset({"start", "yes", "unstop"})
HELP: Final = frozenset({"help", "info", "aide", "ayuda"})
FILLERS: Final = frozenset(
    {
        *("please", "pls", "plz", "thanks", "thank", "you", "now", "me", "all", "the", "this", "these", "it", "my"),
        *("text", "texts", "texting", "message", "messages", "messaging", "sms", "sending", "number", "from", "list"),
        *("i", "want", "to", "would", "like", "out", "of", "your", "just", "por", "favor", "svp", "merci", "gracias"),
    }
)
"""Words around one that stops, which leave no doubt about it: "please stop texting me"."""

PHRASES: Final = (
    "leave me alone",
    "do not text",
    "dont text",
    "no more text",
    "no more messages",
    "take me off",
    "opt me out",
)
"""What a reasonable person would read as a stop as well, anywhere in a message."""

PARTED: Final = re.compile(r"\b(?:(opt)[\W_]+(out)|(un)[\W_]+(subscribe)|(stop)[\W_]+(all))\b")
"""Words that stop, written as two: "opt-out please" and "please opt out" say the same as "optout". Each pair by itself:
"stop out" is no word, and stays the two that it is."""

OPT_OUT_TYPES: Final = {"STOP": EventKind.UNSUBSCRIBE, "START": EventKind.RESUBSCRIBE, "HELP": None}
"""What Twilio says itself, where Advanced Opt-Out is on."""

NUMBER: Final = re.compile(r"(?:rcs:)?(\+[0-9]{5,15})")
"""Who sent a message. Twilio has one opt-out for SMS, MMS and RCS, whichever of them it came by (its changelog of
2026-03-15). WhatsApp and others have prefixes of their own, and opt-outs of their own."""
SENDER: Final = re.compile(r"MG[0-9a-fA-F]{32}|\+?[0-9]{3,15}")
ALGORITHMS: Final = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
"""With the account's auth token, and with a shared key for webhooks (twilio-python 9.13)."""

PORTS: Final = {"https": 443, "http": 80}


class TwilioOptions(Options):
    """`account_sid` goes with `api_key`, the auth token or an API key's secret; `api_key_sid` where it is the latter.
    `webhook_url` is the address as Twilio has it, where that is not `PUBLIC_URL/webhooks/NAME`."""

    account_sid: str = ""
    api_key_sid: str = ""
    webhook_url: str = ""


class Twilio(Connector):
    """The senders of one account: `list_ref` is a messaging service (`MG…`) or a number."""

    busy_code = 503
    refused_code = 403
    batch_size = 25
    calls_per_second = 100 / 60
    can_list = False
    channels = frozenset({Channel.SMS})
    # An empty answer in Twilio's own language: words in plain text would be sent to the person.
    accepted = ("<Response/>", "text/xml")
    options_type = TwilioOptions
    options: TwilioOptions

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, SENDER, example="MG… (a messaging service) or +12025550123")

    # In.

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        # No time is signed, so there is no age to check: a repeated MessageSid is known by its entry.
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

    # Out.

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
        """Nothing: Twilio has no way to read consents."""
        return iter(())


def expected_signature(
    secret: str, url: str, pairs: Sequence[tuple[str, str]], *, algorithm: str = "HMAC_SHA1"
) -> bytes:
    """Base64 of the HMAC, keyed with the auth token, over the address and each parameter's name and value, by name.

    Of a name that comes more than once, each value counts once, in order (twilio.com/docs/usage/webhooks, 2026-11-23).
    """
    text = url + "".join(name + value for name, value in sorted(set(pairs)))
    digest = hmac.digest(secret.encode("utf-8", "replace"), text.encode("utf-8", "replace"), ALGORITHMS[algorithm])
    return base64.b64encode(digest)


def _algorithm(settings: str) -> str:
    """What `X-Twilio-Webhooks-Signature-Settings` names: `key=…,algorithm=HMAC_SHA256`; SHA-1 without it."""
    parts = (part.partition("=") for part in settings.split(","))
    named = [value.strip().upper() for name, _, value in parts if name.strip() == "algorithm" and value.strip()]
    algorithm = named[0] if named else "HMAC_SHA1"
    if algorithm not in ALGORITHMS:
        raise BadSignature("an algorithm that we do not know")
    return algorithm


def _with_and_without_port(url: str) -> Iterator[str]:
    """The address as it is, and with the default port put in or taken out: Twilio has signed either."""
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
    """What a message means: a stop, a return, or neither."""
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
    """The words of a message, in small letters, without accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold().replace("'", "").replace("’", ""))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"\w+", PARTED.sub(lambda found: "".join(half for half in found.groups() if half), letters))


def _correlation_id(push: Push) -> str:
    """32 hexadecimal digits that are the same at each try of the same push."""
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
