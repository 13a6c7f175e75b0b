"""Languages: which one a person gets, that it holds from page to page, and that nothing is left in English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.frontend import CommandLineInterface
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import nodes
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.vocabulary import LANGUAGES
from preferences.i18n import CATALOGUES, NAMES, Templates, day, moment, translations_of
from preferences.people.opt_outs import REASONS
from preferences.store.catalog import change_brand, save_topic_text
from preferences.web.shared.errors import MESSAGES
from preferences.web.shared.mail_request import ENTER_EMAIL
from tests.mail_sink import MailSink
from tests.signed_in import SignedIn, filled_in
from tests.support import add_contact, close, email, link_for, manage_link_for, new_app, new_sqlite, send_emails

ROOT = CATALOGUES.parent.parent
TEMPLATES = ROOT / "templates"
ENGLISH, *TRANSLATED = LANGUAGES
BROWSER = {"Accept": "text/html"}
NOW = datetime.now(UTC)

NAMES_AND_SIGNS = {"SHA-256"}
"""What is written alike in every language."""

every_translation = pytest.mark.parametrize("language", TRANSLATED)
every_language = pytest.mark.parametrize("language", LANGUAGES)


# The catalogues.


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Every text that the code and the templates mark, gathered as `make messages` does."""
    path = tmp_path_factory.mktemp("texts") / "texts.pot"
    mapping = str(ROOT / "pyproject.toml")
    CommandLineInterface().run(
        ["pybabel", "-q", "extract", "-F", mapping, "-k", "to_translate", "-o", str(path), str(ROOT)]
    )
    return read(path)


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file)


def catalogue(language: str) -> Catalog:
    return read(CATALOGUES / language / "LC_MESSAGES" / "messages.po")


def messages(catalog: Catalog) -> list[Message]:
    """The catalogue's messages, without the header, which bears the empty text."""
    return [message for message in catalog if message.id]


