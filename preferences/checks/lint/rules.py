"""The rules as a table: id, title, source, check.

Invariants: a rule that another rule's failure prevents is not applicable, so that one mistake is one failure; no
sentence quotes the mail.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import unquote

from preferences.checks.lint.findings import Options, Result, Verdict
from preferences.checks.lint.links import Anchor, host_of, same_place, visible_text, ways_out_in_html, ways_out_in_text
from preferences.checks.lint.reading import Mail
from preferences.checks.lint.signing import check_signature
from preferences.domain.vocabulary import MessageClass

LONGEST_LINE: Final = 998
LONGEST_LIST_ID: Final = 255
SHORTEST_TOKEN: Final = 22
"""Base64 characters of 128 bits."""

PASS, WARN, FAIL, NOT_APPLICABLE = Result.PASS, Result.WARN, Result.FAIL, Result.NOT_APPLICABLE

_ITEM: Final = re.compile(r"<([^<>]*)>")
_POST: Final = re.compile(rb"(?i:list-unsubscribe-post): ?List-Unsubscribe=One-Click")
_FOLD_IN_URI: Final = re.compile(rb"<[^<>]*\r?\n[^<>]*>")
_LIST_ID: Final = re.compile(r"[^<>]*<([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)+)>")
_POSTAL: Final = re.compile(
    r"\bP\.? ?O\.? Box \d+|\b[A-Z]{2},? \d{5}(?:-\d{4})?\b"
    r"|\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|\b[A-Z]\d[A-Z] \d[A-Z]\d\b"
    r"|\b\d+[A-Za-z]?,? (?:\w+\.? ){1,4}"
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Way|Court|Square|Boulevard|Blvd)\b"
    r"|(?:stra(?:ß|ss)e|str\.|platz|weg|allee|gasse|straat|laan|rue|calle|via|rua|avenida)\b.{0,80}?\b\d{4,5}\b",
    re.IGNORECASE | re.DOTALL,
)
_PROMOTION: Final = re.compile(
    r"\d+ ?% ?off|\bsale\b|\bdiscount|\bcoupon|\bpromo|special offer|\bdeals?\b|free shipping|buy now|limited time"
    r"|\bsave (?:up to )?[$€£]?\d+",
    re.IGNORECASE,
)
_NO_HEADER: Final = Verdict(NOT_APPLICABLE, "There is not exactly one readable List-Unsubscribe field to look at.")


@dataclass(frozen=True, slots=True)
class Rule:
    """`check` returns None if the rule is not about this class of mail."""

    id: str
    title: str
    source: str
    check: Callable[[Mail, Options], Verdict | None]


def _only_for(
    kind: MessageClass, check: Callable[[Mail, Options], Verdict], mail: Mail, options: Options
) -> Verdict | None:
    return check(mail, options) if options.message_class is kind else None


def _one_of_each(mail: Mail, _options: Options) -> Verdict:
    for name in ("List-Unsubscribe", "List-Unsubscribe-Post"):
        count = len(mail.named(name))
        if count != 1:
            return Verdict(FAIL, f"There are {count} {name} fields: put exactly one on the mail.")
    return Verdict(PASS, "There is one of each list field.")


def _header(mail: Mail) -> str:
    """The only readable List-Unsubscribe, else empty: another rule reports that."""
    fields = mail.named("List-Unsubscribe")
    if len(fields) != 1 or b"=?" in fields[0].raw or not fields[0].raw.isascii():
        return ""
    return fields[0].value


def _uris(mail: Mail) -> list[str]:
    return ["".join(item.split()) for item in _ITEM.findall(_header(mail))]


def _https_uri(mail: Mail) -> str:
    return next((uri for uri in _uris(mail) if uri.lower().startswith("https:")), "")


_THIS_MACHINE: Final = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?/", re.IGNORECASE)


def _schemes(mail: Mail, options: Options) -> Verdict:
    if not _header(mail):
        return _NO_HEADER
    if re.sub(r"\([^()]*\)|[\s,]", "", _ITEM.sub("", _header(mail))):
        return Verdict(FAIL, "Put each URI of List-Unsubscribe in angle brackets, with commas between them.")
    schemes = [uri.partition(":")[0].lower() for uri in _uris(mail)]
    if options.local and sum(bool(_THIS_MACHINE.match(uri)) for uri in _uris(mail)) == schemes.count("http") == 1:
        return Verdict(WARN, "An http URI on this machine: right for a trial, and never for mail to others.")
    if "http" in schemes:
        return Verdict(FAIL, "Take the http: URI out of List-Unsubscribe, or make it https:.")
    if schemes.count("https") != 1:
        return Verdict(FAIL, f"There are {schemes.count('https')} https URIs in List-Unsubscribe: put exactly one.")
    if "mailto" not in schemes:
        return Verdict(WARN, "One https URI. A mailto: beside it should be there for programs that know no other way.")
    return Verdict(PASS, "One https URI, and a mailto beside it.")


def _post_value(mail: Mail, _options: Options) -> Verdict:
    fields = mail.named("List-Unsubscribe-Post")
    if len(fields) != 1:
        return Verdict(NOT_APPLICABLE, "There is not exactly one List-Unsubscribe-Post field to look at.")
    if _POST.fullmatch(fields[0].raw):
        return Verdict(PASS, "The value is exact.")
    return Verdict(FAIL, "Write the field as `List-Unsubscribe-Post: List-Unsubscribe=One-Click`, on one line.")


def _raw_ascii(mail: Mail, _options: Options) -> Verdict:
    fields = mail.named("List-Unsubscribe")
    if len(fields) != 1:
        return _NO_HEADER
    raw = fields[0].raw
    if b"=?" in raw or not raw.isascii():
        return Verdict(FAIL, "Write List-Unsubscribe in plain ASCII, not as encoded words (=?utf-8?…).")
    if any(len(line.rstrip(b"\r")) > LONGEST_LINE for line in raw.split(b"\n")):
        return Verdict(FAIL, "Make each line of List-Unsubscribe 998 characters long at most: shorten its URIs.")
    if _FOLD_IN_URI.search(raw):
        return Verdict(FAIL, "Fold List-Unsubscribe only between two URIs, never inside one.")
    return Verdict(PASS, "Plain ASCII, in lines that arrive whole.")


def _opaque(mail: Mail, _options: Options) -> Verdict:
    uri = _https_uri(mail)
    if not uri:
        return Verdict(NOT_APPLICABLE, "There is no https URI to look at.")
    plain = unquote(unquote(uri))
    pieces = [piece for piece in re.split(r"[/?&=#.;,:]+", plain.partition("//")[2]) if piece]
    if _ADDRESS.search(plain) or any(_hides_address(piece) for piece in [*pieces, *re.split(r"[/?&;]|\w+=", plain)]):
        return Verdict(FAIL, "Take the address out of the URI, encoded or not: use a random or signed token.")
    digests = {kind(address.encode()).hexdigest() for address in mail.recipients for kind in _DIGESTS}
    if digests & {piece.lower() for piece in pieces}:
        return Verdict(FAIL, "The URI holds a digest of the address, which anybody can compute: use a signed token.")
    # Split before decoding: a token may hold an encoded slash or plus.
    parts = re.split(r"[/?&=#;.]", uri.partition("//")[2].partition("/")[2])
    tokens = [run for part in parts for run in _TOKEN.findall(_decoded(part))]
    if not any(not token.isdigit() for token in tokens):
        return Verdict(FAIL, "The URI can be guessed: give it a random or signed token of 128 bits, not a number.")
    return Verdict(PASS, "The URI tells nothing and cannot be guessed.")


_TOKEN: Final = re.compile(rf"[^\s./?&=#;,:]{{{SHORTEST_TOKEN},}}")
_ADDRESS: Final = re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")


def _decoded(part: str) -> str:
    """A URI part, percent-decoded twice, without separators."""
    return re.sub(r"[/+=.]", "", unquote(unquote(part)))


_DIGESTS: Final = (
    partial(hashlib.md5, usedforsecurity=False),
    partial(hashlib.sha1, usedforsecurity=False),
    hashlib.sha256,
)


def _hides_address(piece: str) -> bool:
    """Whether it is base64 or hexadecimal of an address."""
    found: list[bytes] = []
    try:
        found.append(base64.b64decode(piece.rstrip("=") + "=" * (-len(piece.rstrip("=")) % 4), b"-_"))
        found.append(bytes.fromhex(piece))
    except (binascii.Error, ValueError):
        pass
    return any(re.search(rb"[\w.+%-]{1,64}@[\w-]+\.[\w.-]{2,}", text) for text in found)


def _no_list_headers(mail: Mail, _options: Options) -> Verdict:
    if any(mail.named(name) for name in ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id")):
        return Verdict(FAIL, "Take List-Unsubscribe, List-Unsubscribe-Post and List-Id off transactional mail.")
    return Verdict(PASS, "No list fields, as it should be for transactional mail.")


def _list_id(mail: Mail, _options: Options) -> Verdict:
    fields = mail.named("List-Id")
    if not fields:
        return Verdict(WARN, "There should be a List-Id of the topic, such as <news.list-id.example.com>.")
    if len(fields) > 1:
        return Verdict(FAIL, f"There are {len(fields)} List-Id fields: put one on the mail.")
    found = _LIST_ID.fullmatch(fields[0].value)
    if not found:
        return Verdict(
            FAIL, "Write List-Id as an optional name and <label.domain>, such as <news.list-id.example.com>."
        )
    if len(found[1]) > LONGEST_LIST_ID:
        return Verdict(FAIL, "Make the List-Id 255 characters long at most.")
    if not _related(found[1].lower(), mail.sender_domain):
        return Verdict(WARN, "The List-Id is not below the domain of From: check that its domain is your own.")
    return Verdict(PASS, "The List-Id has its form, and is below your own domain.")


def _related(domain: str, other: str) -> bool:
    return bool(other) and domain.split(".")[-2:] == other.split(".")[-2:]


def _visible_link(mail: Mail, _options: Options) -> Verdict:
    header = _https_uri(mail)
    if mail.text is None:
        return Verdict(FAIL, "Add a plain text part with the unsubscribe link.")
    in_text = ways_out_in_text(mail.text, header)
    if not in_text:
        return Verdict(FAIL, "Put the unsubscribe link into the plain text part too, with a word that says what it is.")
    if mail.html is None:
        return _not_tracked(header, in_text)
    in_html = ways_out_in_html(mail.html, header)
    shown = [anchor for anchor in in_html if not anchor.hidden and anchor.words.strip()]
    if not shown:
        return Verdict(FAIL, _why_not_shown(in_html))
    both = [anchor.url for anchor in shown if any(same_place(anchor.url, url) for url in in_text)]
    if not both:
        return Verdict(FAIL, "Let the unsubscribe links of the text part and of the HTML part lead to the same place.")
    return _not_tracked(header, both)


def _why_not_shown(anchors: list[Anchor]) -> str:
    if any(anchor.hidden for anchor in anchors):
        return "The unsubscribe link in the HTML part is hidden by its style: let people see it."
    if any(anchor.has_image for anchor in anchors):
        return "The unsubscribe link in the HTML part is only an image: write it in words."
    return "Put an unsubscribe link into the HTML part, in words that say what it is."


def _not_tracked(header: str, urls: list[str]) -> Verdict:
    if any(url.lower().startswith("http:") for url in urls):
        return Verdict(WARN, "The unsubscribe link should be https:.")
    if header and host_of(header) not in {host_of(url) for url in urls}:
        return Verdict(WARN, "The link people see leads to another host than List-Unsubscribe: is it click-tracked?")
    return Verdict(PASS, "People can see the unsubscribe link in every part.")


def _postal_address(mail: Mail, options: Options) -> Verdict:
    parts = [] if mail.text is None else [" ".join(mail.text.split())]
    parts += [] if mail.html is None else [visible_text(mail.html)]
    if not any(parts):
        return Verdict(FAIL, "There is no text to hold a postal address: add one.")
    wanted = _letters(options.address)
    if wanted:
        if all(wanted in _letters(part) for part in parts):
            return Verdict(PASS, "The postal address given stands in every part.")
        return Verdict(FAIL, "The postal address given does not stand in every part of the mail: add it.")
    if all(_POSTAL.search(part) for part in parts):
        return Verdict(PASS, "A postal address was recognised by its form; to be sure, give its text with --address.")
    return Verdict(FAIL, "No postal address was recognised in every part: add it, or give its text with --address.")


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


def _automatic(mail: Mail, _options: Options) -> Verdict:
    said = mail.value("Auto-Submitted").partition(";")[0].strip().lower()
    if said in {"auto-generated", "auto-replied"}:
        return Verdict(PASS, "It says that a machine wrote it.")
    return Verdict(
        WARN, "If no person wrote it, Auto-Submitted should say auto-generated, or auto-replied for an answer."
    )


def _placement(mail: Mail, _options: Options) -> Verdict:
    body = mail.text if mail.text is not None else visible_text(mail.html or "")
    if _PROMOTION.search(mail.value("Subject")) or _PROMOTION.search(body[: max(200, len(body) // 3)]):
        text = "The subject or the beginning seems to promote something (a guess by its words): then it is marketing."
        return Verdict(WARN, text)
    return Verdict(PASS, "Neither subject nor beginning seems to promote anything (a guess by their words).")


def _not_in_one_mail(_mail: Mail, _options: Options) -> Verdict:
    return Verdict(NOT_APPLICABLE, "Cannot be seen in one mail; `flask selftest oneclick` looks at the live site.")


_marketing = partial(partial, _only_for, MessageClass.MARKETING)
_transactional = partial(partial, _only_for, MessageClass.TRANSACTIONAL)

RULES: Final = (
    Rule("M-01", "One List-Unsubscribe, one List-Unsubscribe-Post", "RFC 8058 §3.1", _marketing(_one_of_each)),
    Rule("M-02", "One https URI, a mailto beside it, no http", "RFC 8058 §3.1", _marketing(_schemes)),
    Rule("M-03", "The exact value of List-Unsubscribe-Post", "RFC 8058 §5", _marketing(_post_value)),
    Rule("M-04", "Plain ASCII, folded only between URIs", "RFC 2369 §2, RFC 5322 §2.1.1", _marketing(_raw_ascii)),
    Rule("M-05", "DKIM holds, is From's, covers both fields", "RFC 8058 §4, RFC 6376", _marketing(check_signature)),
    Rule("M-06", "The URI tells nothing and cannot be guessed", "RFC 8058 §3.1, §6", _marketing(_opaque)),
    Rule("M-07", "No list fields on transactional mail", "Gmail's sender guidelines", _transactional(_no_list_headers)),
    Rule("M-08", "A List-Id of the right form", "RFC 2919 §2-§5", _marketing(_list_id)),
    Rule("M-09", "An unsubscribe link that people can see", "Gmail's sender guidelines", _marketing(_visible_link)),
    Rule("M-10", "A postal address", "15 USC 7704(a)(5)", _marketing(_postal_address)),
    Rule("M-11", "Automatic mail says so", "RFC 3834 §5", _transactional(_automatic)),
    Rule("M-12", "Decided when it is sent, not when queued", "16 CFR 316", _not_in_one_mail),
    Rule("M-13", "The link keeps working", "15 USC 7704(a)(3)(A)(ii)", _not_in_one_mail),
    Rule("M-14", "Transactional mail does not promote", "16 CFR 316.3(a)(2)", _transactional(_placement)),
)
