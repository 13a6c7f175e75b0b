"""One mailbox, however it is written, at every door: whoever leaves by one spelling has left by all."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from standardwebhooks.webhooks import Webhook

from preferences.current import services_of
from preferences.domain.vocabulary import MessageClass
from preferences.importing.run import import_file
from preferences.sending.scrub.run import Files, scrub
from preferences.store.catalog import read_catalog
from tests.support import add_contact, api_headers, close, email, link_for, message_about, new_app

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSw"
CONFIG = f"""
[connectors.shop]
kind = "webhook"
base_url = "https://shop.example"
webhook_secrets = ["{SECRET}"]
[connectors.shop.topics]
"*" = "all"
"""

SPELLINGS = {
    "dots in a row": ("a..b@example.com", '"a..b"@example.com', "A..B@EXAMPLE.com."),
    "a dot at the end": ("c.@docomo.example", '"c."@docomo.example', "C.@Docomo.example"),
    "a dot at the beginning": (".d@docomo.example", '".d"@docomo.example', '"\\.d"@docomo.example'),
    "quotes without need": ("jane@example.com", '"jane"@example.com', '"j\\a\\ne"@example.com'),
    "quotes that it needs": ('"jane doe"@example.com', '"jane\\ doe"@example.com', '"Jane Doe"@example.com'),
    "letters beyond ASCII": ("jörg@bücher.example", "jo\u0308rg@xn--bcher-kva.example", '"JÖRG"@BÜCHER.example'),
    "marks around it": ("kim@example.com", "\u202akim@example.com\u202c", "\ufeffkim@example.com"),
}
LOOK_ALIKES = (
    *("ｊane@example.com", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "o\ufb03ce@example.com", "ja\u200bne@example.com"),
    *("jane\ufe0f@example.com", "İrem@example.com", "jane²@example.com", "ja\xadne@example.com"),
)


@pytest.fixture
def app(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The application with a connector, on both engines."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    app = new_app(database_url, config_file=file)
    yield app
    close(app)


def headers_of(app: Flask) -> dict[str, str]:
    return api_headers(services_of(app), f"test-{secrets.token_hex(4)}")


def decisions(app: Flask, addresses: Sequence[str], message_class: str) -> list[str]:
    topic = "receipts" if message_class == "transactional" else "product-news"
    asked = {"channel": "email", "class": message_class, "topic": topic, "addresses": list(addresses)}
    answer = app.test_client().post("/api/v1/decisions", json=asked, headers=headers_of(app))
    assert answer.json is not None
    return [found["reason"] for found in answer.json["decisions"]]


def at_the_box(app: Flask, address: str, _folder: Path) -> None:
    assert app.test_client().post("/optout", data={"address": address}).status_code == 200


def by_api(app: Flask, address: str, _folder: Path) -> None:
    told = {
        "address": address,
        "channel": "email",
        "topic": "*",
        "verb": "unsubscribe",
        "origin_ref": secrets.token_hex(4),
    }
    assert app.test_client().post("/api/v1/acts", json=[told], headers=headers_of(app)).status_code == 200


def by_webhook(app: Flask, address: str, _folder: Path) -> None:
    data = {"channel": "email", "address": address, "list": "all"}
    now, message_id = datetime.now(UTC), f"msg_{secrets.token_hex(4)}"
    body = json.dumps({"type": "unsubscribe", "timestamp": now.isoformat(), "data": data})
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(message_id, now, body),
    }
    assert app.test_client().post("/webhooks/shop", data=body, headers=headers).status_code == 200


def by_import(app: Flask, address: str, folder: Path) -> None:
    services, file = services_of(app), folder / "contacts.csv"
    quoted = '"{}"'.format(address.replace('"', '""'))
    file.write_text(f"address,topic,status\n{quoted},*,unsubscribed\n")
    catalog = services.database.read(read_catalog)
    import_file(
        file, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _rows: None
    )


def by_link(app: Flask, address: str, _folder: Path) -> None:
    services = services_of(app)
    contact_id = add_contact(services, email(address))
    assert app.test_client().post(link_for(services, contact_id)).status_code == 200


DOORS: dict[str, Callable[[Flask, str, Path], None]] = {
    "the address box": at_the_box,
    "a call": by_api,
    "a report": by_webhook,
    "a file": by_import,
    "a link": by_link,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_whoever_leaves_by_one_spelling_has_left_by_all(
    app: Flask, tmp_path: Path, door: Callable[[Flask, str, Path], None]
) -> None:
    for number, spellings in enumerate(SPELLINGS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert set(decisions(app, spellings, "marketing")) == {"ok"}
        door(app, spellings[1], folder)
        assert set(decisions(app, spellings, "marketing")) == {"unsubscribed_all"}
        assert set(decisions(app, spellings, "transactional")) == {"ok"}
        assert scrubbed(app, spellings, folder) == []


def scrubbed(app: Flask, addresses: Sequence[str], folder: Path) -> list[str]:
    """The rows that a scrub keeps."""
    services, source = services_of(app), folder / "list.csv"
    rows = ['"{}"'.format(address.replace('"', '""')) for address in addresses]
    source.write_text("\n".join(["email", *rows, ""]))
    files = Files(source=source, kept=folder / "kept", removed=folder / "removed")
    message = message_about(services, "product-news", message_class=MessageClass.MARKETING)
    scrub(services, files, message, progress=lambda _: None)
    return (folder / "kept").read_text().splitlines()[1:]


@pytest.mark.parametrize("address", LOOK_ALIKES)
def test_no_door_takes_what_looks_like_another_mailbox(sqlite_app: Flask, tmp_path: Path, address: str) -> None:
    app, client = sqlite_app, sqlite_app.test_client()
    headers = headers_of(app)
    page = client.post("/optout", data={"address": address})
    assert page.status_code == 400
    assert "Enter an" in page.text
    told = {"address": address, "channel": "email", "topic": "*", "verb": "unsubscribe", "origin_ref": "1"}
    assert client.post("/api/v1/acts", json=[told], headers=headers).status_code == 422
    assert decisions(app, [address], "marketing") == ["bad_address"]
    assert scrubbed(app, (address,), tmp_path) == []
