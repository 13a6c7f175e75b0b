"""Consent receipts: the document of `docs/consent-receipt.schema.json`.

Invariant: a receipt contains only what is recorded, and says what is not. In English, which prevails; pages translate.

Sources: ISO/IEC TS 27560:2023 after the W3C DPV guide "consent-27560"; GDPR 7(3), 13(2), 15 to 21, 77(1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from preferences.domain.notices import KeptNotice
from preferences.domain.records import Brand, Entry
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Actor, Basis, Channel, Origin, Status, Verb

SCHEMA_VERSION: Final = "ISO/IEC TS 27560:2023, consent receipt 1"
UNTIL_WITHDRAWN: Final = "until withdrawn"
UNKNOWN_LANGUAGE: Final = "und"
"""BCP 47."""

PII_OF: Final = {
    Channel.EMAIL: "email address",
    Channel.SMS: "telephone number",
    Channel.VOICE: "telephone number",
    Channel.POST: "postal address",
}
COLLECTED: Final[Mapping[str, str]] = {
    Origin.ACCOUNT: "on the preferences page, signed in",
    Origin.CONFIRMATION: "by a button behind the link in a confirmation letter",
    Origin.PAGE: "on the preferences page, by a link in a message",
    Origin.IMPORT: "elsewhere, and taken over from the controller's earlier records",
}
STATES: Final = {
    Status.SUBSCRIBED: "consent given",
    Status.UNSUBSCRIBED: "consent withdrawn",
    Status.NEVER_ASKED: "consent unknown",
}
RIGHTS: Final = (
    "withdraw consent at any time (GDPR 7(3))",
    "access (GDPR 15)",
    "rectification (GDPR 16)",
    "erasure (GDPR 17)",
    "restriction (GDPR 18)",
    "data portability (GDPR 20)",
    "object to direct marketing at any time (GDPR 21(2))",
    "complain to a supervisory authority (GDPR 77)",
)
AUTHORITY: Final = "the supervisory authority of where the person lives or works, or of where the law was broken"
JURISDICTION: Final = "the law at the controller's address, and the law that protects the person where they live"
RETENTION: Final = "while the consent stands; the record of it for as long as it may have to be proven"
NOBODY: Final = "nobody besides the controller"
PROCESSING: Final = "stored in this preference center, and used to decide what is sent and to send it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """An opt-in with what its receipt needs. `later` are entries that changed the preference since; `recipients` are
    third parties; `notice` is None if the wording is not on record."""

    entry: Entry
    later: Sequence[Entry]
    brand: Brand
    purpose: str
    notice: KeptNotice | None
    recipients: Sequence[str]
    home: str
    withdrawal_url: str

    @property
    def stands(self) -> bool:
        """Whether it was not withdrawn since."""
        newest = self.later[-1] if self.later else self.entry
        return newest.status is Status.SUBSCRIBED

    @property
    def given_at(self) -> datetime:
        """When it was given, or else recorded."""
        return _time(self.entry)


def is_consent(entry: Entry) -> bool:
    """Opt-ins on another basis are none, and an undo only restores one."""
    return entry.verb is Verb.SUBSCRIBE and entry.basis is Basis.CONSENT and entry.contact_id is not None


def document(consent: Consent) -> dict[str, Any]:
    """The receipt as JSON values."""
    entry, brand = consent.entry, consent.brand
    return {
        "header": {
            "schema_version": SCHEMA_VERSION,
            "record_id": entry.hash,
            "receipt_id": reference_of(entry.hash),
            "pii_principal_id": str(entry.contact_id),
        },
        "pii_processing": _processing(consent),
        "party_identification": [
            {
                "party_id": brand.slug,
                "party_name": brand.name,
                "party_address": brand.postal_address or consent.home,
                "party_contact": brand.contact_email or consent.home,
                "party_type": "PII controller",
            }
        ],
        "events": [_event(event) for event in (entry, *consent.later)],
    }


def _processing(consent: Consent) -> dict[str, Any]:
    entry, notice = consent.entry, consent.notice
    return {
        "privacy_notice": _notice(notice),
        "language": notice.notice.language if notice else UNKNOWN_LANGUAGE,
        "purpose": consent.purpose,
        "pii_information": [{"pii": PII_OF[entry.channel], "pii_type": "contact data"}],
        "pii_controllers": [consent.brand.slug],
        "collection_method": COLLECTED.get(entry.origin, "recorded by the controller"),
        "processing_method": PROCESSING,
        "storage_locations": [consent.home],
        "retention_period": RETENTION,
        "jurisdiction": JURISDICTION,
        "recipients": list(consent.recipients) or [NOBODY],
        "withdrawal_method": {"description": "one press at this address", "url": consent.withdrawal_url},
        "lawful_basis": "consent (GDPR 6(1)(a))",
        "rights": list(RIGHTS),
        "authority": AUTHORITY,
    }


def _notice(notice: KeptNotice | None) -> dict[str, Any]:
    if notice is None:
        return {"on_record": False}
    return {
        "on_record": True,
        "id": notice.notice.slug,
        "version": notice.version,
        "language": notice.notice.language,
        "text": notice.notice.text,
        "sha256": notice.notice.hash,
    }


def _event(entry: Entry) -> dict[str, Any]:
    by_person = entry.actor is Actor.RECIPIENT
    return {
        "event_time": _time(entry).astimezone(UTC).isoformat(timespec="seconds"),
        "validity_duration": UNTIL_WITHDRAWN,
        "entity_id": str(entry.contact_id) if by_person else f"{entry.actor}, {entry.origin}",
        "event_type": "expressed by the person's own act" if by_person else "reported",
        "event_state": STATES[entry.status or Status.NEVER_ASKED],
    }


def _time(entry: Entry) -> datetime:
    return entry.occurred_at or entry.recorded_at
