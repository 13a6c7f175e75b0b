"""Topics on every surface: hidden, shown to some, in sections, in an order; an opt-out works whatever is shown."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from preferences.current import services_of
from preferences.domain.vocabulary import Default
from preferences.importing import import_file
from preferences.importing.export import BadExport, check, restore, write_archive, write_csv
from preferences.ledger.archive import ADDED_LATER
from preferences.services import Services
from preferences.store import contact_state
from preferences.store.catalog import read_catalog
from preferences.store.tables import contact, contact_flag
from tests.commands import is_refused, rows, run
from tests.support import add_contact, api_headers, close, email, link_for, manage_link_for, new_app, new_sqlite

TRADE = ("topic", "add", "trade", "--class", "marketing", "--basis", "soft_opt_in", "--name", "Trade prices")
TO_SOME = ("--default", "off", "--visible-to", "wholesale")


def silent(_rows: int) -> None:
    """Nobody watches."""


def tell(app: Flask, *words: str) -> str:
    result = run(app, *words)
    assert (result.exit_code, result.stderr) == (0, "")
    services_of(app).catalog.get("not-there")  # read it again now, not in two seconds
    return result.stdout


def offered(page: str) -> list[str]:
    """The topics that a preferences page has switches for, in order."""
    return list(dict.fromkeys(re.findall(r'name="set\.email\.([a-z-]+)\.status"', page)))


def signable(page: str) -> list[str]:
    return re.findall(r'name="topic" value="([a-z-]+)"', page)


def put_contacts(client: FlaskClient, services: Services, *contacts: dict[str, Any]) -> list[dict[str, Any]]:
    name = f"shop-{len(services.database.read(lambda read: read.exec_driver_sql('SELECT 1 FROM api_key').all()))}"
    answer = client.put("/api/v1/contacts", json={"contacts": list(contacts)}, headers=api_headers(services, name))
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return list(answer.json["contacts"])


def jane(**more: Any) -> dict[str, Any]:
    return {"addresses": [{"address": "jane.doe@example.com"}], **more}


# Hidden.


def test_a_hidden_topic_is_only_on_the_page_of_contacts_who_have_it(app: Flask, client: FlaskClient) -> None:
    path = manage_link_for(services_of(app), add_contact(services_of(app)))
    tell(app, "topic", "set", "offers", "--hidden")
    tell(app, "topic", "set", "product-news", "--hidden")
    assert signable(client.get("/sign-up").text) == []
    assert signable(run(app, "sign-up-form").stdout) == []
    # It is on for everybody who has not left it, so everybody sees it; the other needs a yes that nobody said.
    assert offered(client.get(path).text) == ["product-news"]
    tell(app, "topic", "set", "offers", "--offered")
    assert signable(client.get("/sign-up").text) == ["offers"]


def test_who_chose_about_a_hidden_topic_sees_it_whatever_they_chose(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    contact_id = add_contact(services)
    tell(app, "topic", "set", "offers", "--hidden")
    client.post(link_for(services, contact_id, "offers"), data={"intent": "topic"})
    assert offered(client.get(manage_link_for(services, contact_id)).text) == ["offers", "product-news"]


@pytest.mark.parametrize("arrangement", [("--hidden",), TO_SOME])
def test_an_opt_out_of_a_topic_that_is_not_shown_works(
    app: Flask, client: FlaskClient, arrangement: tuple[str, ...]
) -> None:
    services = services_of(app)
    contact_id = add_contact(services)
    tell(app, *TRADE, *arrangement)
    path = link_for(services, contact_id, "trade")
    assert "Trade prices" in client.get(path).text
    client.post(path, data={"intent": "topic"})
    held = services.database.read(contact_state.state_of, contact_id).preferences
    assert [(topic, choice.status) for (_, _, topic), choice in held.items()] == [("trade", "unsubscribed")]


# Shown to some.


def test_a_topic_with_a_flag_is_shown_to_contacts_who_have_it(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    tell(app, *TRADE, *TO_SOME)
    path = manage_link_for(services, add_contact(services))
    assert "trade" not in offered(client.get(path).text)
    assert "trade" not in signable(client.get("/sign-up").text)
    assert put_contacts(client, services, jane(flags=["press", "wholesale"]))[0]["outcome"] == "updated"
    assert "trade" in offered(client.get(path).text)
    assert "trade" not in signable(client.get("/sign-up").text)


def test_flags_take_the_place_of_those_before_and_stay_when_left_out(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    first = put_contacts(client, services, jane(flags=["wholesale", "press"]))[0]
    assert first["outcome"] == "created"

    def flags() -> list[str]:
        answer = client.get(f"/api/v1/contacts/{first['id']}", headers=api_headers(services, "reader"))
        services.database.save(lambda save: save.exec_driver_sql("DELETE FROM api_key WHERE name = 'reader'"))
        assert answer.json is not None
        return list(answer.json["flags"])

    assert flags() == ["press", "wholesale"]
    assert put_contacts(client, services, jane())[0]["outcome"] == "unchanged"
    assert flags() == ["press", "wholesale"]
    assert put_contacts(client, services, jane(flags=["wholesale"]))[0]["outcome"] == "updated"
    assert put_contacts(client, services, jane(flags=["wholesale"]))[0]["outcome"] == "unchanged"
    assert flags() == ["wholesale"]
    put_contacts(client, services, jane(flags=[]))
    assert flags() == []


@pytest.mark.parametrize("flags", [["Two Words"], ["@tracking"], [""], ["a" * 64], "wholesale", [None]])
def test_a_flag_that_cannot_be_is_refused_by_its_field(app: Flask, client: FlaskClient, flags: Any) -> None:
    body = {"contacts": [jane(flags=flags)]}
    answer = client.put("/api/v1/contacts", json=body, headers=api_headers(services_of(app)))
    assert answer.status_code == 422
    assert answer.json is not None
    assert all(one["field"].startswith("contacts[0].flags") for one in answer.json["errors"])


def test_flags_go_with_their_contact(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    contact_id = UUID(put_contacts(client, services, jane(flags=["wholesale"]))[0]["id"])
    services.database.save(lambda save: save.execute(contact.delete().where(contact.c.id == contact_id)))
    assert services.database.read(lambda read: read.execute(contact_flag.select()).all()) == []


# Flags in files.


FILE = """\
address,topic,status,occurred_at,source,flags
jane.doe@example.com,product-news,subscribed,2026-05-01T10:00:00+00:00,checkout,wholesale
rosa@example.com,,,,,"press, wholesale"
ben@example.com,*,unsubscribed,,,
jane.doe@example.com,,,,,press
"""


def load(services: Services, path: Path) -> Any:
    catalog = services.database.read(read_catalog)
    return import_file(path, catalog, database=services.database, fingerprints=services.fingerprints, progress=silent)


def flags_of(services: Services) -> dict[str, list[str]]:
    found = services.database.read(
        lambda read: read.exec_driver_sql(
            "SELECT value, flag FROM address JOIN contact_flag ON contact_flag.contact_id = address.contact_id"
        ).all()
    )
    return {value: sorted(flag for other, flag in found if other == value) for value, _ in found}


def test_an_import_adds_flags_however_often_it_is_run(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "contacts.csv"
    path.write_text(FILE)
    expected = {"jane.doe@example.com": ["press", "wholesale"], "rosa@example.com": ["press", "wholesale"]}
    counts = load(services, path)
    assert (counts.created, counts.changed) == (3, 2)
    for _ in range(2):
        assert flags_of(services) == expected
        assert load(services, path).changed == 0
    path.write_text("address,flags\nben@example.com,press\njane.doe@example.com,\n")
    load(services, path)
    assert flags_of(services) == expected | {"ben@example.com": ["press"]}


def test_a_flag_in_a_file_that_cannot_be_is_refused_by_its_line(sqlite_app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "contacts.csv"
    path.write_text("address,flags\na@example.com,wholesale\nb@example.com,Two?Words\n")
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, "import", str(path)), "line 3, column flags", "small letters")
    assert rows(sqlite_app) == before


def test_flags_and_topics_come_back_from_an_export(services: Services, tmp_path: Path) -> None:
    path, other = tmp_path / "contacts.csv", new_app(new_sqlite(tmp_path))
    path.write_text(FILE)
    load(services, path)
    services.database.save(lambda save: save.exec_driver_sql("UPDATE topic SET section = 'S', position = 7"))
    archive, table = tmp_path / "all.zip", tmp_path / "standing.csv"
    services.database.snapshot(write_archive, archive, services.fingerprints, progress=silent)
    services.database.snapshot(write_csv, table, progress=silent)
    assert "rosa@example.com,email,,,,,,,,press wholesale" in table.read_text().splitlines()
    check(archive, services_of(other).fingerprints, progress=silent)
    restore(archive, services_of(other).database, progress=silent)
    assert flags_of(services_of(other)) == flags_of(services)
    assert services_of(other).database.read(read_catalog) == services.database.read(read_catalog)
    close(other)


def test_an_export_from_before_there_were_flags_is_put_back(services: Services, tmp_path: Path) -> None:
    """As the version before wrote it: no file of flags, no columns of a topic's arrangement."""
    add_contact(services)
    archive, older, other = tmp_path / "all.zip", tmp_path / "older.zip", new_app(new_sqlite(tmp_path))
    services.database.snapshot(write_archive, archive, services.fingerprints, progress=silent)
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(older, "w") as less:
        manifest = json.loads(whole.read("manifest.json"))
        for name in ADDED_LATER:
            del manifest["files"][name]
        for name in (*manifest["files"], "manifest.json"):
            less.writestr(name, json.dumps(manifest) if name == "manifest.json" else whole.read(name))
    restore(older, services_of(other).database, progress=silent)
    assert services_of(other).database.read(read_catalog).topics.keys() == {"product-news", "offers", "receipts"}
    del manifest["files"]["contacts.csv"]
    with zipfile.ZipFile(older, "w") as less:
        less.writestr("manifest.json", json.dumps(manifest))
    with pytest.raises(BadExport):
        check(older, services.fingerprints, progress=silent)
    close(other)


