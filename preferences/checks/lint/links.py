"""Unsubscribe links in the texts of a mail, and whether they are visible. Invariant: no link is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

WORDS: Final = re.compile(
    r"unsubscribe|un-subscribe|opt[ -]?out|stop (?:these|all|this|receiving|getting)|leave this list|preferences"
    r"|abmelden|abbestellen|austragen|abmeldung|d[ée]sabonn|d[ée]sinscri|se désengager"
    r"|cancelar (?:la |a )?(?:suscripci|subscri|inscri)|darse de baja|dar de baja|descadastr|anular (?:la )?suscrip"
    r"|annulla (?:l.)?iscrizione|cancella(?:re|ti)? (?:l.)?iscrizione|disiscri|disdici|uitschrijv|afmelden"
    r"|avregistrera|avprenumerera|avsluta prenumeration|avmeld|meld deg av|afmeld|frameld"
    r"|peruuta (?:tilaus|uutiskirje)|lopeta tilaus|wypisz|zrezygnuj|anuluj subskrypc|rezygnacja z"
    r"|odhlásit|odhlásiť|leiratkoz|dezabon|abonelikten|aboneliği iptal|odjav|atsisakyti|atrakst|loobu"
    r"|отпи[сш]|отказаться от|відпис|διαγραφή|κατάργηση εγγραφής|הסר|להסרה|ביטול (?:הרשמה|מינוי)"
    r"|[إا]لغاء (?:ال)?اشتراك|لغو (?:اشتراک|عضویت)|अनसब्सक्राइब|सदस्यता (?:समाप्त|रद्द)|আনসাবস্ক্রাইব"
    r"|配信(?:の)?停止|配信を停止|購読(?:の)?解除|登録(?:の)?解除|退会|退订|退訂|取消订阅|取消訂閱"
    r"|수신\s?거부|구독\s?(?:취소|해지)|hủy (?:đăng ký|nhận)|ยกเลิกการ(?:รับ|สมัคร|ติดตาม)|berhenti (?:ber)?langganan",
    re.IGNORECASE,
)
IN_URL: Final = re.compile(r"unsub|opt-?out|/u/", re.IGNORECASE)
URL: Final = re.compile(r"https?://[^\s<>\"']+")
HIDDEN: Final = re.compile(
    r"display:none|visibility:hidden|font-size:0(?:px|pt|em|%|;|$)|opacity:0(?:;|$)|mso-hide:all", re.IGNORECASE
)
VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
UNSHOWN: Final = frozenset(("style", "script", "head", "title", "template"))


@dataclass(slots=True)
class Anchor:
    """An HTML link with its visible words."""

    url: str
    hidden: bool
    words: str = ""
    has_image: bool = False


@dataclass(slots=True)
class _Shown(HTMLParser):
    """Collects anchors and visible text."""

    anchors: list[Anchor] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    opened: list[tuple[str, bool]] = field(default_factory=list)
    anchor: Anchor | None = None

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        hidden = self._is_hidden or _hides(tag, attributes)
        if tag == "img" and self.anchor is not None:
            self.anchor.has_image = True
        if tag == "a":
            self.anchor = Anchor(attributes.get("href", "").strip(), hidden)
            self.anchors.append(self.anchor)
        if tag not in VOID:
            self.opened.append((tag, hidden))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.anchor = None
        for place in range(len(self.opened) - 1, max(-1, len(self.opened) - 50), -1):
            if self.opened[place][0] == tag:
                del self.opened[place:]
                return

    def handle_data(self, data: str) -> None:
        if self.anchor is not None and not self.anchor.hidden and self._is_hidden:
            return
        if self.anchor is not None:
            self.anchor.words += data
        if not self._is_hidden:
            self.text.append(data)

    @property
    def _is_hidden(self) -> bool:
        return bool(self.opened) and self.opened[-1][1]


def _hides(tag: str, attributes: dict[str, str]) -> bool:
    style = re.sub(r"\s+", "", attributes.get("style", ""))
    return tag in UNSHOWN or "hidden" in attributes or bool(HIDDEN.search(style))


def _shown(html: str) -> _Shown:
    parser = _Shown()
    parser.feed(html)
    parser.close()
    return parser


def visible_text(html: str) -> str:
    return " ".join(" ".join(_shown(html).text).split())


def ways_out_in_html(html: str, header: str) -> list[Anchor]:
    """Links to the page of the header's URI, or with unsubscribe words in any language."""
    found = [anchor for anchor in _shown(html).anchors if host_of(anchor.url)]
    return [
        anchor
        for anchor in found
        if same_page_for_tokens(anchor.url, header) or WORDS.search(anchor.words) or IN_URL.search(anchor.url)
    ]


def ways_out_in_text(text: str, header: str) -> list[str]:
    """The header's URL, and those on or below a line with unsubscribe words."""
    found: list[str] = []
    above = ""
    for line in text.splitlines():
        for match in URL.findall(line):
            url = match.rstrip(".,;:!?)]")
            if same_page_for_tokens(url, header) or WORDS.search(above + line) or IN_URL.search(url):
                found.append(url)
        above = line if line.strip() else above
    return found


def same_place(url: str, other: str) -> bool:
    return bool(url) and url.strip().rstrip("/") == other.strip().rstrip("/")


def same_page_for_tokens(url: str, other: str) -> bool:
    """Whether two URLs differ at most in their tokens."""
    return same_place(url, other) or (bool(page := _without_token(url)) and page == _without_token(other))


def _without_token(url: str) -> tuple[str, ...]:
    """Host, folders and parameter names without tokens; empty if nothing else is left."""
    if not host_of(url):
        return ()
    parts = urlsplit(url)
    words = [word for word in re.split(r"[/?&=#;]", f"{parts.path}?{parts.query}") if word]
    kept = tuple(word for word in words if len(word) < _SHORTEST_TOKEN and not re.search(r"\d{3}", word))
    return (host_of(url), *kept) if kept and len(kept) < len(words) else ()


_SHORTEST_TOKEN: Final = 16
"""Characters of a URL part that counts as a token."""


def host_of(url: str) -> str:
    """The host of an http or https URL, else empty."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in {"http", "https"} else ""
    except ValueError:
        return ""
