"""The checks that an operator runs before and after each change.

Owns the rules of `flask doctor`, each with an id that documentation can name. Invariant: reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.domain.errors import PreferencesError, StoreBusy
from preferences.site import Site
from preferences.store import cursors, letters, queries
from preferences.store.migrations import pending

MOST_SKEW_SECONDS: Final = 5.0
MOST_LAG: Final = 1_000
LONGEST_FOR_A_LETTER: Final = timedelta(minutes=15)
"""A code to sign in with works for ten minutes, and whoever signs up looks into the mailbox at once."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `level` is ok, warning or wrong."""

    rule: str
    level: str
    text: str

    @property
    def mark(self) -> str:
        """Four letters in front of the line."""
        return {"ok": "ok  ", "warning": "warn", "wrong": "BAD "}[self.level]

    @property
    def is_wrong(self) -> bool:
        """Whether it must be mended."""
        return self.level == "wrong"


def examine(site: Site) -> list[Finding]:
    """Everything, in the order in which it should be mended."""
    findings = list(_settings(site))
    try:
        findings += _database(site)
    except StoreBusy as error:
        return [*findings, Finding("DB-REACH", "wrong", f"the database cannot be reached: {error}")]
    return findings


def _settings(site: Site) -> Iterator[Finding]:
    url = site.settings.public_url
    if url.startswith("https://"):
        yield Finding("URL-HTTPS", "ok", "links are https")
    else:
        yield Finding(
            "URL-HTTPS", "wrong", "PUBLIC_URL is not https: right for a trial on this machine, never for mail"
        )
    keys = [*site.settings.secret_keys, *site.settings.link_keys, *site.settings.fingerprint_keys]
    if len(set(keys)) == len(keys):
        yield Finding("KEYS-APART", "ok", "every key serves one purpose")
    else:
        yield Finding(
            "KEYS-APART", "wrong", "a key is used twice: SECRET_KEYS, LINK_KEYS and FINGERPRINT_KEYS must differ"
        )
    for name, settings in site.connectors.items():
        try:
            connector = make_connector(settings)
        except PreferencesError as error:
            yield Finding("CONN-KIND", "wrong", str(error))
            continue
        if not connector.takes_webhooks:
            yield Finding("CONN-SECRET", "warning", f"{name} has no webhook secret, so its reports are not taken")


def _database(site: Site) -> Iterator[Finding]:
    if site.database.read(pending):
        yield Finding("DB-SCHEMA", "wrong", "tables are missing or old: run `flask db upgrade`")
        return
    yield Finding("DB-SCHEMA", "ok", "the database has every migration")
    skew = _skew_seconds(site)
    level = "ok" if skew <= MOST_SKEW_SECONDS else "wrong"
    yield Finding("CLOCK", level, f"this machine's clock and the database's differ by {skew:.1f} s")
    catalog = site.database.read(queries.catalog)
    yield from _brands(catalog)
    yield from _mail(site, catalog)
    yield from _mappings(site, catalog)
    yield from _cursors(site)


def examine_connector(site: Site, name: str) -> Iterator[Finding]:
    """One connector: its settings, its webhook secret, its mapping, and a dry call with its own key."""
    try:
        connector = make_connector(site.connectors[name])
    except PreferencesError as error:
        yield Finding("CONN-KIND", "wrong", str(error))
        return
    yield Finding("CONN-KIND", "ok", f"{name} is of kind {connector.settings.kind}, and its settings can be read")
    if connector.takes_webhooks:
        yield Finding("CONN-SECRET", "ok", f"{name} has a secret, so its reports are taken at /webhooks/{name}")
    else:
        yield Finding("CONN-SECRET", "warning", f"{name} has no webhook secret, so its reports are not taken")
    mapping = [one for one in _mappings(site, site.database.read(queries.catalog)) if one.text.startswith(f"{name} ")]
    yield from mapping or [Finding("CONN-MAP", "ok", f"every marketing topic has a list at {name}")]
    yield from _dry_call(connector)