# Sections and order.


def test_pages_show_topics_in_their_order_and_under_their_sections(app: Flask, client: FlaskClient) -> None:
    path = manage_link_for(services_of(app), add_contact(services_of(app)))
    tell(app, "topic", "add", "events", "--class", "marketing", "--basis", "consent", "--section", "In the shop")
    tell(app, "topic", "set", "product-news", "--section", "To <read>")
    assert offered(client.get(path).text)[:3] == ["offers", "product-news", "events"]
    assert tell(app, "topic", "order", "events", "product-news") == (
        "The order is: events, product-news, offers, receipts.\n"
    )
    page, form, embedded = client.get(path).text, client.get("/sign-up").text, run(app, "sign-up-form").stdout
    assert offered(page)[:3] == ["offers", "events", "product-news"]
    assert signable(form) == signable(embedded) == ["offers", "events", "product-news"]
    for text in (page, form, embedded):
        assert text.index("In the shop") < text.index("To &lt;read&gt;")


def test_a_heading_is_read_in_the_language_that_it_was_written_in(app: Flask, client: FlaskClient) -> None:
    path = manage_link_for(services_of(app), add_contact(services_of(app)))
    tell(app, "topic", "set", "offers", "--section", "In the shop")
    assert '<h3 class="section" id="section-2" lang="en"' in client.get(f"{path}?lang=es").text
    words = ("--name", "Ofertas", "--description", "Menos.", "--frequency", "A veces", "--section", "En la tienda")
    tell(app, "topic", "translate", "offers", "--language", "es", *words)
    assert '<h3 class="section" id="section-2" lang="es"><bdi>En la tienda' in client.get(f"{path}?lang=es").text
    assert "In the shop" in client.get(f"{path}?lang=fr").text


