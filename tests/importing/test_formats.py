"""Exports of other tools: each golden file gives exactly these rows, and through `flask import --from` these decisions.

The files in `exports/` are made up, in the form that each tool documents.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from preferences.current import services_of
from preferences.domain.acts import unsubscribe
from preferences.domain.permission import may_send
from preferences.domain.vocabulary import Channel, MessageClass, Origin
from preferences.importing.formats import FORMATS, BadExport, Kind, Options, kind_of, read_json, recognise
from preferences.services import Services
from preferences.store.catalog import read_catalog
from preferences.store.decision_facts import facts_for
from tests.support import add_contact, email

EXPORTS = Path(__file__).parent / "exports"


@dataclass(frozen=True, slots=True)
class Golden:
    """A file, what is said of it on the command line, and what it has to give.

    Decisions, by address: on offers, which need consent, and on product news, which need none.
    """

    name: str
    arguments: tuple[str, ...]
    rows: list[dict[str, str]]
    decisions: Mapping[str, tuple[str, str]]


def row(
    address: str, status: str = "", topic: str = "", *, at: str = "", channel: str = "email", **more: str
) -> dict[str, str]:
    told = {"address": address, "channel": channel, "topic": topic, "status": status, "occurred_at": at, **more}
    return {name: value for name, value in told.items() if value}


def proof(*pairs: str) -> str:
    return "; ".join(pairs)


GOLDEN = [
    Golden(
        "mailchimp-subscribed.csv",
        arguments=(
            "mailchimp:subscribed",
            "--map",
            "Newsletters/Weekly digest=product-news",
            "--map",
            "Newsletters/Offers, reduced=offers",
        ),
        rows=[
            row(
                "ann@example.com",
                "subscribed",
                "product-news",
                at="2024-03-14T09:12:31+00:00",
                source="Mailchimp: 192.0.2.10",
                evidence=proof(
                    "optin_time=2024-03-14 09:12:31",
                    "optin_ip=192.0.2.10",
                    "confirm_time=2024-03-14 09:14:00",
                    "confirm_ip=192.0.2.11",
                ),
            ),
            row(
                "ann@example.com",
                "subscribed",
                "offers",
                at="2024-03-14T09:12:31+00:00",
                source="Mailchimp: 192.0.2.10",
                evidence=proof(
                    "optin_time=2024-03-14 09:12:31",
                    "optin_ip=192.0.2.10",
                    "confirm_time=2024-03-14 09:14:00",
                    "confirm_ip=192.0.2.11",
                ),
            ),
            row("ben@example.com"),
        ],
        decisions={
            "ann@example.com": ("ok", "ok"),
            "ben@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "mailchimp-unsubscribed.csv",
        arguments=(
            "mailchimp",
            "--topic",
            "offers",
        ),
        rows=[
            row(
                "cat@example.com",
                "unsubscribed",
                "offers",
                at="2024-05-01T10:00:00+00:00",
                source="Mailchimp export",
                reason="No longer interested",
                evidence=proof(
                    "optin_time=2022-02-02 02:02:02",
                    "optin_ip=192.0.2.12",
                    "confirm_time=2022-02-02 02:03:00",
                    "confirm_ip=192.0.2.12",
                    "unsub_campaign_title=May news",
                ),
            ),
        ],
        decisions={
            "cat@example.com": ("unsubscribed", "ok"),
        },
    ),
    Golden(
        "mailchimp-cleaned.csv",
        arguments=("mailchimp",),
        rows=[
            row(
                "dan@example.com",
                "hard_bounce",
                at="2024-06-01T08:00:00+00:00",
                source="Mailchimp export",
                evidence=proof("confirm_time=2021-01-01 00:00:00", "clean_campaign_title=June news"),
            ),
        ],
        decisions={
            "dan@example.com": ("hard_bounce", "hard_bounce"),
        },
    ),
    Golden(
        "sendgrid-bounces.csv",
        arguments=("sendgrid:bounces",),
        rows=[
            row(
                "ann@example.com",
                "hard_bounce",
                at="2024-05-01T10:00:00+00:00",
                source="SendGrid export",
                reason="550 5.1.1 no such mailbox",
                evidence=proof("status=5.1.1"),
            ),
        ],
        decisions={
            "ann@example.com": ("hard_bounce", "hard_bounce"),
        },
    ),
    Golden(
        "sendgrid-blocks.csv",
        arguments=("sendgrid:blocks",),
        rows=[
            row("ben@example.com"),
        ],
        decisions={
            "ben@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "sendgrid-invalid-emails.csv",
        arguments=("sendgrid",),
        rows=[
            row(
                "cat@example.com",
                "invalid",
                at="2024-05-01T10:00:00+00:00",
                source="SendGrid export",
                reason="Mail domain mentioned in email address is unknown",
            ),
        ],
        decisions={
            "cat@example.com": ("invalid", "invalid"),
        },
    ),
    Golden(
        "sendgrid-spam-reports.csv",
        arguments=("sendgrid",),
        rows=[
            row(
                "dan@example.com",
                "complaint",
                at="2024-05-01T10:00:00+00:00",
                source="SendGrid export",
                evidence=proof("ip=192.0.2.7"),
            ),
        ],
        decisions={
            "dan@example.com": ("complaint", "complaint"),
        },
    ),
    Golden(
        "sendgrid-global-unsubscribes.csv",
        arguments=("sendgrid:global-unsubscribes",),
        rows=[
            row("eve@example.com", "unsubscribed", "*", at="2024-05-01T10:00:00+00:00", source="SendGrid export"),
        ],
        decisions={
            "eve@example.com": ("unsubscribed_all", "unsubscribed_all"),
        },
    ),
    Golden(
        "sendgrid-group-unsubscribes.csv",
        arguments=(
            "sendgrid:group-unsubscribes",
            "--topic",
            "product-news",
        ),
        rows=[
            row(
                "fay@example.com",
                "unsubscribed",
                "product-news",
                at="2024-05-01T10:00:00+00:00",
                source="SendGrid export",
            ),
        ],
        decisions={
            "fay@example.com": ("no_consent", "unsubscribed"),
        },
    ),
    Golden(
        "sendgrid-groups.json",
        arguments=(
            "sendgrid",
            "--map",
            "Weekly digest=product-news",
        ),
        rows=[
            row(
                "gus@example.com",
                "unsubscribed",
                "product-news",
                at="2024-05-01T10:00:00+00:00",
                source="SendGrid export",
                evidence=proof("group_id=12345", "group_name=Weekly digest"),
            ),
        ],
        decisions={
            "gus@example.com": ("no_consent", "unsubscribed"),
        },
    ),
    Golden(
        "sendgrid-contacts.csv",
        arguments=("sendgrid",),
        rows=[
            row("hal@example.com"),
        ],
        decisions={
            "hal@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "mailgun-unsubscribes.csv",
        arguments=(
            "mailgun",
            "--map",
            "digest=product-news",
        ),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "*",
                at="2024-01-11T01:49:40+00:00",
                source="Mailgun export",
                evidence=proof("tags=*"),
            ),
            row(
                "ben@example.com",
                "unsubscribed",
                "product-news",
                at="2024-01-11T01:49:40+00:00",
                source="Mailgun export",
                evidence=proof("tags=digest"),
            ),
        ],
        decisions={
            "ann@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "ben@example.com": ("no_consent", "unsubscribed"),
        },
    ),
    Golden(
        "mailgun-unsubscribes.json",
        arguments=(
            "mailgun",
            "--map",
            "digest=product-news",
            "--map",
            "offers=offers",
        ),
        rows=[
            row(
                "cat@example.com",
                "unsubscribed",
                "product-news",
                source="Mailgun export",
                evidence=proof('tags=["digest", "offers"]'),
            ),
            row(
                "cat@example.com",
                "unsubscribed",
                "offers",
                source="Mailgun export",
                evidence=proof('tags=["digest", "offers"]'),
            ),
        ],
        decisions={
            "cat@example.com": ("unsubscribed", "unsubscribed"),
        },
    ),
    Golden(
        "mailgun-bounces.csv",
        arguments=("mailgun",),
        rows=[
            row(
                "dan@example.com",
                "hard_bounce",
                at="2024-01-11T01:49:40+00:00",
                source="Mailgun export",
                reason="No such mailbox",
                evidence=proof("code=550"),
            ),
        ],
        decisions={
            "dan@example.com": ("hard_bounce", "hard_bounce"),
        },
    ),
    Golden(
        "mailgun-complaints.csv",
        arguments=("mailgun:complaints",),
        rows=[
            row("eve@example.com", "complaint", at="2024-01-11T01:49:40+00:00", source="Mailgun export"),
        ],
        decisions={
            "eve@example.com": ("complaint", "complaint"),
        },
    ),
    Golden(
        "postmark-suppressions.json",
        arguments=(
            "postmark",
            "--topic",
            "product-news",
        ),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "product-news",
                at="2024-02-03T15:00:00+00:00",
                source="Postmark export",
                evidence=proof("origin=Recipient"),
            ),
            row(
                "ben@example.com",
                "hard_bounce",
                at="2024-02-03T15:00:00+00:00",
                source="Postmark export",
                evidence=proof("origin=Recipient"),
            ),
            row(
                "cat@example.com",
                "complaint",
                at="2024-02-03T15:00:00+00:00",
                source="Postmark export",
                evidence=proof("origin=Recipient"),
            ),
        ],
        decisions={
            "ann@example.com": ("no_consent", "unsubscribed"),
            "ben@example.com": ("hard_bounce", "hard_bounce"),
            "cat@example.com": ("complaint", "complaint"),
        },
    ),
    Golden(
        "ses-suppressed.json",
        arguments=("ses",),
        rows=[
            row("ann@example.com", "hard_bounce", at="2024-04-10T21:03:05.123000+00:00", source="Amazon SES export"),
            row("ben@example.com", "complaint", at="2024-04-10T21:03:05+00:00", source="Amazon SES export"),
        ],
        decisions={
            "ann@example.com": ("hard_bounce", "hard_bounce"),
            "ben@example.com": ("complaint", "complaint"),
        },
    ),
    Golden(
        "ses-contacts.json",
        arguments=(
            "ses",
            "--map",
            "Digest=product-news",
        ),
        rows=[
            row("cat@example.com", "unsubscribed", "*", source="Amazon SES export"),
            row(
                "dan@example.com",
                "unsubscribed",
                "product-news",
                source="Amazon SES export",
            ),
        ],
        decisions={
            "cat@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "dan@example.com": ("no_consent", "unsubscribed"),
        },
    ),
    Golden(
        "klaviyo-profiles.csv",
        arguments=(
            "klaviyo",
            "--topic",
            "offers",
        ),
        rows=[
            row(
                "ann@example.com",
                "subscribed",
                "offers",
                at="2024-03-14T09:12:31+00:00",
                source="Klaviyo: Footer form",
                evidence=proof("email_marketing_consent=SUBSCRIBED", "source=Footer form", "ip_address=192.0.2.10"),
            ),
            row(
                "ben@example.com",
                "unsubscribed",
                "*",
                source="Klaviyo export",
                evidence=proof("email_marketing_consent=UNSUBSCRIBED", "source=Footer form"),
            ),
            row(
                "+12025550123",
                "unsubscribed",
                "*",
                source="Klaviyo export",
                evidence=proof("email_marketing_consent=UNSUBSCRIBED", "source=Footer form"),
                channel="sms",
            ),
            row(
                "cat@example.com",
                "hard_bounce",
                source="Klaviyo export",
                evidence=proof("email_marketing_consent=SUBSCRIBED", "source=Checkout"),
            ),
            row(
                "dan@example.com",
                "unsubscribed",
                "*",
                source="Klaviyo export",
                reason='["USER_SUPPRESSED"]',
                evidence=proof("email_marketing_consent=NEVER_SUBSCRIBED"),
            ),
            row("eve@example.com"),
        ],
        decisions={
            "ann@example.com": ("ok", "ok"),
            "ben@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "cat@example.com": ("hard_bounce", "hard_bounce"),
            "dan@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "eve@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "klaviyo-suppressed.csv",
        arguments=("klaviyo:suppressed",),
        rows=[
            row("fay@example.com", "unsubscribed", "*", source="Klaviyo export", reason="Manual"),
        ],
        decisions={
            "fay@example.com": ("unsubscribed_all", "unsubscribed_all"),
        },
    ),
    Golden(
        "hubspot-contacts.csv",
        arguments=(
            "hubspot",
            "--map",
            "Weekly digest=product-news",
        ),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "*",
                source="HubSpot export",
                evidence=proof("marketing_contact_status=Marketing contact"),
            ),
            row(
                "ben@example.com",
                "unsubscribed",
                "product-news",
                source="HubSpot export",
                evidence=proof(
                    "legal_basis_for_processing_contact's_data=Freely given consent from contact",
                    "marketing_contact_status=Marketing contact",
                ),
            ),
            row(
                "cat@example.com",
                "hard_bounce",
                source="HubSpot export",
                reason="Unknown user",
                evidence=proof("marketing_contact_status=Non-marketing contact"),
            ),
            row("dan@example.com"),
        ],
        decisions={
            "ann@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "ben@example.com": ("no_consent", "unsubscribed"),
            "cat@example.com": ("hard_bounce", "hard_bounce"),
            "dan@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "hubspot-opt-outs.csv",
        arguments=(
            "hubspot",
            "--map",
            "Marketing Information=product-news",
        ),
        rows=[
            row("eve@example.com", "unsubscribed", "*", source="HubSpot export"),
            row("fay@example.com", "complaint", source="HubSpot export"),
            row("fay@example.com", "unsubscribed", "product-news", source="HubSpot export"),
            row("gus@example.com", "hard_bounce", source="HubSpot export", reason="Unknown user"),
        ],
        decisions={
            "eve@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "fay@example.com": ("complaint", "complaint"),
            "gus@example.com": ("hard_bounce", "hard_bounce"),
        },
    ),
    Golden(
        "listmonk-subscribers.csv",
        arguments=("listmonk",),
        rows=[
            row("ann@example.com"),
            row(
                "ben@example.com",
                "unsubscribed",
                "*",
                source="listmonk export",
                reason="blocklisted",
            ),
            row(
                "cat@example.com",
                "unsubscribed",
                "*",
                source="listmonk export",
                reason="blocklisted",
            ),
            row(
                "dan@example.com",
                "unsubscribed",
                "*",
                source="listmonk export",
                reason="disabled",
            ),
        ],
        decisions={
            "ann@example.com": ("no_consent", "ok"),
            "ben@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "cat@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "dan@example.com": ("unsubscribed_all", "unsubscribed_all"),
        },
    ),
    Golden(
        "listmonk-subscriptions.csv",
        arguments=(
            "listmonk",
            "--map",
            "Weekly digest=offers",
        ),
        rows=[
            row(
                "cat@example.com",
                "subscribed",
                "offers",
                at="2024-01-01T10:00:00+00:00",
                source="listmonk: 192.0.2.10",
                evidence=proof(
                    "list_name=Weekly digest",
                    "subscription_created_at=2024-01-01 10:00:00+00",
                    "subscription_updated_at=2024-01-01 10:05:00+00",
                ),
            ),
            row("dan@example.com"),
            row("eve@example.com"),
            row(
                "fay@example.com",
                "unsubscribed",
                "offers",
                source="listmonk export",
                evidence=proof(
                    "list_name=Weekly digest",
                    "subscription_created_at=2024-01-01 10:00:00+00",
                    "subscription_updated_at=2024-02-01 10:00:00+00",
                ),
            ),
        ],
        decisions={
            "cat@example.com": ("ok", "ok"),
            "dan@example.com": ("no_consent", "ok"),
            "eve@example.com": ("no_consent", "ok"),
            "fay@example.com": ("unsubscribed", "ok"),
        },
    ),
    Golden(
        "mautic-do-not-contact.csv",
        arguments=("mautic",),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "*",
                at="2024-05-01T22:00:00+00:00",
                source="Mautic export",
                reason="User unsubscribed.",
                evidence=proof("channel=email", "reason=1"),
            ),
            row(
                "ben@example.com",
                "hard_bounce",
                at="2024-05-01T22:00:00+00:00",
                source="Mautic export",
                reason="mailbox unknown",
                evidence=proof("channel=email", "reason=2"),
            ),
            row("cat@example.com"),
            row(
                "+12025550124",
                "unsubscribed",
                "*",
                at="2024-05-01T22:00:00+00:00",
                source="Mautic export",
                evidence=proof("channel=sms", "reason=3"),
                channel="sms",
            ),
        ],
        decisions={
            "ann@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "ben@example.com": ("hard_bounce", "hard_bounce"),
            "cat@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "mautic-report.csv",
        arguments=("mautic",),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "*",
                at="2024-05-04T02:22:00+00:00",
                source="Mautic export",
                reason="User unsubscribed.",
                evidence=proof('channel=<a href="/s/emails/view/12">Email</a>', "reason=DNC Unsubscribed"),
            ),
            row(
                "ben@example.com",
                "hard_bounce",
                at="2024-05-03T12:05:00+00:00",
                source="Mautic export",
                reason="mailbox unknown",
                evidence=proof("channel=Email", "reason=DNC Bounced"),
            ),
            row("cat@example.com"),
            row(
                "+12025550124",
                "unsubscribed",
                "*",
                at="2024-05-04T02:22:00+00:00",
                source="Mautic export",
                evidence=proof("channel=Text Message", "reason=DNC Manually Unsubscribed"),
                channel="sms",
            ),
            row("dan@example.com"),
        ],
        decisions={
            "ann@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "ben@example.com": ("hard_bounce", "hard_bounce"),
            "dan@example.com": ("no_consent", "ok"),
        },
    ),
    Golden(
        "mautic-report-de.csv",
        arguments=("mautic",),
        rows=[
            row(
                "ann@example.com",
                "unsubscribed",
                "*",
                at="2024-05-04T02:22:00+00:00",
                source="Mautic export",
                evidence=proof("channel=E-Mail", "reason=DNC abgemeldet"),
            ),
            row(
                "ben@example.com",
                "hard_bounce",
                at="2024-05-04T02:22:00+00:00",
                source="Mautic export",
                evidence=proof("channel=E-Mail", "reason=DNC Bounced"),
            ),
            row(
                "cat@example.com",
                "unsubscribed",
                "*",
                source="Mautic export",
                evidence=proof("channel=E-Mail", "reason=DNC manuell abgemeldet"),
            ),
        ],
        decisions={
            "ann@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "ben@example.com": ("hard_bounce", "hard_bounce"),
            "cat@example.com": ("unsubscribed_all", "unsubscribed_all"),
        },
    ),
    Golden(
        "mautic-profiles.csv",
        arguments=("mautic",),
        rows=[row("ann@example.com")],
        decisions={"ann@example.com": ("no_consent", "ok")},
    ),
    Golden(
        "mautic-contacts.csv",
        arguments=("mautic",),
        rows=[
            row("dan@example.com", "unsubscribed", "*", source="Mautic export"),
            row("eve@example.com"),
        ],
        decisions={
            "dan@example.com": ("unsubscribed_all", "unsubscribed_all"),
            "eve@example.com": ("no_consent", "ok"),
        },
    ),
]


def lines_of(name: str) -> tuple[Sequence[str], list[dict[str, str]]]:
    path = EXPORTS / name
    if path.suffix == ".json":
        return read_json(path.read_text())
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames or [], list(reader)


def options_of(golden: Golden) -> tuple[str, Options]:
    tool, *rest = golden.arguments
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    mapping = dict(value.rsplit("=", 1) for name, value in pairs if name == "--map")
    topic = next((value for name, value in pairs if name == "--topic"), "")
    return tool, Options(topic=topic, mapping=mapping)


def run(app: Flask, name: str, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["import", str(EXPORTS / name), "--from", *arguments])


def decisions(services: Services, addresses: Sequence[str]) -> dict[str, tuple[str, str]]:
    topics = services.database.read(read_catalog).topics
    asked = [email(one) for one in addresses]
    by_topic = [
        services.database.read(
            facts_for,
            asked,
            channel=Channel.EMAIL,
            about=topics[topic],
            fingerprints=services.fingerprints,
            now=datetime.now(UTC),
        )
        for topic in ("offers", "product-news")
    ]
    offers, news = ([may_send(MessageClass.MARKETING, facts[one]).reason.value for one in asked] for facts in by_topic)
    return dict(zip(addresses, zip(offers, news, strict=True), strict=True))


def named(golden: Golden) -> str:
    return golden.name


@pytest.mark.parametrize("golden", GOLDEN, ids=named)
def test_a_golden_file_gives_exactly_these_rows(golden: Golden) -> None:
    header, lines = lines_of(golden.name)
    tool, options = options_of(golden)
    kind = kind_of(tool, header)
    named = [dict(zip(kind.columns(list(line)), line.values(), strict=True)) for line in lines]
    assert [one for line in named for one in kind.rows(line, options)] == golden.rows


@pytest.mark.parametrize("golden", GOLDEN, ids=named)
def test_an_import_gives_these_decisions_and_a_second_one_changes_nothing(sqlite_app: Flask, golden: Golden) -> None:
    for _ in range(2):
        result = run(sqlite_app, golden.name, *golden.arguments)
        assert result.exit_code == 0, result.output
        assert decisions(services_of(sqlite_app), list(golden.decisions)) == golden.decisions
    assert " 0 new contacts, 0 changes" in result.output


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if "subscribed" in {row.get("status") for row in one.rows}], ids=named
)
def test_a_yes_in_an_export_never_revives_a_no(sqlite_app: Flask, golden: Golden) -> None:
    services = services_of(sqlite_app)
    said = [one for one in golden.rows if one.get("status") == "subscribed"]
    for one in said:
        services.writer.record(
            [
                unsubscribe(
                    add_contact(services, email(one["address"])),
                    Channel.EMAIL,
                    brand="default",
                    topic=one["topic"],
                    origin=Origin.PAGE,
                    now=datetime.now(UTC),
                    evidence={},
                )
            ]
        )
    assert run(sqlite_app, golden.name, *golden.arguments).exit_code == 0
    for one in said:
        place = ["offers", "product-news"].index(one["topic"])
        assert decisions(services, [one["address"]])[one["address"]][place] == "unsubscribed"


def test_every_tool_has_a_golden_file_for_each_of_its_kinds() -> None:
    seen = set()
    for golden in GOLDEN:
        tool, _ = options_of(golden)
        kind = kind_of(tool, lines_of(golden.name)[0])
        seen.add((tool.partition(":")[0], kind.name))
    alike = {("mailchimp", "nonsubscribed"), ("mailgun", "untagged-unsubscribes")}
    assert seen | alike == {(tool.name, kind.name) for tool in FORMATS.values() for kind in tool.kinds}


def test_the_guide_has_a_command_for_each_tool_and_names_no_kind_that_is_not_there() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "moving-in.md").read_text()
    named = [one.partition(":") for one in re.findall(r"^flask import .* --from (\S+)", guide, re.MULTILINE)]
    assert {tool for tool, _, _ in named} == set(FORMATS)
    for tool, _, kind in named:
        assert kind in {"", *(one.name for one in FORMATS[tool].kinds)}


# Whose export is it?


@pytest.mark.parametrize("golden", [one for one in GOLDEN if one.name != "klaviyo-suppressed.csv"], ids=named)
def test_a_header_tells_whose_export_it_is(golden: Golden) -> None:
    header, _ = lines_of(golden.name)
    tool = golden.arguments[0].partition(":")[0]
    assert recognise(header) == tool
    assert FORMATS[tool].matches([name.upper() for name in header])


def test_an_export_without_its_tool_is_answered_with_what_to_say(sqlite_app: Flask) -> None:
    path = str(EXPORTS / "klaviyo-profiles.csv")
    result = sqlite_app.test_cli_runner().invoke(args=["import", path])
    assert result.exit_code == 1
    assert "an export of Klaviyo; say --from klaviyo" in result.output


@pytest.mark.parametrize("header", [["address", "topic", "status", "occurred_at", "source"], ["email", "name"], []])
def test_a_header_of_nobody_is_nobodys(header: list[str]) -> None:
    assert recognise(header) == ""


@pytest.mark.parametrize(
    ("name", "tool", "says"),
    [
        ("mailchimp-subscribed.csv", "mailchimp", "mailchimp:subscribed or mailchimp:nonsubscribed"),
        ("sendgrid-bounces.csv", "sendgrid", "sendgrid:bounces or sendgrid:blocks"),
        ("sendgrid-global-unsubscribes.csv", "sendgrid", "sendgrid:global-unsubscribes or sendgrid:group-unsubscribes"),
        ("mailgun-complaints.csv", "mailgun", "mailgun:untagged-unsubscribes or mailgun:complaints"),
        ("mailgun-complaints.csv", "postmark", "none of Postmark's"),
        ("mailgun-complaints.csv", "mailgun:bounces", "column code: is not there"),
        ("mailgun-complaints.csv", "mailgun:nothing", "the kinds of Mailgun are bounces"),
        ("mailgun-complaints.csv", "nobody", "--from must be one of mailchimp"),
    ],
)
def test_a_file_that_could_be_two_things_or_nothing_is_refused_with_what_to_say(
    name: str, tool: str, says: str
) -> None:
    with pytest.raises(BadExport, match=says):
        kind_of(tool, lines_of(name)[0])


@pytest.mark.parametrize(
    ("name", "tool", "says"),
    [
        ("mailchimp-unsubscribed.csv", "mailchimp", "--topic"),
        ("sendgrid-groups.json", "sendgrid", "column group_name: the name has no topic"),
        ("hubspot-contacts.csv", "hubspot", "column opted out of email: weekly digest: the name has no topic"),
    ],
)
def test_a_no_whose_topic_is_not_told_is_refused_and_not_dropped(
    sqlite_app: Flask, name: str, tool: str, says: str
) -> None:
    result = run(sqlite_app, name, tool)
    assert result.exit_code == 1
    assert says in result.output
    assert "@" not in result.output


def test_the_file_of_people_who_never_subscribed_brings_no_yes() -> None:
    header, lines = lines_of("mailchimp-subscribed.csv")
    kind = kind_of("mailchimp:nonsubscribed", header)
    assert [one for line in lines for one in kind.rows(line, Options(topic="offers"))] == [
        row("ann@example.com"),
        row("ben@example.com"),
    ]


def test_an_unknown_state_is_refused_and_not_passed_over() -> None:
    kind = kind_of("postmark", ["EmailAddress", "SuppressionReason", "Origin", "CreatedAt"])
    with pytest.raises(BadExport, match="column SuppressionReason: must be one of"):
        kind.rows({"EmailAddress": "a@example.com", "SuppressionReason": "Newer"}, Options(topic="offers"))


def test_a_suppression_of_a_new_kind_is_a_no() -> None:
    kind = kind_of("klaviyo:suppressed", ["Email"])
    told = kind.rows({"Email": "a@example.com", "Email Suppressions": '["BRAND_NEW"]'}, Options())
    assert [(one["status"], one["topic"]) for one in told] == [("unsubscribed", "*")]


@pytest.mark.parametrize("tags", ["", ",", "[]"])
def test_a_no_without_a_tag_is_about_everything(tags: str) -> None:
    kind = kind_of("mailgun", ["address", "tags", "created_at"])
    assert [one["topic"] for one in kind.rows({"address": "a@example.com", "tags": tags}, Options())] == ["*"]


def test_a_new_word_for_a_topic_is_a_no() -> None:
    kind = kind_of("ses", ["EmailAddress", "UnsubscribeAll", "topicPreferences.Digest"])
    line = {"EmailAddress": "a@example.com", "UnsubscribeAll": "false", "topicPreferences.Digest": "OPTED_OUT"}
    assert [one["status"] for one in kind.rows(line, Options(mapping={"digest": "offers"}))] == ["unsubscribed"]


def test_a_channel_that_is_none_of_ours_brings_the_contact_alone() -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "channel": "whatsapp", "reason": "1", "date_added": "2024-05-01 10:00:00"}
    assert kind.rows(line, Options()) == [row("a@example.com")]


@pytest.mark.parametrize("channel", ["E-pošta", "Epost", "correo electronico", "e-mail adresa", "Пошта", "Brand new"])
def test_an_opt_out_of_a_channel_in_any_language_is_never_lost(channel: str) -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "channel": channel, "date_added": "2024-05-01 10:00:00"}
    told = kind.rows(line | {"reason": "1"}, Options())
    assert [(one["status"], one["topic"]) for one in told] == [("unsubscribed", "*")]
    assert [one["status"] for one in kind.rows(line | {"reason": "2"}, Options())] == ["hard_bounce"]


@pytest.mark.parametrize(("number", "channels"), [("+12025550124", ["email", "sms"]), ("", ["email"])])
def test_an_opt_out_of_a_channel_that_is_not_known_counts_for_each_address(number: str, channels: list[str]) -> None:
    kind = kind_of("mautic", ["email", "mobile", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "mobile": number, "channel": "Brand new", "reason": "1"}
    told = kind.rows(line, Options())
    assert [(one["channel"], one["status"]) for one in told] == [(one, "unsubscribed") for one in channels]


@pytest.mark.parametrize(("word", "is_no"), [("Opted out", True), ("TRUE", True), ("", False), ("No", False)])
def test_a_word_that_is_new_in_a_topics_column_is_a_no(word: str, is_no: bool) -> None:
    kind = kind_of("hubspot", ["Email", "Portal Unsubscribe", "Digest", "City"])
    line = {"Email": "a@example.com", "Portal Unsubscribe": "false", "Digest": word, "City": "Ulm"}
    told = kind.rows(line, Options(mapping={"digest": "offers"}))
    assert [one.get("topic") for one in told] == (["offers"] if is_no else [None])


@pytest.mark.parametrize("reason", ["1", "DNC désabonné", "İletişim kurma abonelikten ayrıldı", "brand new", "4"])
def test_a_reason_that_is_new_or_translated_is_a_no(reason: str) -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    told = kind.rows({"email": "a@example.com", "channel": "email", "reason": reason}, Options())
    assert [(one["status"], one["topic"]) for one in told] == [("unsubscribed", "*")]


@pytest.mark.parametrize(
    "header",
    [
        *("E-Mail-Adresse", "Adresse e-mail", "Correo electrónico", "Indirizzo email", "メールアドレス"),
        *("البريد الإلكتروني", "E-POSTA", "  e-mail  "),
    ],
)
def test_the_column_of_addresses_may_be_called_as_in_the_tools_languages(header: str) -> None:
    names = [header, "OPTIN_TIME", "CONFIRM_TIME", "UNSUB_TIME"]
    kind = kind_of("mailchimp", names)
    assert kind.columns(names)[0] == "email address"


def test_a_column_with_the_tools_own_name_comes_before_one_that_is_called_alike() -> None:
    names = ["E-Mail", "Email Address", "OPTIN_TIME", "CONFIRM_TIME", "UNSUB_TIME"]
    assert kind_of("mailchimp", names).columns(names)[:2] == ["e-mail", "email address"]


@pytest.mark.parametrize(
    ("date", "at"),
    [("2024-05-01", "2024-05-02T11:59:59.999999+00:00"), ("0000-00-00 00:00:00", None), ("", None)],
)
def test_a_no_with_a_date_alone_counts_to_the_end_of_that_day_anywhere(date: str, at: str | None) -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "channel": "email", "reason": "1", "date_added": date}
    assert [one.get("occurred_at") for one in kind.rows(line, Options())] == [at]


@pytest.mark.parametrize("date", ["2024-05-01 10:00:00+00:00", "2024-05-01 08:00:00 -0200", "May 1, 2024 10:00 UTC"])
def test_a_no_whose_time_has_a_zone_counts_from_that_moment(date: str) -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "channel": "email", "reason": "1", "date_added": date}
    assert [one["occurred_at"] for one in kind.rows(line, Options())] == ["2024-05-01T10:00:00+00:00"]


def test_a_yes_with_a_date_alone_counts_from_the_begin_of_that_day() -> None:
    kind = kind_of("klaviyo", ["Email", "Email Marketing Consent"])
    line = {
        "Email": "a@example.com",
        "Email Marketing Consent": "SUBSCRIBED",
        "Email Marketing Consent Timestamp": "2024-05-01",
        "Source": "form",
    }
    told = kind.rows(line, Options(topic="offers"))
    assert [one["occurred_at"] for one in told] == ["2024-05-01T00:00:00+00:00"]


def test_a_day_that_may_be_the_month_is_refused_in_an_export() -> None:
    kind = kind_of("mautic", ["email", "channel", "reason", "date_added"])
    line = {"email": "a@example.com", "channel": "email", "reason": "1", "date_added": "05/03/2024 10:00"}
    with pytest.raises(BadExport, match="column date_added: which number is the day"):
        kind.rows(line, Options())


def test_seconds_since_1970_are_read_only_where_the_tool_writes_them() -> None:
    kind = kind_of("mailgun", ["address", "tags", "created_at"])
    with pytest.raises(BadExport, match="not a date that is understood"):
        kind.rows({"address": "a@example.com", "created_at": "1714557600"}, Options())


# When a no was said.

OWN_DATES = {
    ("mailchimp", "unsubscribed"): {"UNSUB_TIME"},
    ("sendgrid", "global-unsubscribes"): {"created", "created_at"},
    ("sendgrid", "group-unsubscribes"): {"created", "created_at"},
    ("sendgrid", "groups"): {"created", "created_at"},
    ("mailgun", "unsubscribes"): {"created_at"},
    ("mailgun", "untagged-unsubscribes"): {"created_at"},
    ("postmark", "suppressions"): {"CreatedAt"},
    ("mautic", "do-not-contact"): {"date_added"},
}
"""Of kinds whose records are opt-outs, when they were made; of others, a column for the opt-out alone."""


def test_an_opt_out_takes_a_date_only_from_a_column_that_is_its_own() -> None:
    for tool in FORMATS.values():
        for kind in tool.kinds:
            dates = {name for rule in kind.rules if rule.status == "unsubscribed" for name in rule.at}
            assert dates == OWN_DATES.get((tool.name, kind.name), set()), (tool.name, kind.name)


@pytest.mark.parametrize("tags", ['["news","offers"]', "news,offers"])
def test_a_time_that_several_opt_outs_share_is_the_date_of_none(tags: str) -> None:
    kind = kind_of("mailgun", ["address", "tags", "created_at"])
    options = Options(mapping={"news": "product-news", "offers": "offers"})
    told = kind.rows({"address": "a@example.com", "tags": tags, "created_at": "2023-02-01T10:00:00Z"}, options)
    assert [(one["topic"], one.get("occurred_at")) for one in told] == [("product-news", None), ("offers", None)]


@pytest.mark.parametrize("order", [("blocked", "confirmed"), ("confirmed", "blocked")])
def test_a_block_outweighs_a_yes_that_is_newer_than_its_record(
    sqlite_app: Flask, tmp_path: Path, order: tuple[str, str]
) -> None:
    made = "2020-01-01 10:00:00 +0000 UTC"
    (tmp_path / "blocked").write_text(
        f"uuid,email,name,attributes,status,created_at,updated_at\nu,ann@example.com,A,{{}},blocklisted,{made},{made}\n"
    )
    (tmp_path / "confirmed").write_text(
        "email,list_name,subscription_status,subscription_created_at,subscription_updated_at,optin_ip\n"
        "ann@example.com,Weekly,confirmed,2021-05-01 10:00:00+00,2021-05-01 10:05:00+00,192.0.2.10\n"
    )
    for name in order:
        arguments = ["import", str(tmp_path / name), "--from", "listmonk", "--map", "Weekly=offers"]
        assert sqlite_app.test_cli_runner().invoke(args=arguments).exit_code == 0
    assert decisions(services_of(sqlite_app), ["ann@example.com"]) == {
        "ann@example.com": ("unsubscribed_all", "unsubscribed_all")
    }


# Two columns of one name.


@pytest.mark.parametrize(
    ("tool", "header", "says"),
    [
        (
            "hubspot",
            "Email,Unsubscribed from all email,unsubscribed  from all Email",
            "column 3: unsubscribed from all",
        ),
        ("hubspot", "Email,Unsubscribed from all email,Opted out of email: N,Opted out of email: n", "column 4: opted"),
        ("hubspot", "Email,Portal Unsubscribe,Marketing Information,Marketing Information", "column 4: marketing"),
        ("mailchimp:unsubscribed", "Email Address,OPTIN_TIME,CONFIRM_TIME,UNSUB_TIME,Email Address", "column 5: email"),
        ("mailchimp:subscribed", "Email,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,Interests,Interests", "column 6: interests"),
        ("listmonk", "E-Mail,e_mail,uuid,attributes,status,updated_at", "column 2: email"),
        ("mautic", "Email,DNC Channel,DNC Reason,DNC Date,DNC Reason", "column 5: reason"),
        ("postmark", "EmailAddress,SuppressionReason,Origin,CreatedAt,createdat", "column 5: createdat"),
    ],
)
def test_two_columns_of_one_name_that_is_read_are_refused(
    sqlite_app: Flask, tmp_path: Path, tool: str, header: str, says: str
) -> None:
    (tmp_path / "file.csv").write_text(f"{header}\n{'x,' * header.count(',')}x\n")
    arguments = ["import", str(tmp_path / "file.csv"), "--from", tool, "--map", "Interests/News=offers"]
    result = sqlite_app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 1
    assert f"line 1, {says}" in result.output
    assert "is there twice" in result.output


def test_columns_that_are_not_read_may_be_there_twice(sqlite_app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("Email,City,City,Unsubscribed from all email,City\na@example.com,A,B,true,C\n")
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), "--from", "hubspot"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "record",
    [
        '"EmailAddress": "a@example.com", "UnsubscribeAll": true, "UnsubscribeAll": false',
        '"EmailAddress": "a@example.com", "UnsubscribeAll": true, "unsubscribeall": false',
        '"EmailAddress": "a@example.com", "UnsubscribeAll": false, "TopicPreferences": ['
        '{"TopicName": "N", "SubscriptionStatus": "OPT_OUT"}, {"TopicName": "N", "SubscriptionStatus": "OPT_IN"}]',
    ],
)
def test_a_json_record_with_two_values_of_one_name_is_refused(sqlite_app: Flask, tmp_path: Path, record: str) -> None:
    (tmp_path / "file.json").write_text(f'[{{"EmailAddress": "b@example.com", "UnsubscribeAll": false}}, {{{record}}}]')
    arguments = ["import", str(tmp_path / "file.json"), "--from", "ses", "--map", "N=offers"]
    result = sqlite_app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 1
    assert "twice" in result.output or "two values under one name" in result.output
    assert "@" not in result.output


# Files that are not what they are called, or not whole.

MAILCHIMP_UNSUBSCRIBED = ["Email Address", "OPTIN_TIME", "OPTIN_IP", "CONFIRM_TIME", "CONFIRM_IP", "UNSUB_TIME"]


@pytest.mark.parametrize(
    ("tool", "header", "right"),
    [
        ("mailchimp:subscribed", MAILCHIMP_UNSUBSCRIBED, "mailchimp:unsubscribed"),
        ("mailchimp:nonsubscribed", MAILCHIMP_UNSUBSCRIBED, "mailchimp:unsubscribed"),
        ("mailchimp:subscribed", [*MAILCHIMP_UNSUBSCRIBED[:-1], "CLEAN_TIME"], "mailchimp:cleaned"),
        ("mailgun:complaints", ["address", "tags", "created_at"], "mailgun:unsubscribes"),
        ("sendgrid:global-unsubscribes", ["email", "created", "reason", "status"], "sendgrid:bounces"),
        ("mautic:profiles", ["email", "firstname", "lastname", "points", "doNotContact"], "mautic:contacts"),
    ],
)
def test_a_file_of_opt_outs_is_not_read_as_another_kind(tool: str, header: list[str], right: str) -> None:
    with pytest.raises(BadExport, match=f"the columns are those of {right}"):
        kind_of(tool, header)


def test_a_contact_list_that_has_opt_outs_is_not_taken_for_one_without() -> None:
    kind = kind_of("mautic", ["email", "firstname", "lastname", "points", "doNotContact"])
    assert kind.name == "contacts"


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("ses", '{"SuppressedDestinationSummaries": [], "NextToken": "AAAA"}'),
        ("ses", '{"Contacts": [{"EmailAddress": "a@example.com", "UnsubscribeAll": false}], "NextToken": "AAAA"}'),
        (
            "mailgun:complaints",
            '{"items": [{"address": "a@example.com", "created_at": ""}], "paging": {"next": "https://api.example/2"}}',
        ),
    ],
)
def test_one_page_of_a_list_is_refused_with_how_to_get_the_others(
    sqlite_app: Flask, tmp_path: Path, tool: str, text: str
) -> None:
    (tmp_path / "page.json").write_text(text)
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(tmp_path / "page.json"), "--from", tool])
    assert result.exit_code == 1
    assert "only one page" in result.output
    assert "docs/moving-in.md" in result.output


# Whatever a line holds.

MARK = "\u00a4"
KINDS = [(tool.name, kind) for tool in FORMATS.values() for kind in tool.kinds]
WORDS = ["true", "1", "2", "email", "sms", "subscribed", "SUBSCRIBED", "HardBounce", "confirmed", "OPT_OUT", "["]
WORDS += ["2024-05-01 10:00:00", "1714557600", "Thu, 11 Jan 2024 01:49:40 UTC", "*", "digest", "blocklisted", "BOUNCE"]
VALUES = st.sampled_from(WORDS) | st.text(max_size=30).map(lambda text: text + MARK) | st.text(max_size=5)


def columns_of(kind: Kind) -> list[str]:
    named = {name for rule in kind.rules for name in (*rule.at, *rule.source, *rule.reason, rule.column, rule.names)}
    named |= {rule.prefix + "digest" for rule in kind.rules if rule.prefix}
    return sorted({*kind.address, *kind.marks, *kind.needs, *kind.evidence, *named, "Other"} - {""})


def told_or_refused(kind: Kind, line: dict[str, str], options: Options) -> tuple[list[dict[str, str]], str]:
    try:
        return kind.rows(line, options), ""
    except BadExport as refused:
        return [], str(refused)


@pytest.mark.parametrize(("tool", "kind"), KINDS, ids=[f"{tool}-{kind.name}" for tool, kind in KINDS])
@given(data=st.data())
def test_whatever_a_line_holds_it_gives_rows_or_a_refusal_without_values(
    tool: str, kind: Kind, data: st.DataObject
) -> None:
    line = data.draw(st.dictionaries(st.sampled_from(columns_of(kind)), VALUES))
    mapping = data.draw(st.sampled_from([{}, {"digest": "offers", "Other/digest": "offers"}]))
    options = Options(topic=data.draw(st.sampled_from(["", "offers", "*"])), mapping=mapping)
    found, refusal = told_or_refused(kind, line, options)
    assert MARK not in refusal
    for one in found:
        assert one["address"]
        if one.get("status") == "subscribed":
            assert one["occurred_at"]
            assert one["source"]
            assert one["topic"] not in {"", "*"}
        if one.get("occurred_at"):
            assert datetime.fromisoformat(one["occurred_at"]).utcoffset() is not None


@given(st.text() | st.sampled_from(["[" * 100_000, '{"items": 1}', '[{"TopicPreferences": [1, {}]}]', "[1]", "{}"]))
def test_whatever_a_json_file_holds_it_gives_lines_or_a_refusal(text: str) -> None:
    try:
        header, lines = read_json(text)
    except BadExport:
        return
    assert all(set(line) <= set(header) for line in lines)
    assert all(isinstance(value, str) for line in lines for value in line.values())
