"""Brands and topics on the command line: only what is given changes, places are one brand's each, words are whole."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.records import Brand, TopicText
from preferences.domain.vocabulary import OneClick
from preferences.store.catalog import Catalog, read_catalog
from tests.commands import is_refused, rows, run
from tests.support import PUBLIC_URL


def catalog(app: Flask) -> Catalog:
    return services_of(app).database.read(read_catalog)


def set_brand(app: Flask, slug: str, **options: str) -> None:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    result = run(app, "brand", "set", slug, *words)
    assert (result.exit_code, result.stderr) == (0, "")


# Brands.

ACME = Brand(
    slug="acme",
    name="Acme",
    postal_address="1 Anvil Road",
    contact_email="hello@acme.example",
    one_click=OneClick.TOPIC,
    host="mail.acme.example",
    path="club",
    colour="#0b57d0",
    language="es",
)


def add_acme(app: Flask) -> None:
    set_brand(
        app,
        "acme",
        name="Acme",
        postal_address="1 Anvil Road",
        contact_email="hello@acme.example",
        one_click="topic",
        host="Mail.Acme.Example.",
        path="/club/",
        colour="#0B57D0",
        language="ES",
    )


def test_a_brand_is_kept_as_it_was_given_in_small_letters(app: Flask) -> None:
    add_acme(app)
    assert catalog(app).brands["acme"] == ACME


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("--name", "name", "Acme & Sons"),
        ("--postal-address", "postal_address", "2 Anvil Road"),
        ("--contact-email", "contact_email", ""),
        ("--one-click", "one_click", "everything"),
        ("--host", "host", ""),
        ("--path", "path", "acme"),
        ("--colour", "colour", "#ffffff"),
        ("--language", "language", "ar"),
    ],
)
def test_setting_one_thing_keeps_all_others(sqlite_app: Flask, option: str, field: str, value: str) -> None:
    add_acme(sqlite_app)
    before = catalog(sqlite_app).brands["acme"]
    assert run(sqlite_app, "brand", "set", "acme", option, value).stdout == "Changed brand acme.\n"
    after = catalog(sqlite_app).brands["acme"]
    assert {name for name in Brand.__slots__ if getattr(before, name) != getattr(after, name)} == {field}
    assert getattr(after, field) == value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--colour", "#ffffff"], ["no brand other", "--name"]),
        (["--name", "", "--path", "other"], ["--name", "empty"]),
        (["--name", "X", "--colour", "blue"], ["--colour", "#0b57d0"]),
        (["--name", "X", "--colour", "#0b57d"], ["--colour"]),
        (["--name", "X", "--colour", "#0b57d0;}"], ["--colour"]),
        (["--name", "X", "--language", "tlh"], ["--language", "'tlh'"]),
        (["--name", "X", "--host", "https://acme.example"], ["--host", "no https://"]),
        (["--name", "X", "--host", "acme.example:8080"], ["--host", "no port"]),
        (["--name", "X", "--host", "acme"], ["--host"]),
        (["--name", "X", "--host", "acme.example/club"], ["--host"]),
        (["--name", "X", "--host", "preferences.example.test"], ["--host", "PUBLIC_URL", "--path"]),
        (["--name", "X", "--path", "a"], ["--path", "two or more"]),
        (["--name", "X", "--path", "Two Words"], ["--path"]),
        (["--name", "X", "--path", "a/b"], ["--path"]),
        (["--name", "X", "--path", "../etc"], ["--path"]),
        (["--name", "X", "--path", "static"], ["--path", "part of the site"]),
        (["--name", "X", "--path", "optout"], ["--path", "part of the site"]),
        (["--name", "X", "--path", "api"], ["--path", "part of the site"]),
        (["--name", "X", "--host", "mail.acme.example", "--path", "club"], ["acme has that place", "--path"]),
    ],
)
def test_a_brand_that_cannot_be_is_refused_in_one_line(sqlite_app: Flask, options: list[str], words: list[str]) -> None:
    add_acme(sqlite_app)
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, "brand", "set", "other", *options), *words)
    assert rows(sqlite_app) == before


CONTROLS = ["Acme\r\nBcc: eve@evil.example", "Acme\nb", "Ac\x00me", "Acme\x85", "Acme\u2028x", "\u202eemcA"]


@pytest.mark.parametrize("value", CONTROLS)
@pytest.mark.parametrize("option", ["--name", "--postal-address", "--contact-email"])
def test_nothing_of_a_brand_can_begin_another_line_or_turn_it_round(app: Flask, option: str, value: str) -> None:
    before = catalog(app).brands
    result = run(app, "brand", "set", "default", option, value)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert option in result.stderr
    assert catalog(app).brands == before


@pytest.mark.parametrize("value", CONTROLS)
@pytest.mark.parametrize("option", ["--name", "--description", "--frequency", "--section"])
def test_nothing_of_a_topic_can_begin_another_line(sqlite_app: Flask, option: str, value: str) -> None:
    new = ["topic", "add", "tea", "--class", "marketing", "--basis", "consent", option, value]
    assert run(sqlite_app, *new).exit_code == 1
    assert run(sqlite_app, "topic", "translate", "offers", "--language", "de", option, value).exit_code == 1
    assert "tea" not in catalog(sqlite_app).topics


@pytest.mark.parametrize("value", CONTROLS)
def test_a_section_that_is_changed_cannot_begin_another_line(sqlite_app: Flask, value: str) -> None:
    assert run(sqlite_app, "topic", "set", "offers", "--section", value).exit_code == 1
    assert catalog(sqlite_app).topics["offers"].section == ""


@pytest.mark.parametrize(
    "value",
    [
        *("help@acme.example?bcc=eve@evil.example", "help@acme.example&cc=x", "a?subject=b@acme.example"),
        *("<b>help@acme.example</b>", "Help <help@acme.example>", "help@acme.example,eve@evil.example"),
        *("help%0aBcc:x@acme.example", '"a b"@acme.example', "acme.example", "help@acme.example#x"),
    ],
)
def test_a_contact_address_is_an_address_and_nothing_more(sqlite_app: Flask, value: str) -> None:
    result = run(sqlite_app, "brand", "set", "default", "--contact-email", value)
    assert is_refused(result, "--contact-email", "an e-mail address alone")
    assert "evil" not in result.stderr


@pytest.mark.parametrize("value", ["help@acme.example", "Hilfe+web@acme.example", "help@bücher.example", ""])
def test_a_contact_address_stays_as_it_was_written(sqlite_app: Flask, value: str) -> None:
    assert run(sqlite_app, "brand", "set", "default", "--contact-email", value).exit_code == 0
    assert catalog(sqlite_app).brands["default"].contact_email == value


def test_names_may_be_in_any_script(sqlite_app: Flask) -> None:
    for name in ("متجر‌ها", "Ξενία", "👩‍🌾 Hof", "株式会社"):
        assert run(sqlite_app, "brand", "set", "default", "--name", name).exit_code == 0


def test_no_page_of_the_site_can_become_a_brands_folder(sqlite_app: Flask) -> None:
    """The list comes from the routes: every door there is, and the files beside them."""
    first = {rule.rule.split("/")[1] for rule in sqlite_app.url_map.iter_rules()} - {""}
    assert first >= {"static", "u", "p", "optout", "webhooks", "api", "healthz", "brand"}
    for folder in first:
        result = run(sqlite_app, "brand", "set", "default", "--path", folder)
        assert is_refused(result, "--path"), folder


def test_a_host_and_a_folder_may_each_be_shared_but_not_both(sqlite_app: Flask) -> None:
    add_acme(sqlite_app)
    set_brand(sqlite_app, "other-folder", name="B", host="mail.acme.example", path="other")
    set_brand(sqlite_app, "other-host", name="C", host="mail.other.example", path="club")
    set_brand(sqlite_app, "no-host", name="D", path="club")
    set_brand(sqlite_app, "no-folder", name="E", host="mail.acme.example")
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, "brand", "set", "no-host", "--host", "mail.acme.example"), "brand acme")
    assert is_refused(run(sqlite_app, "brand", "set", "other-host", "--host", ""), "brand no-host")
    assert rows(sqlite_app) == before


def test_brands_without_a_place_share_the_sites_own(sqlite_app: Flask) -> None:
    set_brand(sqlite_app, "tea", name="Tea")
    set_brand(sqlite_app, "coffee", name="Coffee")
    assert [brand.slug for brand in catalog(sqlite_app).brands.values()] == ["default", "tea", "coffee"]


def test_the_list_of_brands_shows_places_and_what_is_missing(sqlite_app: Flask) -> None:
    add_acme(sqlite_app)
    set_brand(sqlite_app, "tea", name="Tea", path="tea-shop")
    result = run(sqlite_app, "brand", "list")
    head, default, acme, tea = (re.split(r" {2,}", line) for line in result.stdout.splitlines())
    assert head == ["SLUG", "NAME", "PAGES AT", "COLOUR", "LANGUAGE", "ONE CLICK STOPS", "TOPICS", "LACKS"]
    assert default == ["default", "Maple & Finch", PUBLIC_URL, "-", "en", "everything", "3", "-"]
    assert acme == ["acme", "Acme", "https://mail.acme.example/club", "#0b57d0", "es", "topic", "0", "-"]
    assert (tea[2], tea[-1]) == (f"{PUBLIC_URL}/tea-shop", "postal address, contact email")


# Words of topics.


def translate(app: Flask, slug: str, language: str, **options: str) -> Any:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return run(app, "topic", "translate", slug, "--language", language, *words)


OFERTAS = TopicText(name="Ofertas", description="Precios reducidos.", frequency="Una vez por semana")


def test_a_topic_speaks_a_language_once_its_words_are_there(app: Flask) -> None:
    assert catalog(app).topics["offers"].text("es").name == "Offers"
    done = translate(
        app, "offers", "es", name="Ofertas", description="Precios reducidos.", frequency="Una vez por semana"
    )
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Topic offers is called “Ofertas” in es.\n", "")
    offers = catalog(app).topics["offers"]
    assert offers.text("es") == OFERTAS
    assert (offers.language("es"), offers.language("fr"), offers.text("fr").name) == ("es", "en", "Offers")


def test_changing_one_word_keeps_the_others(app: Flask) -> None:
    translate(app, "offers", "es", name="Rebajas", description="Precios reducidos.", frequency="Una vez por semana")
    translate(app, "offers", "es", name="Ofertas")
    assert catalog(app).topics["offers"].text("es") == OFERTAS


def test_the_english_words_are_the_topics_own_and_can_be_mended(app: Flask) -> None:
    assert translate(app, "offers", "en", description="Lower prices.").exit_code == 0
    offers = catalog(app).topics["offers"]
    assert (offers.name, offers.description, offers.texts) == ("Offers", "Lower prices.", ())


@pytest.mark.parametrize(
    ("slug", "language", "options", "words"),
    [
        ("nothing", "es", {"name": "Nada"}, ["no topic nothing", "flask topic add"]),
        ("offers", "es", {"name": "Ofertas"}, ["not be whole", "--description and --frequency"]),
        ("offers", "es", {"description": "x", "frequency": "y"}, ["--name"]),
        ("offers", "en", {"name": ""}, ["--name"]),
        ("offers", "xx", {"name": "X"}, ["--language", "'xx'"]),
        ("offers", "es", {}, ["--name, --description, --frequency or --section"]),
    ],
)
def test_words_that_cannot_be_are_refused_in_one_line(
    sqlite_app: Flask, slug: str, language: str, options: dict[str, str], words: list[str]
) -> None:
    before = rows(sqlite_app)
    assert is_refused(translate(sqlite_app, slug, language, **options), *words)
    assert rows(sqlite_app) == before


def test_the_list_of_topics_names_the_languages_without_words(sqlite_app: Flask) -> None:
    translate(sqlite_app, "offers", "es", name="Ofertas", description="Precios reducidos.", frequency="Cada semana")
    head, offers, news, receipts = run(sqlite_app, "topic", "list").stdout.splitlines()
    assert head.split()[:-3] == ["SLUG", "BRAND", "NAME", "CLASS", "BASIS", "CHANNELS", "DEFAULT", "STATE", "SECTION"]
    assert head.endswith("  NO WORDS IN")
    assert "email, sms" in news
    assert news.endswith("es, fr, de, pt, ar")
    assert offers.endswith("  fr, de, pt, ar")
    assert "transactional" in receipts