def forms(text: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """The singular and the plurals of a text."""
    return (text,) if isinstance(text, str) else tuple(text or ())


def pairs(language: str) -> Iterator[tuple[str, str]]:
    """Each translation, and what it translates."""
    for message in messages(catalogue(language)):
        source = forms(message.id)[-1]
        yield from ((source, form) for form in forms(message.string))


def placeholders(text: str) -> Counter[str]:
    return Counter(re.findall(r"%\(\w+\)s|%(?!\()", text))


def tags(text: str) -> Counter[str]:
    return Counter(re.findall(r"<[^>]*>", text))


@every_translation
def test_every_text_is_translated_and_nothing_else(texts: Catalog, language: str) -> None:
    found = {message.id for message in messages(catalogue(language))}
    assert {message.id for message in messages(texts)} - found == set()
    assert found - {message.id for message in messages(texts)} == set()
    assert not catalogue(language).obsolete


@every_translation
def test_no_translation_is_empty_or_a_guess(language: str) -> None:
    found = messages(catalogue(language))
    assert [message.id for message in found if not message.string or not all(forms(message.string))] == []
    assert [message.id for message in found if message.fuzzy] == []


@every_translation
def test_the_compiled_catalogue_is_that_of_the_written_one(language: str) -> None:
    compiled = BytesIO()
    write_mo(compiled, catalogue(language))
    assert (CATALOGUES / language / "LC_MESSAGES" / "messages.mo").read_bytes() == compiled.getvalue()


@every_translation
def test_what_is_put_into_a_text_is_put_into_its_translation(language: str) -> None:
    # A plural may leave the number out, where the language says it without: one, two.
    numbers = Counter({"%(count)s": 1, "%(left)s": 1})
    strays = [
        (source, translation)
        for source, translation in pairs(language)
        if placeholders(translation) not in (placeholders(source), placeholders(source) - numbers)
    ]
    assert strays == []


@every_translation
def test_what_is_marked_in_a_text_is_marked_in_its_translation(language: str) -> None:
    assert [pair for pair in pairs(language) if tags(pair[0]) != tags(pair[1])] == []


@every_translation
def test_a_translation_begins_and_ends_like_its_text(language: str) -> None:
    edges = re.compile(r"^\s*|\s*$")
    assert [pair for pair in pairs(language) if edges.findall(pair[0]) != edges.findall(pair[1])] == []


@every_translation
def test_every_plural_has_all_the_forms_of_its_language(language: str) -> None:
    catalog = catalogue(language)
    assert catalog.num_plurals == (6 if language == "ar" else 2)
    plurals = [message for message in messages(catalog) if message.pluralizable]
    assert plurals
    assert {len(forms(message.string)) for message in plurals} == {catalog.num_plurals}


def test_arabic_counts_by_its_six_forms() -> None:
    arabic = translations_of("ar")
    said = [arabic.ngettext("1 a week", "%(count)s a week", count) for count in (0, 1, 2, 3, 11, 100)]
    assert len(set(said)) >= 4
    assert "%(count)s" not in said[1] + said[2]  # once and twice are words of their own


def test_a_foreign_name_in_an_arabic_sentence_is_isolated() -> None:
    """A name in Latin letters, and the full stop behind it, would otherwise turn the sentence round."""
    foreign = r"%\((?:brand|topic|name|address|new|old|reference)\)s"
    apart = re.compile(rf"\u2068{foreign}\u2069|<bdi[^>]*>{foreign}</bdi>")
    assert [text for _, text in pairs("ar") if re.search(foreign, apart.sub("", text))] == []


def test_texts_translated_by_value_are_in_the_catalogues(texts: Catalog) -> None:
    """Texts that a template is given, and so cannot mark itself."""
    given = {text for message in MESSAGES.values() for text in (message.title, message.lead)}
    given |= set(REASONS.values()) | {ENTER_EMAIL}
    assert given <= {message.id for message in messages(texts)}


def test_no_text_is_half_a_sentence(texts: Catalog) -> None:
    """Halves that are put together in English stand in another order in another language."""
    halves = [text for message in messages(texts) for text in forms(message.id) if re.match(r"[.,;:!?)]\s*\w|\s", text)]
    assert halves == []


# No text outside the catalogues.


class _Bare(HTMLParser):
    """The texts that stand in a page, and in those of its attributes that are read out."""

    READ_OUT = ("title", "alt", "placeholder", "aria-label", "label")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        self.found += [value for name, value in attrs if value and name in self.READ_OUT]

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.found.append(data.strip())


def bare_texts(source: str) -> list[str]:
    """What a template says by itself, outside gettext: in its page, or in quotes within `{{ }}` and `{% %}`."""
    tree = Templates(TEMPLATES)[ENGLISH].parse(source)
    page = _Bare()
    page.feed("".join(node.data for node in tree.find_all(nodes.TemplateData)))
    page.close()
    marked = {
        id(text)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in {"_", "gettext", "ngettext"}
        for text in call.find_all(nodes.Const)
    }
    quoted = [
        node.value for node in tree.find_all(nodes.Const) if id(node) not in marked and isinstance(node.value, str)
    ]
    sentences = [text for text in quoted if " " in text.strip() or text[:1].isupper()]
    return [text for text in [*page.found, *sentences] if any(map(str.isalpha, text)) and text not in NAMES_AND_SIGNS]


def templates() -> list[Path]:
    """Those whose words are for recipients; the API's own page is for engineers, and in English."""
    found = sorted(path for path in TEMPLATES.rglob("*") if path.is_file() and path.parent.name != "api")
    assert len(found) > 20
    return found


@pytest.mark.parametrize("path", templates(), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_no_template_has_text_outside_gettext(path: Path) -> None:
    assert bare_texts(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "<p>Hello</p>",
        "<p>{% trans %}Hello{% endtrans %} you</p>",
        "{% if x %}Hello{% endif %}",
        "<img alt='A tick'>",
        "{{ stop('all', 'Stop everything') }}",
        "{% set label = 'Stop' %}",
        "{{ ref ~ ' or so' }}",
    ],
)
def test_a_text_outside_gettext_is_found(source: str) -> None:
    assert bare_texts(source) != []


# Which language a person gets.


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def language_of(page: TestResponse) -> str:
    found = re.search(r'<html lang="([^"]+)" dir="([^"]+)"', page.text)
    assert found
    assert found[2] == ("rtl" if found[1] == "ar" else "ltr")
    return found[1]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("pt-BR", "pt"),
        ("pt-PT,pt;q=0.9,en;q=0.8", "pt"),
        ("ar-EG", "ar"),
        ("DE-at", "de"),
        ("zh-Hant-TW, fr;q=0.5", "fr"),
        ("en;q=0.3, es;q=0.7", "es"),
        ("de;q=0, es;q=0.1", "es"),
        ("zh", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=nonsense", "en"),
        ("deutsch, englisch", "en"),
        (";;;=,q=\t,,", "en"),
        ("\xff\xfe de", "en"),
        ("", "en"),
        ("zz," * 1_333 + "de", "en"),
        ("de," + "zz," * 1_333, "de"),
    ],
)
def test_the_browsers_language_is_used(client: FlaskClient, header: str, language: str) -> None:
    page = client.get("/optout", headers={"Accept-Language": header})
    assert page.status_code == 200
    assert language_of(page) == language


