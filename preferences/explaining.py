"""Why somebody may or may not be written to, in plain lines.

Owns the wording of `flask explain`. Invariant: reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from preferences.domain.permission import Decision, may_send
from preferences.domain.references import reference_of
from preferences.domain.terms import Address, Entry
from preferences.site import Site
from preferences.store import queries
from preferences.store.facts import facts_for


def explanation(site: Site, address: Address) -> Iterator[str]:
    """Line by line: the decision for each topic, then every entry, oldest first."""
    catalog = site.database.read(queries.catalog)
    timeline = site.database.read(queries.timeline, address, site.fingerprints)
    yield f"contact: {timeline.contact_id or 'none; nobody has this address'}"
    yield ""
    yield "may we send?"
    for topic in catalog.topics.values():
        if address.channel not in topic.channels:
            continue
        facts = site.database.read(
            facts_for,
            [address],
            channel=address.channel,
            about=topic,
            fingerprints=site.fingerprints,
            now=datetime.now(UTC),
        )
        yield f"  {topic.slug} ({topic.message_class}): {_words(may_send(topic.message_class, facts[address]))}"
    yield ""
    yield "entries, oldest first:" if timeline.entries else "no entries"
    for entry in timeline.entries:
        yield f"  {_line(entry)}"
        if entry.seq in timeline.evidence:
            yield f"      evidence: {timeline.evidence[entry.seq]}"


def _words(decision: Decision) -> str:
    verdict = "yes" if decision.allowed else "no"
    because = f", because of entry {decision.entry}" if decision.entry else ""
    return f"{verdict}  ({decision.rule}{because})"


def _line(entry: Entry) -> str:
    about = entry.reason or f"{entry.brand}/{entry.topic}"
    when = (entry.occurred_at or entry.recorded_at).isoformat(timespec="seconds")
    effect = "" if entry.changed else ", changed nothing"
    return (
        f"{entry.seq}  {reference_of(entry.hash)}  {when}  {entry.verb} {about}"
        f"  by {entry.actor} through {entry.origin}{effect}"
    )
