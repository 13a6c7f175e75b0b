"""Commands that check an email, and a live site's one-click URL.

Exit code 1: something is wrong. 3: nothing is, but not everything could be checked.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from preferences.cli.common import Command, Group, fail, plain_errors
from preferences.current import current_services
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.services import Services

if TYPE_CHECKING:
    from preferences.checks.lint import Report
    from preferences.checks.lint.findings import Finding
    from preferences.checks.selftest import Canary
    from preferences.sending.decide import Decisions

NOT_ALL_CHECKED: Final = 3


@click.command("lint-eml", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--class",
    "message_class",
    type=click.Choice([MessageClass.MARKETING.value, MessageClass.TRANSACTIONAL.value]),
    default=MessageClass.MARKETING.value,
    show_default=True,
    help="What kind of mail it is.",
)
@click.option(
    "--dkim-key", "keys", multiple=True, metavar="NAME=FILE", help="A public key, as SELECTOR._domainkey.DOMAIN=FILE."
)
@click.option("--no-dns", is_flag=True, help="Look no DKIM key up.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--address", default="", help="The postal address that must stand in the mail.")
@click.option("--local", is_flag=True, help="Take links over http to this machine, as in a trial.")
def lint_eml(
    files: tuple[Path, ...],
    message_class: str,
    keys: tuple[str, ...],
    no_dns: bool,
    form: str,
    address: str,
    local: bool,
) -> None:
    """Check mails, saved as .eml by any program, against the rules for mail that people can leave.

    Exit code 1 when a rule fails, 3 when none does but a DKIM key could not be looked up. Links are never opened.

    \b
    Example:
      flask lint-eml newsletter.eml --address "12 Harbour Lane, Portland, ME 04101"
    """
    from preferences.checks.lint import MOST_BYTES, Options, lint
    from preferences.checks.lint.signing import look_up

    options = Options(
        message_class=MessageClass(message_class),
        keys=dict(_key(text) for text in keys),
        look_up=None if no_dns else look_up,
        address=address,
        local=local,
    )
    reports = [(file, lint(_first_bytes(file, MOST_BYTES + 1), options)) for file in files]
    (_print_json if form == "json" else _print_text)(reports)
    results = {report.result.value for _, report in reports}
    sys.exit(1 if "fail" in results else NOT_ALL_CHECKED if "unchecked" in results else 0)


def _key(option: str) -> tuple[str, bytes]:
    from preferences.checks.lint.signing import BadKey, read_key

    name, _, file = option.partition("=")
    if "._domainkey." not in name or not file:
        fail("--dkim-key is SELECTOR._domainkey.DOMAIN=FILE, such as s1._domainkey.example.com=s1.txt")
    try:
        return name.lower().rstrip("."), read_key(_first_bytes(Path(file), 65_536))
    except BadKey as error:
        fail(f"{file}: {error}")


def _first_bytes(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        fail(f"{file} cannot be read ({error.strerror})")


def _print_text(reports: Sequence[tuple[Path, Report]]) -> None:
    for file, report in reports:
        broken = ", ".join(report.with_result(report.result)) if report.result.value != "pass" else ""
        click.echo(f"{file}: {report.result}{f' ({broken})' if broken else ''}")
        for finding in report.findings:
            click.echo(f"  {finding.result.upper():<9}  {finding.rule}  {finding.text}")
    counts = _counts(reports)
    click.echo(f"{len(reports)} checked: " + ", ".join(f"{number} {name}" for name, number in counts.items()))


def _print_json(reports: Sequence[tuple[Path, Report]]) -> None:
    mails = [
        {
            "file": str(file),
            "result": report.result,
            "findings": [_as_json(finding) for finding in report.findings],
        }
        for file, report in reports
    ]
    click.echo(json.dumps({"mails": mails, **_counts(reports)}, indent=2))


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "rule": finding.rule,
        "title": finding.title,
        "source": finding.source,
        "result": finding.result,
        "text": finding.text,
    }


def _counts(reports: Sequence[tuple[Path, Report]]) -> dict[str, int]:
    results = [report.result.value for _, report in reports]
    return {f"{name}": results.count(name) for name in ("pass", "fail", "unchecked")}


selftest = Group("selftest", help="Call a live site as mail programs do.")


@selftest.command("oneclick")
@click.option("--url", help="The base URL of the live site, which must be this installation; else PUBLIC_URL.")
@click.option("--token-url", help="Call this unsubscribe link, whoever's it is, and look at the answers alone.")
def selftest_oneclick(url: str | None, token_url: str | None) -> None:
    """Call the one-click address in every way that mail programs do, for contacts that are made for it (canaries).

    Exit code 1 when any check fails. The canaries stay, opted out; their addresses end in .invalid, so no mail can
    reach them. With --token-url, whoever the link belongs to is opted out.

    \b
    Example:
      flask selftest oneclick --url https://preferences.example.com
    """
    from preferences.checks.selftest import Canary, Prober

    services = current_services()
    base, token = _base_and_token(url or services.settings.public_url, token_url)
    if token and url and url.rstrip("/") != base:
        fail("--token-url does not begin with --url, and nothing else is ever called")
    made: list[str] = []

    def canary() -> Canary:
        if token:
            return Canary(token)
        made.append("")
        return _canary(services)

    failed = 0
    with plain_errors():
        for check in Prober(base, canary).checks():
            failed += not check.passed
            told = f": {check.trouble}" if check.trouble else ""
            click.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.rule}  {check.title}{told}")
    click.echo(f"{failed} failed. " + (f"{len(made)} canaries were made, and stay opted out." if made else ""))
    sys.exit(1 if failed else 0)


def _base_and_token(url: str, token_url: str | None) -> tuple[str, str]:
    base, slash, token = (token_url or f"{url.rstrip('/')}/u/").rpartition("/u/")
    if not slash or bool(token) != (token_url is not None):
        fail("--token-url is a whole unsubscribe link, such as https://preferences.example.com/u/…")
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
        fail("--url is the base of the site, such as https://preferences.example.com")
    return base, token.rstrip("/")


def _canary(services: Services) -> Canary:
    """A new contact with a link, in this database."""
    from preferences.address_parsing import read_address
    from preferences.checks.selftest import Canary
    from preferences.domain.permission import OPT_OUTS, Message
    from preferences.sending.decide import decide
    from preferences.sending.links import contacts_of
    from preferences.tokens import UnsubscribeLink

    catalog = services.catalog.get()
    topics = (topic for brand in catalog.brands for topic in catalog.topics_of(brand, marketing=True))
    topic = next((topic for topic in topics if Channel.EMAIL in topic.channels), None)
    if topic is None:
        fail("there is no marketing topic by email to leave; `flask topic add` makes one")
    address = read_address(Channel.EMAIL, f"canary+{secrets.token_hex(8)}@preferences-selftest.invalid")
    contact_id = contacts_of(services, [address])[address].contact_id
    if contact_id is None:
        fail("the canary's address is never stored again here; try once more")

    def decisions(message_class: MessageClass) -> Decisions:
        message = Message(channel=Channel.EMAIL, message_class=message_class, topic=topic)
        return decide(services, message, [address])

    return Canary(
        services.links.sign_unsubscribe(UnsubscribeLink(contact_id, Channel.EMAIL, topic.brand, topic.slug)),
        has_left=lambda: bool(OPT_OUTS & decisions(MessageClass.MARKETING).facts[0].reasons.keys()),
        gets_transactional=lambda: decisions(MessageClass.TRANSACTIONAL).decisions[0].allowed,
    )