@every_language
def test_the_url_comes_before_the_browsers_language(client: FlaskClient, language: str) -> None:
    other = "fr" if language != "fr" else "de"
    assert language_of(client.get(f"/optout?lang={language}", headers={"Accept-Language": other})) == language


@pytest.mark.parametrize("asked", ["zh", "", "de'><script>", "DE\0", "../de"])
def test_a_url_with_an_unsupported_language_counts_as_without(client: FlaskClient, asked: str) -> None:
    page = client.get("/optout", query_string={"lang": asked}, headers={"Accept-Language": "es"})
    assert language_of(page) == "es"
    assert 'action="/optout"' in page.text


def test_without_a_supported_language_the_brands_is_used(app: Flask) -> None:
    services_of(app).database.save(change_brand, "default", {"language": "de"}, NOW)
    page = app.test_client().get("/optout", headers={"Accept-Language": "zh"})
    assert language_of(page) == "de"
    assert language_of(app.test_client().get("/optout", headers={"Accept-Language": "fr"})) == "fr"


def test_no_language_is_kept_in_a_cookie(client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.get("/optout?lang=ar").headers


# The language holds.


@pytest.fixture
def app(tmp_path: Path, mail: MailSink) -> Iterator[Flask]:
    """The application on SQLite, with a mail server: no language depends on the engine."""
    app = new_app(new_sqlite(tmp_path), smtp_url=mail.url)
    yield app
    close(app)


Visited = Iterator[tuple[str, TestResponse]]
"""Pages, each with the address it stands at."""


def walk(app: Flask, mail: MailSink, query: str) -> Visited:
    """Every page of a recipient: opened, answered and refused."""
    yield from walk_by_link(app, query)
    yield from walk_by_mail(app, mail, query)
    yield from walk_signed_in(app, query)


def walk_by_link(app: Flask, query: str) -> Visited:
    """The pages behind the links of every mail, and the address box."""
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    link, manage = link_for(services, contact_id), manage_link_for(services, contact_id)

    def get(path: str) -> tuple[str, TestResponse]:
        return path, client.get(path + query)

    def post(path: str, **form: str) -> tuple[str, TestResponse]:
        return path, client.post(path + query, data=form, headers=BROWSER)

    yield get("/")
    yield get("/optout")
    yield post("/optout", address="nobody")
    yield post("/optout", address="somebody@example.com")
    yield get(link)
    yield get(manage)
    yield post(link, intent="topic")
    path, done = post(link, intent="all")
    yield path, done
    yield get(link)
    yield get(manage)
    yield post(f"{link}/reason", reason="other")
    found = re.search(r'name="undo" value="([^"]+)"', done.text)
    assert found
    yield post(f"{link}/undo", undo=found[1])
    yield post(f"{link}/undo", undo=found[1])
    yield manage, client.post(manage + query, data=filled_in(client.get(manage)) | {"set.email.offers.status": "on"})
    yield post(manage, intent="all")
    yield post(f"{manage}/revoke")
    yield get(manage)
    yield get("/u/nonsense")
    yield post("/u/nonsense")
    yield get("/p/nonsense")
    yield get("/no-such-page")
    yield get(f"{link}/undo")


def walk_by_mail(app: Flask, mail: MailSink, query: str) -> Visited:
    """The pages that send an email, and those behind its link."""
    services, client = services_of(app), app.test_client()
    new, known = "new@example.com", email().value

    def get(path: str) -> tuple[str, TestResponse]:
        return path, client.get(path + query)

    def post(path: str, **form: str) -> tuple[str, TestResponse]:
        return path, client.post(path + query, data=form, headers=BROWSER)

    yield get("/sign-up")
    yield post("/sign-up", address="nobody")
    yield post("/sign-up", address=new, topic="offers")
    yield get("/link")
    yield post("/link", address="nobody")
    yield post("/link", address=known)
    yield get("/sign-in")
    yield post("/sign-in", address="nobody")
    _, answer = post("/sign-in", address=known)
    code_page = answer.headers["Location"].partition("?")[0]
    yield get(code_page)
    yield post(code_page, code="12")
    send_emails(services)
    yield post(code_page, code="000000")
    confirm = urlsplit(mail.to(new)[-1].url).path
    yield get(confirm)
    yield post(confirm)
    yield post(confirm)
    yield get(f"{confirm}x")
    yield get(urlsplit(mail.to(known)[-1].url).path)
    yield get("/sign-in/link/nonsense")


def walk_signed_in(app: Flask, query: str) -> Visited:
    """The pages behind the sign-in."""
    person = SignedIn(app, add_contact(services_of(app), email("signed.in@example.com")))  # has ended no session yet
    account = f"/account/{query}"

    yield account, person.open(account)
    yield account, person.save({"email.offers.status": "on"}, path=account)
    for room in ("history", "addresses", "addresses/add"):
        yield f"/account/{room}", person.open(f"/account/{room}{query}")
    history = person.open(f"/account/history{query}")
    kept = re.findall(r'href="(/account/(?:notices|receipts)/[^"?]+)', history.text)
    assert len(kept) >= 2
    for path in kept:
        yield path, person.open(path + query)
    yield "/account/addresses/add", person.press(f"/account/addresses/add{query}", address="nobody")
    yield "/account/addresses/add", person.press(f"/account/addresses/add{query}", address="second@example.com")
    yield account, person.send(account, {"csrf_token": "old"})


def own_links(page: TestResponse) -> set[str]:
    """Where the page's own links and forms lead, but for the switch of languages."""
    body = page.text.partition("<body>")[2].partition('<nav class="tongues"')[0]
    found = re.findall(r'<(?:a|form)\b[^>]*?(?:href|action)="([^"]*)"', body)
    pages = (unescape(link) for link in found if link and not link.startswith(("mailto:", "#")))
    return {link for link in pages if not link.endswith(".json")}


def asks_for(path: str) -> str | None:
    """The language that an address asks for."""
    return dict(parse_qsl(urlsplit(path).query)).get("lang")


def switch(page: TestResponse) -> dict[str, str]:
    """The switch: where each language is."""
    nav = page.text.partition('<nav class="tongues"')[2].partition("</nav>")[0]
    return {code: unescape(path) for path, code in re.findall(r'<a href="([^"]*)" lang="(\w+)"', nav)}


@every_translation
def test_a_requested_language_holds_from_page_to_page(app: Flask, mail: MailSink, language: str) -> None:
    for path, page in walk(app, mail, f"?lang={language}"):
        assert language_of(page) == language, path
        assert {link for link in own_links(page) if asks_for(link) not in {language, ENGLISH}} == set(), path


def test_a_url_has_no_language_unless_requested(app: Flask, mail: MailSink) -> None:
    # But for the button of a confirm page: what it says yes to is the wording in the language that was shown.
    for path, page in walk(app, mail, ""):
        assert {link for link in own_links(page) if asks_for(link) and not link.startswith("/confirm/")} == set(), path


def test_the_switch_opens_the_same_page_in_each_other_language(app: Flask, mail: MailSink) -> None:
    client = app.test_client()
    for path, page in chain(walk_by_link(app, ""), walk_by_mail(app, mail, "")):
        assert set(switch(page)) == {*TRANSLATED}, path
        for language, to in switch(page).items():
            turned = client.get(urljoin(path, to))
            assert language_of(turned) == language, (path, to)
            assert turned.status_code in {200, page.status_code}, (path, to)


@every_language
def test_the_switch_names_each_language_in_that_language(client: FlaskClient, language: str) -> None:
    page = client.get(f"/?lang={language}")
    assert f'<span lang="{language}" aria-current="true">{NAMES[language]}</span>' in page.text
    for other in set(LANGUAGES) - {language}:
        assert f'lang="{other}" hreflang="{other}"><bdi>{NAMES[other]}</bdi></a>' in page.text


# What is said, and in what.


def said(html: str) -> str:
    """The words of a page or a message."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html.partition("<body")[2])).split())


@every_translation
def test_no_page_or_email_is_left_in_english(app: Flask, mail: MailSink, texts: Catalog, language: str) -> None:
    """A whole sentence of the source, found on a page in another language, was not translated where it is shown."""
    english = {form for message in messages(texts) for form in forms(message.id)}
    same = {source for source, translation in pairs(language) if source == translation}
    sentences = [text for text in english - same if len(text) > 12 and not set("%<") & set(text)]
    shown = [(path, said(page.text)) for path, page in walk(app, mail, f"?lang={language}")]
    send_emails(services_of(app))
    assert {message.message["Content-Language"] for message in mail.messages} == {language}
    assert len(mail.messages) >= 5
    shown += [(f"the email {message.message['Subject']}", said(message.html)) for message in mail.messages]
    assert [(where, text) for where, words in shown for text in sentences if text in words] == []


def test_a_topic_is_in_the_pages_language_or_says_it_is_not(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    spanish = {"name": "Novedades", "description": "Lo nuevo de la tienda.", "frequency": "Dos veces al mes"}
    services.database.save(save_topic_text, "product-news", "es", given=spanish)
    link = link_for(services, add_contact(services))

    page = client.get(f"{link}?lang=es")
    assert "Novedades" in page.text
    assert "Lo nuevo de la tienda." in page.text
    assert "Product news" not in page.text
    assert '<p lang="es"><bdi>Lo nuevo de la tienda.</bdi>' in page.text

    page = client.get(f"{link}?lang=ar")
    assert '<bdi lang="en">Product news</bdi>' in page.text
    assert '<p lang="en"><bdi>What is new in the shop.</bdi>' in page.text
    assert re.search(r"<title>[^<]+</title>", page.text)


def test_the_english_text_prevails_where_there_is_another() -> None:
    def shown(language: str, here: str) -> str:
        environment = Templates(TEMPLATES)[language]
        source = "{% from 'macros.html' import english_prevails %}{{ english_prevails(here) }}"
        return environment.from_string(source).render(here=here).strip()

    assert shown(ENGLISH, "/confirm/x") == ""
    for language in TRANSLATED:
        assert '<a href="/confirm/x?lang=en" hreflang="en">' in shown(language, "/confirm/x")
        assert '<a href="?lang=en" hreflang="en">' in shown(language, "")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "3 November 2026, 14:05 UTC"),
        ("es", "3 de noviembre de 2026, 14:05 UTC"),
        ("fr", "3 novembre 2026, 14:05 UTC"),
        ("de", "3. November 2026, 14:05 UTC"),
        ("pt", "3 de novembro de 2026 14:05 UTC"),
        ("ar", "3 نوفمبر 2026، 14:05 UTC"),
    ],
)
def test_an_instant_is_written_as_the_language_does_in_utc(language: str, words: str) -> None:
    assert moment(datetime(2026, 11, 3, 14, 5, tzinfo=UTC), language) == words
    at_home = datetime(2026, 11, 3, 22, 5, tzinfo=timezone(timedelta(hours=8)))
    assert moment(at_home, language) == words


def test_a_day_has_the_same_digits_in_every_language() -> None:
    for language in LANGUAGES:
        assert "2026" in day(date(2026, 11, 3), language)


@every_language
def test_times_and_references_stay_readable_by_machines(app: Flask, language: str) -> None:
    services = services_of(app)
    link = link_for(services, add_contact(services))
    page = app.test_client().post(f"{link}?lang={language}", data={"intent": "all"}, headers=BROWSER)
    assert re.search(r'<time dir="auto" datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ">', page.text)
    assert re.search(r'<bdi class="ref" dir="ltr">[0-9A-Z-]+</bdi>', page.text)
