"""Languages: which there are, which one a person gets, how it writes dates, and the templates in each.

Owns the catalogues in `translations/`, the choice among them, and the environments of Jinja. Babel is used by itself:
the unsubscribe link is answered in front of Flask, where the helpers of Flask-Babel have no context to look into
(docs/decisions/0010-languages.md). Invariant: a text that is not translated is shown in English, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

from babel import Locale
from babel.dates import format_date
from babel.lists import format_list
from babel.support import NullTranslations, Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from preferences.domain.vocabulary import LANGUAGES

CATALOGUES: Final = Path(__file__).parent / "translations"


def to_translate(text: str) -> str:
    """Marks a text for the catalogues where it stands; whoever shows it looks the translation up."""
    return text


NAMES: Final = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "de": "Deutsch",
    "pt": "Português",
    "ar": "العربية",
}
"""Each language's name for itself: whoever looks for it may read no other."""

RIGHT_TO_LEFT: Final = frozenset({"ar"})
"""Written here, since Babel reads a megabyte for each language to say so."""

# British English and Portuguese as written in Brazil: the day before the month, and the more readers.
_LOCALES: Final = {"en": "en_GB", "pt": "pt_BR"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """The language of one answer. `query` carries it along in a page's addresses, if the page's own asked for it."""

    language: str
    query: str = ""

    @property
    def direction(self) -> str:
        """Which way it is written: ltr or rtl."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"


def choose(asked: str | None, accepted: Iterable[str], usual: str) -> Spoken:
    """The language to speak: what the address asks for, else what the browser accepts, else the usual one.

    The address comes first in both its senses: a link in a letter names the letter's language, and the switch on a
    page is a link to the same page in another.
    """
    if asked in LANGUAGES:
        return Spoken(asked, f"?lang={asked}")
    plain = (tag.partition("-")[0].lower() for tag in accepted)  # `pt` for `pt-BR`: we have one of each
    return Spoken(next((one for one in plain if one in LANGUAGES), usual))


def translations_of(language: str) -> NullTranslations:
    """The catalogue of a language; English is written in the templates themselves."""
    return Translations.load(CATALOGUES, [language])


def day(at: date, language: str) -> str:
    """A day, such as `23 November 2026`, `23 de noviembre de 2026`."""
    return format_date(at, "long", _locale(language))


def listed(things: Iterable[str], language: str) -> Markup:
    """Things in a row, such as `email, text message and post`, each kept apart from the others in its direction."""
    apart = [Markup("<bdi>{}</bdi>").format(thing) for thing in things]
    return Markup(format_list(apart, locale=_locale(language)))  # noqa: S704 - the things were escaped above


def moment(at: datetime, language: str) -> str:
    """An instant to the minute, in UTC, which is named: nobody told us where the reader is."""
    utc, locale = at.astimezone(UTC), _locale(language)
    joined: str = locale.datetime_formats["medium"]  # `{1}, {0}`; the comma differs
    return joined.format(f"{utc:%H:%M} UTC", day(utc, language))


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, language))


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of a folder, by language. What a language needs is read when it is first used."""

    folder: Path

    def __getitem__(self, language: str) -> Environment:
        return _environment(self.folder, language)


@cache
def _environment(folder: Path, language: str) -> Environment:
    """The templates of this folder in one language, strict about names; compiled once in a process.

    Not Flask's own environment: its dozen globals are copied for every page, and cost a third of the rendering.
    """
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    templates.globals.clear()
    templates.install_gettext_translations(translations_of(language), newstyle=True)  # type: ignore[attr-defined]
    templates.globals |= {"_": templates.globals["gettext"], "lang": language, "dir": Spoken(language).direction}
    templates.filters["day"] = partial(day, language=language)
    templates.filters["listed"] = partial(listed, language=language)
    templates.filters["moment"] = partial(moment, language=language)
    return templates
