"""Languages: the catalogues in `translations/`, the choice of a language, dates and lists, and the templates.

Uses Babel without Flask-Babel, which needs an application context that the unsubscribe link does not have
(docs/decisions/0010-languages.md). Invariant: a text without a translation is shown in English.
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
    """Mark a text for the catalogues. The template that shows it translates it."""
    return text


NAMES: Final = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "de": "Deutsch",
    "pt": "Português",
    "ar": "العربية",
}
"""The name of each language in that language."""

RIGHT_TO_LEFT: Final = frozenset({"ar"})
"""Not from Babel, which reads a megabyte per language for it."""

# British English for the day before the month, Brazilian Portuguese for its number of readers.
_LOCALES: Final = {"en": "en_GB", "pt": "pt_BR"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """The language of a response. `query` repeats it in the links of the page, if the URL of the page named it."""

    language: str
    query: str = ""

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`, for the `dir` attribute."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"


def choose(asked: str | None, accepted: Iterable[str], usual: str) -> Spoken:
    """The language that the URL names, else one that the browser accepts, else `usual`.

    The link in an email names the language of the email, and the language switch of a page names another.
    """
    if asked in LANGUAGES:
        return Spoken(asked, f"?lang={asked}")
    languages = (tag.partition("-")[0].lower() for tag in accepted)  # `pt` for `pt-BR`
    return Spoken(next((language for language in languages if language in LANGUAGES), usual))


def translations_of(language: str) -> NullTranslations:
    """The catalogue of a language. English has none: its texts are the keys."""
    return Translations.load(CATALOGUES, [language])


def day(at: date, language: str) -> str:
    """A day, such as `23 November 2026`, `23 de noviembre de 2026`."""
    return format_date(at, "long", _locale(language))


def listed(things: Iterable[str], language: str) -> Markup:
    """A list in words, such as `email, text message and post`, each item isolated from the direction of the others."""
    apart = [Markup("<bdi>{}</bdi>").format(thing) for thing in things]
    return Markup(format_list(apart, locale=_locale(language)))  # noqa: S704 - the things were escaped above


def moment(at: datetime, language: str) -> str:
    """An instant to the minute, in UTC, since the time zone of the reader is unknown."""
    utc, locale = at.astimezone(UTC), _locale(language)
    joined: str = locale.datetime_formats["medium"]  # `{1}, {0}`; the comma differs
    return joined.format(f"{utc:%H:%M} UTC", day(utc, language))


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, language))


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of a folder, by language, loaded on first use."""

    folder: Path

    def __getitem__(self, language: str) -> Environment:
        return _environment(self.folder, language)


@cache
def _environment(folder: Path, language: str) -> Environment:
    """Not Flask's environment, which copies a dozen globals for every page: a third of the time of rendering."""
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