@pytest.mark.parametrize(
    ("slugs", "words"),
    [(["offers", "nothing"], ["no topic nothing"]), (["offers", "offers"], ["offers is named twice"])],
)
def test_an_order_that_cannot_be_is_refused_in_one_line(sqlite_app: Flask, slugs: list[str], words: list[str]) -> None:
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, "topic", "order", *slugs), *words)
    assert rows(sqlite_app) == before


# The command.


def test_setting_one_thing_of_a_topic_keeps_the_others(app: Flask) -> None:
    tell(app, *TRADE, *TO_SOME, "--section", "For shops")
    assert tell(app, "topic", "set", "trade", "--hidden") == "Changed topic trade: hidden, off by default.\n"
    tell(app, "topic", "set", "trade", "--section", "")
    trade = services_of(app).database.read(read_catalog).topics["trade"]
    assert (trade.hidden, trade.visible_to, trade.opt_in, trade.section) == (True, "wholesale", True, "")
    tell(app, "topic", "set", "trade", "--offered", "--visible-to", "")
    assert re.search(r"^trade .* off +offered +- ", run(app, "topic", "list").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("topic", "set", "offers"), ["nothing to set of offers"]),
        (("topic", "set", "nothing", "--hidden"), ["no topic nothing"]),
        (("topic", "set", "offers", "--default", "on"), ["topic offers", "consent"]),
        (("topic", "set", "offers", "--default", "required"), ["marketing can never be required"]),
        (("topic", "set", "receipts", "--default", "off"), ["always sent"]),
        (("topic", "set", "product-news", "--visible-to", "wholesale"), ["on for everybody", "off"]),
        (("topic", "set", "product-news", "--visible-to", "Two Words"), ["--visible-to", "wholesale"]),
        ((*TRADE, "--default", "required"), ["marketing can never be required"]),
    ],
)
def test_an_arrangement_that_cannot_be_is_refused_in_one_line(
    sqlite_app: Flask, command: tuple[str, ...], words: list[str]
) -> None:
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, *command), *words)
    assert rows(sqlite_app) == before


