"""How many examples the property tests try: `HYPOTHESIS_PROFILE` is `dev` (the default), `ci` or `nightly`.

Loaded by `conftest.py`. A test that needs another number than the 100 of `ci` says `max_examples=scaled(300)`.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

FACTORS: Final = {"dev": 0.25, "ci": 1.0, "nightly": 20.0}
PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE") or "dev"


def scaled(examples: int) -> int:
    """So many examples in `ci`, a quarter of them in `dev`, and twenty times as many in `nightly`."""
    return max(1, round(examples * FACTORS[PROFILE]))


def load() -> None:
    """Register the profiles, and load the one that the environment names. Raises KeyError for any other name."""
    for name, factor in FACTORS.items():
        settings.register_profile(name, max_examples=round(100 * factor), deadline=None, print_blob=True)
    settings.load_profile(PROFILE)
