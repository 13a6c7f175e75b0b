"""Acts are recorded through the Writer, which opens the transactions for it."""

from __future__ import annotations

from pathlib import Path

import preferences
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, Verb
from preferences.ledger.group_commit import BLOCK
from preferences.services import Services
from preferences.store import feed
from tests.support import email

PACKAGE = Path(preferences.__file__).parent

WRITES = {
    "ledger/group_commit.py": "acts",
    "importing/run.py": "acts of a file, in its own blocks",
    "importing/export.py": "a restore",
    "sending/links.py": "contacts alone",
    "people/contacts.py": "contacts alone",
    "mail/prepare.py": "contacts alone",
    "cli/checks.py": "contacts alone",
}
"""The modules that open a write transaction, and what they write in it."""


def test_acts_are_recorded_through_the_writer_alone() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert {name for name, text in sources.items() if "database.write(" in text} <= WRITES.keys() | {
        "store/transactions.py"  # an example in a docstring
    }
    recording = {name for name, what in WRITES.items() if what == "contacts alone"}
    assert not {name for name in recording if "ledger.record" in sources.get(name, "")}


def act(number: int) -> Act:
    return Act(
        verb=Verb.UNSUBSCRIBE,
        channel=Channel.EMAIL,
        who=email(f"person-{number}@example.com"),
        brand="default",
        topic="offers",
        origin="api.shop",
        origin_ref=f"ref-{number}",
        actor=Actor.PROVIDER,
        occurred_at=None,
    )


def test_many_acts_are_recorded_in_blocks_and_in_order(services: Services) -> None:
    acts = [act(number) for number in range(BLOCK + 10)]
    entries = services.writer.record_many(acts)
    assert [entry.origin_ref for entry in entries] == [each.origin_ref for each in acts]
    assert len({entry.recorded_at for entry in entries}) == 2
    assert services.writer.record_many(acts) == entries
    assert services.writer.record_many([]) == []
    assert services.database.read(feed.head_seq) == len(acts)


def test_work_of_the_writer_holds_the_lock_of_the_ledger(services: Services) -> None:
    services.writer.record([act(1), act(2)])
    assert services.writer.run(lambda write: write.seq) == 2