# The API.


def test_the_api_sets_what_the_command_sets(app: Flask, client: FlaskClient) -> None:
    headers = api_headers(services_of(app))
    words = {"slug": "trade", "name": "Trade prices", "class": "marketing", "basis": "soft_opt_in"}
    how = {"section": "For shops", "default": "off", "hidden": True, "visible_to": "wholesale", "position": 3}
    for body in (words | how, words):
        answer = client.put("/api/v1/topics", json={"topics": [body]}, headers=headers)
        assert answer.json is not None
        assert how.items() <= answer.json["topics"][-1].items()
    trade = services_of(app).database.read(read_catalog).topics["trade"]
    assert (trade.opt_in, trade.hidden, trade.visible_to, trade.section) == (True, True, "wholesale", "For shops")


@pytest.mark.parametrize(
    ("slug", "how", "field"),
    [
        ("offers", {"default": "on"}, "default"),
        ("offers", {"default": "required"}, "default"),
        ("product-news", {"visible_to": "wholesale"}, "visible_to"),
        ("product-news", {"visible_to": "Two Words"}, "visible_to"),
        ("offers", {"section": "a\nb"}, "section"),
        ("offers", {"position": -1}, "position"),
    ],
)
def test_an_arrangement_that_cannot_be_is_refused_by_its_field(
    app: Flask, client: FlaskClient, slug: str, how: dict[str, Any], field: str
) -> None:
    known = services_of(app).database.read(read_catalog).topics[slug]
    body = {"slug": slug, "name": "X", "class": "marketing", "basis": known.basis, **how}
    answer = client.put("/api/v1/topics", json={"topics": [body]}, headers=api_headers(services_of(app)))
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == [f"topics[0].{field}"]
    assert services_of(app).database.read(read_catalog).topics[slug] == known


@pytest.mark.parametrize("how", [{"default": Default.OFF}, {"hidden": True}])
def test_who_is_waiting_in_a_mailbox_can_still_confirm(app: Flask, client: FlaskClient, how: dict[str, Any]) -> None:
    """The letter was asked for while the topic was offered: what is hidden since can still be said yes to."""
    from preferences.tokens import ConfirmLink

    services = services_of(app)
    contact_id = add_contact(services, email("later@example.com"))
    token = services.links.sign_confirm(
        ConfirmLink(contact_id, "default", ("email.offers.status=on",), datetime.now(UTC))
    )
    tell(app, "topic", "set", "offers", *(("--hidden",) if "hidden" in how else ("--default", "off")))
    assert client.post(f"/confirm/{token}").status_code == 200
    held = services.database.read(contact_state.state_of, contact_id).preferences
    assert [choice.status for choice in held.values()] == ["subscribed"]
