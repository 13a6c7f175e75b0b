"""`make contract`: are our calls those that the vendors describe?

Prism (npm, pinned beside this) stands between a connector and the vendor that keeps state
(`tests/connectors/fake_*.py`), and enforces the vendor's own API description on every request and on every answer. Each
connector stops, lists and lifts; then calls that are not as described are made, and must be refused before the vendor
sees them. A vendor without a description is not in `VENDORS`. The descriptions are not part of this repository: SPECS
names the folder.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import requests

from preferences.connectors import make_connector
from preferences.connectors.base import Connector, Push
from preferences.connectors.http import batches
from preferences.domain.errors import PreferencesError
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status, SuppressionReason
from tests.connectors.contract import push_of
from tests.connectors.fakes import FakeVendor
from tests.servers import free_port
from tests.support import email

PRISM: Final = Path(__file__).parent / "node_modules" / ".bin" / "prism"
BEARER: Final = {"Authorization": "Bearer key"}
BASIC: Final = {"Authorization": "Basic YXBpOmtleQ=="}


@dataclass(frozen=True, slots=True)
class Bad:
    """A call that the vendor does not describe. `body` is sent as JSON unless it is text."""

    what: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vendor:
    """The file of a vendor's description, and calls that it must refuse.

    `lists` is False where the description does not know the call that lists: then it is not made here.
    """

    description: str
    bad: Sequence[Bad]
    lists: bool = True


GROUP: Final = "/v3/asm/groups/17/suppressions"
DOMAIN: Final = "/v3/news.maple-and-finch.example"
AUDIENCE: Final = "/lists/a6b5da1054"
CONTACT: Final = "/v2/email/contact-lists/Customers/contacts/jane%40example.com"
SUPPRESSION: Final = "/v2/email/suppression/addresses"
SIGNED: Final = {"Authorization": "AWS4-HMAC-SHA256 Credential=key"}
FORM: Final = {**BASIC, "Content-Type": "application/x-www-form-urlencoded"}
CONSENTS: Final = "/v1/Consents/Bulk"

VENDORS: Final = {
    "sendgrid": Vendor(
        "sendgrid-suppressions.json",
        [
            Bad("no key", "POST", GROUP, {"recipient_emails": ["jane@example.com"]}),
            Bad("no addresses", "POST", GROUP, {}, BEARER),
            Bad("one address and no list", "POST", GROUP, {"recipient_emails": "jane@example.com"}, BEARER),
            Bad("what is no address", "POST", GROUP, {"recipient_emails": ["jane"]}, BEARER),
            Bad("everything, without a list", "POST", "/v3/asm/suppressions/global", {"emails": []}, BEARER),
            Bad("a page that is no number", "GET", "/v3/suppression/unsubscribes?limit=all", headers=BEARER),
            Bad("a page that is too large", "GET", "/v3/suppression/bounces?limit=501", headers=BEARER),
            Bad("a place that there is not", "GET", "/v3/asm/suppression", headers=BEARER),
            Bad("a method that there is not", "DELETE", "/v3/asm/suppressions", headers=BEARER),
        ],
    ),
    "mailgun": Vendor(
        "mailgun-suppressions.patched.json",
        [
            Bad("no key", "POST", f"{DOMAIN}/unsubscribes", [{"address": "jane@example.com"}]),
            Bad("nobody", "POST", f"{DOMAIN}/unsubscribes", [], BASIC),
            Bad("no address", "POST", f"{DOMAIN}/unsubscribes", [{"tags": ["*"]}], BASIC),
            Bad(
                "a tag and no list", "POST", f"{DOMAIN}/unsubscribes", [{"address": "a@b.example", "tags": "*"}], BASIC
            ),
            Bad("more than a thousand", "POST", f"{DOMAIN}/complaints", [{"address": "a@b.example"}] * 1_001, BASIC),
            Bad("a number for an address", "POST", f"{DOMAIN}/bounces", [{"address": 7}], BASIC),
            Bad("a page that is no number", "GET", f"{DOMAIN}/bounces?limit=all", headers=BASIC),
            Bad("no body", "POST", f"{DOMAIN}/unsubscribes", headers=BASIC),
        ],
    ),
    "mailchimp": Vendor(
        "mailchimp-marketing-members.json",
        [
            Bad("no key", "POST", AUDIENCE, {"members": []}),
            Bad("no members", "POST", AUDIENCE, {"update_existing": True}, BASIC),
            Bad("one member and no list", "POST", AUDIENCE, {"members": {"email_address": "a@b.example"}}, BASIC),
            Bad("a status that there is not", "POST", AUDIENCE, {"members": [{"status": "gone"}]}, BASIC),
            Bad("a number for an address", "POST", AUDIENCE, {"members": [{"email_address": 7}]}, BASIC),
            Bad("a list by a status that there is not", "GET", f"{AUDIENCE}/members?status=gone", headers=BASIC),
            Bad("a page that is too large", "GET", f"{AUDIENCE}/members?count=1001", headers=BASIC),
            Bad("a place that there is not", "POST", f"{AUDIENCE}/member", {}, BASIC),
        ],
    ),
    "amazon_ses": Vendor(
        "sesv2-suppression-contacts.json",
        [
            Bad("no signature", "PUT", SUPPRESSION, {"EmailAddress": "a@b.example", "Reason": "BOUNCE"}),
            Bad(
                "a reason that there is not",
                "PUT",
                SUPPRESSION,
                {"EmailAddress": "a@b.cc", "Reason": "STOP"},
                SIGNED,
            ),
            Bad("no reason", "PUT", SUPPRESSION, {"EmailAddress": "a@b.example"}, SIGNED),
            Bad("no address", "PUT", SUPPRESSION, {"Reason": "BOUNCE"}, SIGNED),
            Bad("one preference and no list", "PUT", CONTACT, {"TopicPreferences": {"TopicName": "a"}}, SIGNED),
            Bad("half a preference", "PUT", CONTACT, {"TopicPreferences": [{"TopicName": "a"}]}, SIGNED),
            Bad("a word for a switch", "PUT", CONTACT, {"UnsubscribeAll": "all"}, SIGNED),
        ],
        lists=False,  # an older model: it has ListContacts as a GET; botocore's own model checks the POST of today
    ),
    "twilio": Vendor(
        "twilio-consents.patched.json",
        [
            Bad("no key", "POST", CONSENTS, "Items=%7B%7D", {"Content-Type": FORM["Content-Type"]}),
            Bad("no items", "POST", CONSENTS, "Things=%7B%7D", FORM),
            Bad("a list, which there is not", "GET", CONSENTS, headers=BASIC),
        ],
    ),
}


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    missing = [folder / one.description for one in VENDORS.values() if not (folder / one.description).exists()]
    if missing:
        names = ", ".join(path.name for path in missing)
        print(f"There is no {names} in {folder}: say where with `make contract SPECS=FOLDER`.", file=sys.stderr)
        return 1
    if not PRISM.exists():
        print("Prism is not installed: `make contract` does it, and needs npm.", file=sys.stderr)
        return 1
    problems = [problem for kind, vendor in VENDORS.items() for problem in check(kind, vendor, folder)]
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    return 1 if problems else 0


def check(kind: str, vendor: Vendor, folder: Path) -> list[str]:
    """What is wrong with the calls of this kind."""
    fake: FakeVendor = importlib.import_module(f"tests.connectors.fake_{kind}").Fake()
    contract: Any = importlib.import_module(f"tests.connectors.test_{kind}").TestTheContract()
    with fake, prism(folder / vendor.description, fake.url) as url:
        connector = make_connector(contract.settings(base_url=url))
        problems = [f"{kind}: {problem}" for problem in check_calls(connector, fake, lists=vendor.lists)]
        seen = len(fake.asked)
        taken = [bad.what for bad in vendor.bad if not is_refused(url, bad)]
        problems += [f"{kind}: taken, and is not as described: {what}" for what in taken]
        if len(fake.asked) != seen:
            problems.append(f"{kind}: the vendor has seen a call that is not as described")
    print(f"{kind}: {seen} calls as described, {len(vendor.bad)} others refused, {len(problems)} problems")
    return problems


def check_calls(connector: Connector, fake: FakeVendor, *, lists: bool) -> Iterator[str]:
    """Stop on each list and for each reason, list, and lift; each step must leave behind what it says."""
    connector.calls_per_second = 0.0
    refs = list(connector.settings.topics.values())
    people = [_person(connector, number) for number in range(5)]
    noes = [push_of(who, list_ref=ref) for who in people[:3] for ref in refs]
    reasons = (SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT)
    told = [push_of(people[3 + index], list_ref=refs[-1], reason=one) for index, one in enumerate(reasons)]
    yield from _attempt("stop", connector, noes + told)
    if not all(fake.holds(push.address.value, push.list_ref) for push in noes):
        yield "somebody who was stopped is not"
    if connector.can_list and lists:
        yield from _check_list(connector, noes)
    if connector.can_lift:
        liftable = [ref for ref in refs if connector.lifts_from(ref)]
        since = datetime.now(UTC) + timedelta(days=1)
        back = [push_of(people[0], list_ref=ref, status=Status.SUBSCRIBED, since=since) for ref in liftable]
        yield from _check_held(connector, back)
        yield from _attempt("lift", connector, back)
        if any(fake.holds(people[0].value, ref) for ref in liftable):
            yield "somebody who came back has not"


def _person(connector: Connector, number: int) -> Address:
    if Channel.EMAIL in connector.channels:
        return email(f"person{number}@example.com")
    return Address(Channel.SMS, f"+1202555010{number}")


def _check_held(connector: Connector, back: Sequence[Push]) -> Iterator[str]:
    try:
        held = list(connector.held(back))
    except PreferencesError as error:
        yield f"held: {error}"
        return
    if not {(push.address, push.list_ref) for push in back} <= {(row.address, row.list_ref) for row in held}:
        yield "what stands against a single address is not read"


def _check_list(connector: Connector, noes: Sequence[Push]) -> Iterator[str]:
    try:
        listed = {(row.address, row.list_ref) for row in connector.list_suppressed()}
        if not {(push.address, push.list_ref) for push in noes} <= listed:
            yield "the list leaves somebody out"
        if problems := connector.probe():
            yield f"a dry call says: {'; '.join(problems)}"
    except PreferencesError as error:
        yield f"list: {error}"


def _attempt(what: str, connector: Connector, pushes: Sequence[Push]) -> Iterator[str]:
    try:
        for part in batches(pushes, connector.batch_size):
            for refusal in connector.push(part):
                yield f"{what}: {refusal.why}"
    except PreferencesError as error:
        yield f"{what}: {error}"


def is_refused(url: str, bad: Bad) -> bool:
    """Whether Prism refuses a call, which it does with the vendor's own code or with a problem document of its own."""
    body = bad.body if bad.body is None or isinstance(bad.body, str) else json.dumps(bad.body)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    answer = requests.request(bad.method, url + bad.path, data=body, headers={**headers, **bad.headers}, timeout=20)
    return 400 <= answer.status_code < 500


@contextmanager
def prism(description: Path, upstream: str) -> Iterator[str]:
    """Prism before a server, refusing what is not as described."""
    port = free_port()
    command = [str(PRISM), "proxy", "--host", "127.0.0.1", "--port", str(port), "--errors", str(description), upstream]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
        except requests.RequestException:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("Prism did not start")


if __name__ == "__main__":
    sys.exit(main())
