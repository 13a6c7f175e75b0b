"""The rules of `flask doctor`, each with an id for documentation. Invariant: reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.domain.errors import PreferencesError, StoreBusy
from preferences.domain.vocabulary import DEFAULT_SCOPES, KeyScope
from preferences.ledger.verify import missing_triggers
from preferences.services import Services
from preferences.store import catalog, cursors, feed, outbox, workers
from preferences.store.api_keys import list_keys
from preferences.store.catalog import read_catalog
from preferences.store.migrations import pending

MOST_SKEW_SECONDS: Final = 5.0
MOST_LAG: Final = 1_000
LONGEST_LAG: Final = 300.0
"""Seconds that an entry may wait to be pushed; usually below one."""

LONGEST_FOR_A_LETTER: Final = timedelta(minutes=15)
"""A sign-in code is valid for ten minutes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is ok, warning or wrong."""

    rule: str
    level: str
    text: str
    public_only: bool = False
    """Whether it is irrelevant in a trial on one machine."""

    @property
    def mark(self) -> str:
        return {"ok": "ok  ", "warning": "warn", "wrong": "BAD "}[self.level]

    @property
    def is_wrong(self) -> bool:
        return self.level == "wrong"


def examine(services: Services) -> list[Finding]:
    """Check everything, in the order in which it should be fixed."""
    findings = list(_settings(services))
    try:
        findings += _database(services)
    except StoreBusy as error:
        return [*findings, Finding("DB-REACH", "wrong", f"the database cannot be reached: {error}")]
    return findings


def _settings(services: Services) -> Iterator[Finding]:
    url = services.settings.public_url
    if url.startswith("https://"):
        yield Finding("URL-HTTPS", "ok", "links are https")
    else:
        text = "PUBLIC_URL is not https: right for a trial on this machine (`flask doctor --local`), never for mail"
        yield Finding("URL-HTTPS", "wrong", text, public_only=True)
    keys = [*services.settings.secret_keys, *services.settings.link_keys, *services.settings.fingerprint_keys]
    if len(set(keys)) == len(keys):
        yield Finding("KEYS-APART", "ok", "every key serves one purpose")
    else:
        yield Finding(
            "KEYS-APART", "wrong", "a key is used twice: SECRET_KEYS, LINK_KEYS and FINGERPRINT_KEYS must differ"
        )
    for name, settings in services.connectors.items():
        try:
            connector = make_connector(settings)
        except PreferencesError as error:
            yield Finding("CONN-KIND", "wrong", str(error))
            continue
        if not connector.takes_webhooks:
            text = f"{name} has no webhook secret, so its reports are not taken"
            yield Finding("CONN-SECRET", "warning", text, public_only=True)


def _database(services: Services) -> Iterator[Finding]:
    if services.database.read(pending):
        yield Finding("DB-SCHEMA", "wrong", "tables are missing or old: run `flask db upgrade`")
        return
    yield Finding("DB-SCHEMA", "ok", "the database has every migration")
    yield _append_only(services)
    skew = _skew_seconds(services)
    level = "ok" if skew <= MOST_SKEW_SECONDS else "wrong"
    yield Finding("CLOCK", level, f"this machine's clock and the database's differ by {skew:.1f} s")
    catalog = services.database.read(read_catalog)
    yield from _keys(services)
    yield from _brands(catalog)
    yield from _mail(services, catalog)
    yield from _mappings(services, catalog)
    yield from _workers(services)
    yield from _cursors(services)


def _append_only(services: Services) -> Finding:
    if missing := services.database.read(missing_triggers):
        names = ", ".join(missing)
        text = f"entries can be changed: the database lacks {names}; find out who dropped or disabled it, then run"
        return Finding(
            "LEDGER-GUARD", "wrong", f"{text} `flask ledger verify`. docs/operator.md says how it comes back"
        )
    return Finding("LEDGER-GUARD", "ok", "the database lets nobody change an entry")


def examine_connector(services: Services, name: str) -> Iterator[Finding]:
    """Check settings, webhook secret and mapping, and make a dry call."""
    try:
        connector = make_connector(services.connectors[name])
    except PreferencesError as error:
        yield Finding("CONN-KIND", "wrong", str(error))
        return
    yield Finding("CONN-KIND", "ok", f"{name} is of kind {connector.settings.kind}, and its settings can be read")
    if connector.takes_webhooks:
        yield Finding("CONN-SECRET", "ok", f"{name} has a secret, so its reports are taken at /webhooks/{name}")
    else:
        yield Finding("CONN-SECRET", "warning", f"{name} has no webhook secret, so its reports are not taken")
    mapping = [
        finding
        for finding in _mappings(services, services.database.read(read_catalog))
        if finding.text.startswith(f"{name} ")
    ]
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


def _skew_seconds(services: Services) -> float:
    if services.database.is_sqlite:
        return 0.0
    theirs = services.database.read(feed.server_time)
    return abs((datetime.now(UTC) - theirs).total_seconds())


def _keys(services: Services) -> Iterator[Finding]:
    """A key older than the separate `hand-offs` scope may have it unintentionally."""
    for key in services.database.read(list_keys):
        if key.revoked_at is None and DEFAULT_SCOPES | {KeyScope.HAND_OFFS} <= key.scopes:
            text = (
                f"the key {key.name} can sign in as anybody (hand-offs) beside all else that it may;"
                " make a key with the scopes it needs, then revoke it"
            )
            yield Finding("KEY-SCOPES", "warning", text)


def _brands(catalog: catalog.Catalog) -> Iterator[Finding]:
    for brand in catalog.brands.values():
        missing = [
            option
            for option, value in (("--postal-address", brand.postal_address), ("--contact-email", brand.contact_email))
            if not any(map(str.isalnum, value))  # "…" left over from an example
        ]
        if missing:
            text = f"brand {brand.slug} has no {' and no '.join(missing)}; set it with `flask brand set`"
            yield Finding("BRAND-WHO", "warning", text, public_only=True)
    if not _sends_marketing(catalog):
        yield Finding("TOPIC-ANY", "warning", "there is no marketing topic yet; `flask topic add` makes one")


def _sends_marketing(catalog: catalog.Catalog) -> bool:
    return any(catalog.topics_of(brand, marketing=True) for brand in catalog.brands)


def _mail(services: Services, catalog: catalog.Catalog) -> Iterator[Finding]:
    waiting = services.database.read(outbox.count_waiting, datetime.now(UTC) - LONGEST_FOR_A_LETTER)
    if not services.settings.smtp_url:
        marketing = _sends_marketing(catalog)
        text = "SMTP_URL is not set: nobody can sign up, sign in or get a new link, since no email is sent"
        if services.settings.is_local:
            text += " (for a trial, `make run` starts a mail server at smtp://127.0.0.1:8026)"
        yield Finding("MAIL-OUT", "wrong" if marketing or waiting else "warning", text, public_only=True)
    if waiting:
        text = f"{waiting} of our own letters wait for more than 15 minutes: is `flask worker` running, and what does"
        yield Finding("MAIL-OUT", "wrong", f"{text} it log about the mail server?")
    elif services.settings.smtp_url:
        yield Finding("MAIL-OUT", "ok", "our own letters go out")


def _mappings(services: Services, catalog: catalog.Catalog) -> Iterator[Finding]:
    for name, settings in services.connectors.items():
        for topic in (topic for brand in catalog.brands for topic in catalog.topics_of(brand, marketing=True)):
            if topic.slug not in settings.topics and topic.brand == settings.brand:
                text = f"{name} has no list for topic {topic.slug}: opting out of it alone is not told there"
                yield Finding("CONN-MAP", "warning", text)
        for slug in settings.topics:
            if slug != "*" and slug not in catalog.topics:
                yield Finding("CONN-MAP", "wrong", f"{name} maps {slug}, which is not a topic")
            elif slug != "*" and catalog.topics[slug].brand != settings.brand:
                text = f"{name} maps {slug}, a topic of brand {catalog.topics[slug].brand}, and is of {settings.brand}"
                yield Finding("CONN-MAP", "wrong", text)
            elif slug != "*" and catalog.topics[slug].retired_at is not None:
                text = f"{name} maps {slug}, which is retired: take it out once nothing is sent to that list there"
                yield Finding("CONN-MAP", "warning", text)


def _workers(services: Services) -> Iterator[Finding]:
    """Whether a worker is alive if there is work: pushes, feeds, email, comparisons."""
    now = datetime.now(UTC)
    alive = services.database.read(workers.count_alive, now)
    if alive:
        yield Finding("WORKER", "ok", f"{alive} worker{'' if alive == 1 else 's'} alive")
        return
    followers = {*services.connectors, *(feed.cursor for feed in services.feeds.values())}
    statuses = services.database.read(cursors.statuses, now)
    entries = max((status.entries_behind for name, status in statuses.items() if name in followers), default=0)
    mail = services.database.read(outbox.count_waiting, now)
    waiting = [words for count, words in ((entries, f"{entries} entries"), (mail, f"{mail} letters")) if count]
    seen = services.database.read(workers.last_seen)
    since = f"since {seen.isoformat(timespec='seconds')}" if seen else "now"
    what = f" and {' and '.join(waiting)} wait" if waiting else ""
    level = "wrong" if waiting else "warning"
    yield Finding("WORKER", level, f"no worker is alive {since}{what}: start `flask worker`")


def _cursors(services: Services) -> Iterator[Finding]:
    statuses = services.database.read(cursors.statuses, datetime.now(UTC))
    for name in services.connectors:
        yield _step("CONN-RUN", name, statuses.get(name), resume=f"flask resume {name}")
        yield from _comparison(name, statuses.get(name))
    for name, settings in services.feeds.items():
        yield _step("FEED-RUN", f"feed {name}", statuses.get(settings.cursor), resume=f"flask feed resume {name}")


def _step(rule: str, name: str, status: cursors.ConnectorStatus | None, *, resume: str) -> Finding:
    """Whether a reader of the ledger keeps up."""
    if status is None:
        return Finding(rule, "warning", f"{name} never ran: start `flask worker`")
    cursor = status.cursor
    if cursor.paused_because:
        return Finding(rule, "wrong", f"{name} is paused: {cursor.paused_because}; mend it, then `{resume}`")
    behind = f"{status.entries_behind} entries behind, the oldest of them {status.seconds_behind:.0f} s old"
    if cursor.failures >= cursors.FAILING_AFTER:
        why = f"{name} has failed {cursor.failures} times in a row: {cursor.last_error}; it is {behind}"
        return Finding(rule, "wrong", why)
    if status.entries_behind > MOST_LAG or status.seconds_behind > LONGEST_LAG:
        return Finding(rule, "wrong", f"{name} is {behind}")
    if cursor.failures:
        return Finding(rule, "warning", f"{name} waits after {cursor.failures} failures: {cursor.last_error}")
    if status.entries_behind:
        return Finding(rule, "warning" if not status.is_attended else "ok", f"{name} is {behind}")
    return Finding(rule, "ok", f"{name} is in step")


def _comparison(name: str, status: cursors.ConnectorStatus | None) -> Iterator[Finding]:
    if status is None or not status.cursor.compare_failures:
        return
    cursor = status.cursor
    level = "wrong" if cursor.compare_failures >= cursors.FAILING_AFTER else "warning"
    text = f"{name} could not be compared {cursor.compare_failures} times in a row: {cursor.compare_error}"
    yield Finding("CONN-COMPARE", level, text)
