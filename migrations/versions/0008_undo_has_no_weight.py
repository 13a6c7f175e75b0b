"""Fold again what an undo took back, and what was said to have happened at an impossible time.

An undo used to count as a yes of its own moment, and a time such as 1970 dated an opt-out to then. The entries stay as
they are, so their hashes hold; what they add up to follows `domain.consent`, as it does for every entry from now on.
"""

from __future__ import annotations

from alembic import op

from preferences.ledger.refold import refold
from preferences.store.transactions import Save

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    refold(Save(op.get_bind()))


def downgrade() -> None:
    """What counts stays as it is: the entries are the same, and nobody who opted out is opted in."""
