"""Links in the two texts of a mail.

Owns which of them stops the mail, and whether a person can see it. Invariant: no link is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

WORDS: Final = re.compile(
    r"unsubscribe|un-subscribe|opt[ -]?out|stop (?:these|all|this|receiving|getting)|leave this list|preferences"
    r"|abmelden|abbestellen|austragen|d[ée]sabonner|d[ée]sinscri|cancelar (?:la )?(?:suscripci|subscri|inscri)"
    r"|darse de baja|dar de baja|إلغاء الاشتراك",
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
    """A link in HTML: where it goes, the words in it that can be seen, and what it is made of besides."""

    url: str
    hidden: bool
    words: str = ""
    has_image: bool = False


@dataclass(slots=True)
class _Shown(HTMLParser):
    """Collects anchors and the visible text."""

    anchors: list[Anchor] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    opened: list[tuple[str, bool]] = field(default_factory=list)
    anchor: Anchor | None = None

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        hidden = self._is_hidden or _hides(tag, told)
        if tag == "img" and self.anchor is not None:
            self.anchor.has_image = True
        if tag == "a":
            self.anchor = Anchor(told.get("href", "").strip(), hidden)
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


def _hides(tag: str, told: dict[str, str]) -> bool:
    style = re.sub(r"\s+", "", told.get("style", ""))
    return tag in UNSHOWN or "hidden" in told or bool(HIDDEN.search(style))


def _shown(html: str) -> _Shown:
    parser = _Shown()
    parser.feed(html)
    parser.close()
    return parser


def visible_text(html: str) -> str:
    """What a person reads of it."""
    return " ".join(" ".join(_shown(html).text).split())


def ways_out_in_html(html: str, header: str) -> list[Anchor]:
    """The anchors that stop the mail: those to the header's URI, and those that say so."""
    found = [one for one in _shown(html).anchors if host_of(one.url)]
    return [one for one in found if same_place(one.url, header) or WORDS.search(one.words) or IN_URL.search(one.url)]


def ways_out_in_text(text: str, header: str) -> list[str]:
    """The URLs that stop the mail: the header's, and those on or below a line that says so."""
    found: list[str] = []
    above = ""
    for line in text.splitlines():
        for match in URL.findall(line):
            url = match.rstrip(".,;:!?)]")
            if same_place(url, header) or WORDS.search(above + line) or IN_URL.search(url):
                found.append(url)
        above = line if line.strip() else above
    return found


def same_place(one: str, other: str) -> bool:
    """Whether both URLs lead to one page."""
    return bool(one) and one.strip().rstrip("/") == other.strip().rstrip("/")


def host_of(url: str) -> str:
    """The host of an http or https URL; empty for any other."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in {"http", "https"} else ""
    except ValueError:
        return ""
