"""Adding a provider is one file, one folder of payloads and one line; this says which of it is missing."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import preferences.connectors
from preferences.connectors import KINDS, find_kind
from preferences.connectors.base import Connector
from tests.connectors.contract import PAYLOADS, ConnectorContract

ROOT = Path(preferences.connectors.__file__).parents[2]
SHARED = {"__init__", "base", "forms", "http", "lifts", "lists", "parsing", "sns", "unsigned"}

# What each vendor takes for busy and for refused, from the vendors' own documents.
CODES = {
    "webhook": (503, 401),
    "sendgrid": (503, 401),
    "mailgun": (503, 406),
    "postmark": (503, 401),
    "amazon_ses": (503, 403),
    "sparkpost": (503, 401),
    "mailchimp": (503, 403),
    "brevo": (429, 401),
    "klaviyo": (503, 401),
    "twilio": (503, 403),
    "resend": (503, 401),
}


def test_each_file_beside_the_registry_has_its_line_there() -> None:
    files = {path.stem for path in (ROOT / "preferences" / "connectors").glob("*.py")}
    assert files - SHARED == {kind.place.partition(":")[0].rpartition(".")[2] for kind in KINDS.values()}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_is_complete(kind: str) -> None:
    found = find_kind(kind)
    assert found is not None
    assert issubclass(found, Connector)
    assert (found.busy_code, found.refused_code) == CODES[kind]
    assert list((PAYLOADS / kind).glob("*")), f"tests/connectors/payloads/{kind}/ holds its reports"
    assert (PAYLOADS / kind / "expected.json").exists(), "and expected.json says what they mean"
    tests = importlib.import_module(f"tests.connectors.test_{kind}")
    contracts = [one for one in vars(tests).values() if isinstance(one, type) and issubclass(one, ConnectorContract)]
    assert any(one.kind == kind for one in contracts if one is not ConnectorContract), "it keeps the contract"
    assert f"## The `{kind}` connector" in (ROOT / "docs" / "connectors.md").read_text(), "it is documented"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_stands_in_the_registry_and_nowhere_else(kind: str) -> None:
    """A line about it in another file would be one more to write for each provider. Files of exports are no connectors,
    and name the tool that wrote them."""
    folder = ROOT / "preferences"
    others = [path for path in folder.rglob("*.py") if not path.is_relative_to(folder / "connectors")]
    others = [path for path in others if not path.is_relative_to(folder / "importing" / "formats")]
    words = {f'"{kind}"', *([f'"{KINDS[kind].title}"'] if KINDS[kind].title else [])}
    assert [path.name for path in others if any(word in path.read_text() for word in words)] == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_people_know_a_kind_by_its_providers_own_name(kind: str) -> None:
    assert KINDS[kind].title or kind == "webhook", "our own protocol has no provider"


def test_no_kind_is_tested_that_is_not_there() -> None:
    assert {path.name for path in PAYLOADS.iterdir()} <= KINDS.keys()
