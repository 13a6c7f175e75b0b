"""Acts and address lists for tests of scrubs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import (
    Actor,
    Basis,
    Channel,
    Verb,
)
from preferences.ledger import record as ledger
from preferences.services import Services

NOW = datetime.now(UTC)


def act(who: Address, verb: Verb, topic: str = "product-news", days: int = 1, **more: Any) -> Act:
    is_wish = "reason" not in more
    return Act(
        verb=verb,
        channel=Channel.EMAIL,
        who=who,
        origin="test",
        actor=Actor.RECIPIENT,
        occurred_at=NOW - timedelta(days=days),
        brand="default" if is_wish else "",
        topic=topic if is_wish else "",
        trusted=True,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        **more,
    )


def tell(services: Services, *acts: Act, fingerprints: Fingerprints | None = None) -> None:
    services.database.write(
        ledger.record, acts, fingerprints=fingerprints or services.fingerprints, now=datetime.now(UTC)
    )


def written(folder: Path, octets: bytes) -> Path:
    path = folder / "list.csv"
    path.write_bytes(octets)
    return path