def _dry_call(connector: Connector) -> Iterator[Finding]:
    try:
        problems = connector.probe()
    except PreferencesError as error:
        yield Finding("CONN-CALL", "wrong", f"the provider answered a dry call with: {error}")
        return
    for problem in problems:
        yield Finding("CONN-CALL", "wrong", problem)
    if not problems:
        text = "the provider takes the key" if connector.can_list else "there is nothing to ask this provider"
        yield Finding("CONN-CALL", "ok", text)


def _skew_seconds(site: Site) -> float:
    if site.database.is_sqlite:
        return 0.0
    theirs = site.database.read(queries.server_time)
    return abs((datetime.now(UTC) - theirs).total_seconds())


def _brands(catalog: queries.Catalog) -> Iterator[Finding]:
    for brand in catalog.brands.values():
        missing = [
            option
            for option, value in (("--postal-address", brand.postal_address), ("--contact-email", brand.contact_email))
            if not value
        ]
        if missing:
            text = f"brand {brand.slug} has no {' and no '.join(missing)}; set it with `flask brand set`"
            yield Finding("BRAND-WHO", "warning", text)
    if not _sends_marketing(catalog):
        yield Finding("TOPIC-ANY", "warning", "there is no marketing topic yet; `flask topic add` makes one")


def _sends_marketing(catalog: queries.Catalog) -> bool:
    return any(catalog.topics_of(brand, marketing=True) for brand in catalog.brands)


def _mail(site: Site, catalog: queries.Catalog) -> Iterator[Finding]:
    waiting = site.database.read(letters.count_waiting, datetime.now(UTC) - LONGEST_FOR_A_LETTER)
    if not site.settings.smtp_url:
        marketing = _sends_marketing(catalog)
        text = "SMTP_URL is not set: nobody can sign up, sign in or get a lost link, since no letter is sent"
        yield Finding("MAIL-OUT", "wrong" if marketing or waiting else "warning", text)
    if waiting:
        text = f"{waiting} of our own letters wait for more than 15 minutes: is `flask worker` running, and what does"
        yield Finding("MAIL-OUT", "wrong", f"{text} it log about the mail server?")
    elif site.settings.smtp_url:
        yield Finding("MAIL-OUT", "ok", "our own letters go out")


def _mappings(site: Site, catalog: queries.Catalog) -> Iterator[Finding]:
    for name, settings in site.connectors.items():
        for topic in (topic for brand in catalog.brands for topic in catalog.topics_of(brand, marketing=True)):
            if topic.slug not in settings.topics:
                text = f"{name} has no list for topic {topic.slug}: opting out of it alone is not told there"
                yield Finding("CONN-MAP", "warning", text)
        for slug in settings.topics:
            if slug != "*" and slug not in catalog.topics:
                yield Finding("CONN-MAP", "wrong", f"{name} maps {slug}, which is not a topic")
            elif slug != "*" and catalog.topics[slug].retired_at is not None:
                text = f"{name} maps {slug}, which is retired: take it out once nothing is sent to that list there"
                yield Finding("CONN-MAP", "warning", text)


def _cursors(site: Site) -> Iterator[Finding]:
    head = site.database.read(queries.head_seq)
    for name in site.connectors:
        yield _step(site, "CONN-RUN", name, cursor=name, head=head, resume=f"flask resume {name}")
    for name, feed in site.feeds.items():
        yield _step(site, "FEED-RUN", f"feed {name}", cursor=feed.cursor, head=head, resume=f"flask feed resume {name}")


def _step(site: Site, rule: str, name: str, *, cursor: str, head: int, resume: str) -> Finding:
    """Whether one who reads the ledger keeps up with it."""
    place = site.database.read(cursors.find_cursor, cursor)
    if place is None:
        return Finding(rule, "warning", f"{name} never ran: start `flask worker`")
    if place.paused_because:
        return Finding(rule, "wrong", f"{name} is paused: {place.paused_because}; mend it, then `{resume}`")
    if head - place.position > MOST_LAG:
        return Finding(rule, "wrong", f"{name} is {head - place.position} entries behind")
    return Finding(rule, "ok", f"{name} is in step")
