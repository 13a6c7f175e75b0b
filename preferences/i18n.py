"""Languages: catalogues, language selection, date and list formats, templates.

Uses Babel without Flask-Babel, which needs an application context (docs/decisions/0010-languages.md). Invariant:
untranslated text is shown in English.
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
    """Mark a text for extraction. The template translates it."""
    return text


NAMES: Final = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "de": "Deutsch",
    "pt": "Português",
    "ar": "العربية",
}
"""Each language's name in itself."""

RIGHT_TO_LEFT: Final = frozenset({"ar"})
"""Babel reads a megabyte per language for these."""

# `en_GB` puts the day before the month; `pt_BR` has the most readers.
_LOCALES: Final = {"en": "en_GB", "pt": "pt_BR"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """The language of a response. `query` repeats it in links if the URL named it."""

    language: str
    query: str = ""

    @property
    def direction(self) -> str:
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"


def choose(asked: str | None, accepted: Iterable[str], usual: str) -> Spoken:
    """The URL's language, else the first accepted and supported one, else `usual`."""
    if asked in LANGUAGES:
        return Spoken(asked, f"?lang={asked}")
    languages = (tag.partition("-")[0].lower() for tag in accepted)  # `pt-BR` → `pt`
    return Spoken(next((language for language in languages if language in LANGUAGES), usual))


def translations_of(language: str) -> NullTranslations:
    """The catalogue of a language; empty for English."""
    return Translations.load(CATALOGUES, [language])


def day(at: date, language: str) -> str:
    """Format a date, such as `23 de noviembre de 2026`."""
    return format_date(at, "long", _locale(language))


def listed(things: Iterable[str], language: str) -> Markup:
    """Join items, each isolated from the text direction of the others."""
    apart = [Markup("<bdi>{}</bdi>").format(thing) for thing in things]
    return Markup(format_list(apart, locale=_locale(language)))  # noqa: S704 - the things were escaped above


def moment(at: datetime, language: str) -> str:
    """Format a time to the minute, in UTC: the reader's time zone is unknown."""
    utc, locale = at.astimezone(UTC), _locale(language)
    joined: str = locale.datetime_formats["medium"]  # `{1}, {0}` with the locale's comma
    return joined.format(f"{utc:%H:%M} UTC", day(utc, language))


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(_LOCALES.get(language, language))


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates of a folder by language, loaded on first use."""

    folder: Path

    def __getitem__(self, language: str) -> Environment:
        return _environment(self.folder, language)


@cache
def _environment(folder: Path, language: str) -> Environment:
    """Not Flask's environment: copying its globals takes a third of the rendering time."""
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
