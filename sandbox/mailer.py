"""Composes the company's letters, as the bytes that go over the wire.

Owns what the mails say and how they are encoded. Invariant: a List-* header arrives as it was given, in one line of
ASCII, because a mailbox provider reads no other (RFC 2369 section 2, RFC 8058 section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final

import dkim
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from sandbox.client import Links
from sandbox.config import Person

COMPANY: Final = "Maple & Finch"
OUTLET: Final = "Finch Outlet"
"""Its other brand."""

DOMAIN: Final = "maple-and-finch.example"
POSTAL_ADDRESS: Final = "12 Harbour Lane, Portland, ME 04101, USA"

SELECTOR: Final = "sandbox"
KEY_NAME: Final = f"{SELECTOR}._domainkey.{DOMAIN}"
"""Where a real company's DNS would have the public key."""

SIGNED: Final = (
    *(b"from", b"to", b"subject", b"date", b"message-id", b"auto-submitted"),
    *(b"list-unsubscribe", b"list-unsubscribe-post", b"list-id"),
)

BODY_POLICY: Final = SMTP.clone(max_line_length=76)
"""For encoding the parts: RFC 2045 section 6.7 ends an encoded line at 76."""

WIRE_POLICY: Final = SMTP.clone(max_line_length=998)
"""For writing the message: with a shorter limit Python encodes every long URL in a header, which breaks one-click."""


class BadHeader(ValueError):
    """A header that would not arrive as it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What the company writes about one topic, in a brand's name. `why` tells the reader why they get it.

    `button` is what the sandbox's pages call one of them.
    """

    topic: str
    topic_name: str
    button: str
    brand: str = COMPANY
    message_class: str
    sender: str
    subject: str
    preview: str
    paragraphs: tuple[str, ...]
    why: str

    @property
    def is_marketing(self) -> bool:
        return self.message_class == "marketing"


# Marketing and receipts come from different senders, so that nobody who filters one loses the other.
LETTERS: Final = {
    letter.topic: letter
    for letter in (
        Letter(
            topic="product-news",
            topic_name="Product news",
            button="the newsletter",
            message_class="marketing",
            sender="news",
            subject="No. {number}: a bench for two, and a lamp that folds",
            preview="What left the workshop this month.",
            paragraphs=(
                "The harbour bench is back, this time in ash and long enough for two. It comes in one box, "
                "goes together without tools and can stay outside all winter.",
                "We also finished a reading lamp that folds flat into a drawer. The first forty are numbered.",
                "Come and see both in the shop, or wait for the photographs next week.",
            ),
            why="You get this because you asked for our product news.",
        ),
        Letter(
            topic="offers",
            topic_name="Offers",
            button="an offer",
            message_class="marketing",
            sender="offers",
            subject="Offer {number}: oak stools, two for the price of one",
            preview="Until Sunday, while there are any.",
            paragraphs=(
                "We made too many oak stools. Until Sunday you get two for the price of one, in the shop and online.",
                "They stack, they carry a grown-up, and they have been seen as bedside tables.",
            ),
            why="You get this because you bought something from us before.",
        ),
        Letter(
            topic="outlet-finds",
            topic_name="Finds of the week",
            button="an outlet email",
            brand=OUTLET,
            message_class="marketing",
            sender="outlet",
            subject="Find {number}: a bench with a scratch",
            preview="There is one of each.",
            paragraphs=(
                "This week: a harbour bench with a scratch on its back, which nobody sees who sits on it.",
                "Also two lamps that fold flat, but not quite. They light up all the same.",
            ),
            why="You get this because you bought something from the outlet before.",
        ),
        Letter(
            topic="receipts",
            topic_name="Receipts",
            button="a receipt",
            message_class="transactional",
            sender="orders",
            subject="Your receipt for order MF-{number:04d}",
            preview="Thank you. Here is what you paid.",
            paragraphs=(
                "Thank you for your order. You paid $148.00 by card for one reading lamp, shipping included.",
                "It leaves the workshop tomorrow. Keep this receipt for the five-year guarantee.",
            ),
            why="You get this because you ordered something; receipts come whatever mail you choose from us.",
        ),
    )
}

_templates = Environment(
    loader=PackageLoader("sandbox"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def compose(letter: Letter, person: Person, links: Links | None, *, number: int, now: datetime) -> bytes:
    """One mail, ready to send. `number` counts the sendings. Raises BadHeader.

    A marketing mail needs its links. A receipt does without any when there are none.
    """
    subject = letter.subject.format(number=number)
    message = EmailMessage(policy=BODY_POLICY)
    message["From"] = Address(letter.brand, letter.sender, DOMAIN)
    message["To"] = Address(person.name, addr_spec=person.address)
    message["Subject"] = subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=DOMAIN)
    if not letter.is_marketing:
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5: no vacation notes to the order desk
    headers = links.headers if links else {}
    for name, value in headers.items():
        message[name] = value
    _add_parts(message, letter, subject=subject, person=person, links=links)
    raw = message.as_bytes(policy=WIRE_POLICY)
    _check_arrival(raw, headers)
    return raw


def sign(raw: bytes, key: bytes) -> bytes:
    """The mail with the company's DKIM signature (RFC 6376). `key` is the private one as PEM.

    The list headers are named once more than they stand there, so that nobody can add another (RFC 8058 section 4).
    """
    present = [line.partition(b":")[0].lower() for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    names = [name for name in SIGNED if name in present]
    names += [name for name in names if name.startswith(b"list-unsubscribe")]
    header: bytes = dkim.sign(raw, SELECTOR.encode(), DOMAIN.encode(), key, include_headers=names)
    return header + raw


def _add_parts(message: EmailMessage, letter: Letter, *, subject: str, person: Person, links: Links | None) -> None:
    facts = {
        "letter": letter,
        "subject": subject,
        "person": person,
        "unsubscribe_url": links.unsubscribe_url if links else None,
        "manage_url": links.manage_url if links else None,
        "company": letter.brand,
        "postal_address": POSTAL_ADDRESS,
    }
    text = _templates.get_template("mail/letter.txt").render(facts)
    page = _templates.get_template("mail/letter.html").render(facts)
    message.set_content(text, cte=_encoding(text))
    message.add_alternative(page, subtype="html", cte=_encoding(page))


def _encoding(text: str) -> str:
    """The plainest encoding that fits: people read the source of these mails."""
    return "7bit" if text.isascii() else "quoted-printable"


def _check_arrival(raw: bytes, headers: dict[str, str]) -> None:
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    for name, value in headers.items():
        if not value.isascii() or f"{name}: {value}".encode() not in lines:
            raise BadHeader(f"{name} would be folded or encoded on its way")
