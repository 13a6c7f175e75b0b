"""Signing in without a password: whoever can read the mailbox is in, nobody else, and no page tells who is known."""

from __future__ import annotations

import re
import secrets
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.acts import retire_address
from preferences.domain.addresses import Fingerprints
from preferences.domain.vocabulary import Channel
from preferences.ledger import record as ledger
from preferences.store import contacts
from preferences.tokens import ManageLink, Ticket
from preferences.web.account.sign_in import read_code
from preferences.web.shared.limits import limiter
from tests.mail_sink import MailSink, Received
from tests.processes import contents
from tests.support import add_contact, close, email, link_for, manage_link_for, new_app, new_sqlite, send_emails

KNOWN, UNKNOWN = "jane.doe@example.com", "nobody.known@example.org"


@pytest.fixture(autouse=True)
def _fresh_counters(request: pytest.FixtureRequest) -> None:
    """The counters of the network are the process's own: each test begins with none."""
    for name in {"mailing_app", "app", "sqlite_app"}.intersection(request.fixturenames):
        with request.getfixturevalue(name).app_context():
            limiter.reset()


@pytest.fixture
def jane(mailing_app: Flask) -> UUID:
    """Somebody we know."""
    return add_contact(services_of(mailing_app), email(KNOWN))


@pytest.fixture
def visitor(mailing_app: Flask, jane: UUID) -> FlaskClient:
    """Her browser."""
    return mailing_app.test_client()


def ask(visitor: FlaskClient, address: str = KNOWN) -> str:
    """Ask for a code, and return the id of the sign-in that stands in the page."""
    page = visitor.post("/sign-in", data={"address": address})
    assert page.status_code == 303
    return id_in(page)


def id_in(answer: TestResponse) -> str:
    """The sign-in that a page with a box for the code is about, by its address."""
    found = re.fullmatch("/sign-in/code/([0-9a-f-]{36})", answer.headers["Location"])
    assert found
    return found[1]


def email_to(app: Flask, mail: MailSink, address: str = KNOWN) -> Received:
    send_emails(services_of(app))
    return mail.to(address)[-1]


def type_code(visitor: FlaskClient, sign_in_id: str, code: str) -> TestResponse:
    return visitor.post(f"/sign-in/code/{sign_in_id}", data={"code": code})


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def path_of(url: str) -> str:
    return url.removeprefix("https://preferences.example.test")


def is_signed_in(visitor: FlaskClient) -> bool:
    page = visitor.get("/account/")
    assert page.status_code in {200, 303}
    if page.status_code == 303:
        assert page.headers["Location"].partition("?")[0] == "/sign-in"
    return page.status_code == 200


def arrived(answer: TestResponse) -> bool:
    return answer.status_code == 303 and answer.headers["Location"].partition("?")[0] == "/account/"


def csrf_of(visitor: FlaskClient) -> str:
    return re.findall(r'name="csrf_token" value="([^"]+)"', visitor.get("/account/").text)[0]


def sign_in(app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    assert arrived(type_code(visitor, sign_in_id, email_to(app, mail).code))


# By code.


def test_the_mailed_code_signs_in(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code
    assert not is_signed_in(visitor)

    answer = type_code(visitor, sign_in_id, f" {code[:3]} {code[3:]} ")

    assert arrived(answer)
    assert is_signed_in(visitor)


def test_the_code_field_supports_autofill(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    page = client.get(f"/sign-in/code/{ask(client)}")
    (field,) = re.findall(r'<input[^>]* id="code"[^>]*>', page.text)
    assert 'inputmode="numeric"' in field
    assert 'autocomplete="one-time-code"' in field
    assert "maxlength" not in field, "a pasted space must not cut a digit off"


@pytest.mark.parametrize(
    "typed", ["123456", "123 456", " 1 2 3 4 5 6\n", "123-456", "123\u00a0456", "١٢٣٤٥٦", "१२३४५६"]
)
def test_a_code_is_read_in_any_script_and_spacing(typed: str) -> None:
    assert read_code(typed) == "123456"


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "12345a", "twelve", "12345²", "1" * 100_000])
def test_text_that_is_no_code_is_not_read(typed: str) -> None:
    assert read_code(typed) is None


def test_text_that_is_no_code_does_not_count_as_a_try(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code
    for _ in range(5):
        page = type_code(visitor, sign_in_id, "12345")
        assert page.status_code == 400
        assert page.text.count("Enter the six-digit code") == 2, "in the summary and at the field"
    assert arrived(type_code(visitor, sign_in_id, code))


def test_a_wrong_code_says_how_many_tries_are_left(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code

    first, second = (type_code(visitor, sign_in_id, other_than(code)) for _ in range(2))

    assert first.status_code == second.status_code == 400
    assert "<title>Error: " in first.text
    assert 'href="#code"' in first.text
    assert "You have 2 more tries." in first.text
    assert "You have one more try." in second.text
    assert arrived(type_code(visitor, sign_in_id, code)), "the third try is a try"


def test_a_fourth_try_fails_even_with_the_right_code(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code
    third = [type_code(visitor, sign_in_id, other_than(code)) for _ in range(3)][-1]

    fourth = type_code(visitor, sign_in_id, code)

    for page in (third, fourth):
        assert page.status_code == 410
        assert "This code no longer works" in page.text
        assert 'href="/sign-in">Get a new code' in page.text
    assert not is_signed_in(visitor)


def test_parallel_tries_gain_nothing(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code
    guesses = [f"{(int(code) + 1 + number) % 1_000_000:06}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda guess: type_code(mailing_app.test_client(), sign_in_id, guess), guesses))
    assert sorted(answer.status_code for answer in answers) == [400, 400, *[410] * 10]
    assert type_code(visitor, sign_in_id, code).status_code == 410


def test_a_code_works_once(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    received = email_to(mailing_app, mail)
    assert arrived(type_code(visitor, sign_in_id, received.code))

    stranger = mailing_app.test_client()
    assert type_code(stranger, sign_in_id, received.code).status_code == 410
    assert stranger.post(path_of(received.url)).status_code == 409, "nor does the link beside it"
    assert not is_signed_in(stranger)


def test_a_code_works_for_ten_minutes(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        sign_in_id, late_id = ask(visitor), ask(visitor)
        send_emails(services_of(mailing_app))
        code, late = (message.code for message in mail.to(KNOWN))
        clock.shift(timedelta(minutes=9, seconds=59))
        assert arrived(type_code(mailing_app.test_client(), sign_in_id, code))
        clock.shift(timedelta(seconds=1))
        assert type_code(visitor, late_id, late).status_code == 410


def test_a_code_is_for_its_own_sign_in_alone(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    first, second = ask(visitor), ask(visitor)
    send_emails(services_of(mailing_app))
    codes = [message.code for message in mail.to(KNOWN)]
    assert codes[0] != codes[1], "one time in a million they are the same"
    assert type_code(visitor, first, codes[1]).status_code == 400
    assert type_code(visitor, second, codes[0]).status_code == 400
    assert type_code(visitor, secrets.token_hex(16), codes[0]).status_code == 410
    assert type_code(visitor, "junk", codes[0]).status_code == 410


def test_before_the_email_is_sent_no_code_is_right(visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    assert type_code(visitor, sign_in_id, "000000").status_code == 400


def test_an_address_stored_under_an_older_key_signs_in(database_url: str, mail: MailSink) -> None:
    old_key, new_key = "fingerprint-key-of-tests", "fingerprint-key-of-tests-2"
    before = new_app(database_url)
    add_contact(services_of(before), email(KNOWN))
    close(before)
    app = new_app(database_url, smtp_url=mail.url, fingerprint_keys=(old_key, new_key))
    assert services_of(app).fingerprints.of(email(KNOWN)) != Fingerprints([old_key.encode()]).of(email(KNOWN))
    with app.app_context():
        limiter.reset()
    sign_in(app, mail, app.test_client())
    close(app)


def test_the_mailbox_of_a_replaced_address_signs_nobody_in(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient, jane: UUID
) -> None:
    services, now = services_of(mailing_app), datetime.now(UTC)
    sign_in_id = ask(visitor)
    code = email_to(mailing_app, mail).code
    services.database.write(contacts.attach, jane, email("new@example.com"), services.fingerprints, now)
    services.database.write(
        ledger.record, [retire_address(email(KNOWN), now, {})], fingerprints=services.fingerprints, now=now
    )

    late = type_code(visitor, sign_in_id, code)
    ask(visitor)
    send_emails(services)

    assert late.status_code == 404
    assert "We have no record of this address" in late.text
    assert len(mail.to(KNOWN)) == 1, "and no second email came"
    assert not is_signed_in(visitor)


# By link.


def test_the_link_in_the_email_shows_one_button_and_writes_nothing(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient
) -> None:
    ask(visitor)
    path = path_of(email_to(mailing_app, mail).url)
    url = services_of(mailing_app).settings.database_url
    before = contents(url)
    for method in ("GET", "HEAD", "OPTIONS"):
        page = visitor.open(path, method=method)
        assert page.status_code == 200
        assert "Set-Cookie" not in page.headers
    shown = visitor.get(path)
    assert shown.text.count("<button") == shown.text.count("<form") == 1
    assert contents(url) == before
    assert not is_signed_in(visitor)


def test_the_button_signs_in_once(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in_id = ask(visitor)
    received = email_to(mailing_app, mail)
    path = path_of(received.url)

    assert arrived(visitor.post(path))
    assert is_signed_in(visitor)

    stranger = mailing_app.test_client()
    again = stranger.post(path)
    assert again.status_code == 409
    assert "This link was already used" in again.text
    assert "Get a new code" in again.text
    assert type_code(stranger, sign_in_id, received.code).status_code == 410, "nor does the code beside it"
    assert not is_signed_in(stranger)


def test_parallel_uses_of_a_link_sign_in_once(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    ask(visitor)
    path = path_of(email_to(mailing_app, mail).url)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: mailing_app.test_client().post(path), range(6)))
    assert sorted(answer.status_code for answer in answers) == [303, *[409] * 5]


def test_a_stale_link_offers_a_new_code(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    ask(visitor)
    path = path_of(email_to(mailing_app, mail).url)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10)):
        for page in (visitor.get(path), visitor.post(path)):
            assert page.status_code == 410
            assert "This link has expired" in page.text
            assert "Get a new code" in page.text
        assert not is_signed_in(visitor)


def test_a_link_of_another_kind_does_not_sign_in(sqlite_app: Flask) -> None:
    services, visitor = services_of(sqlite_app), sqlite_app.test_client()
    ticket = Ticket(add_contact(services), datetime.now(UTC))
    manage = ManageLink(ticket.id, Channel.EMAIL, "default", ticket.issued_at)
    for token in (
        services.links.sign_hand_off(ticket),
        services.links.sign_address(ticket),
        services.links.sign_manage(manage),
        "junk",
    ):
        for page in (visitor.get(f"/sign-in/link/{token}"), visitor.post(f"/sign-in/link/{token}")):
            assert page.status_code == 404
            assert "We cannot read this link" in page.text


def test_the_email_and_the_page_after_it_keep_the_language(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient
) -> None:
    visitor.post("/sign-in?lang=de", data={"address": KNOWN})
    path = path_of(email_to(mailing_app, mail).url)
    assert path.endswith("?lang=de")
    assert 'lang="de"' in visitor.get(path).text
    assert visitor.post(path).headers["Location"] == "/account/?lang=de"


# What a page tells.


def without_id(page: TestResponse) -> str:
    return re.sub("/sign-in/code/[0-9a-f-]{36}", "", page.text)


def test_every_address_gets_the_same_answer_but_for_a_random_id(app: Flask) -> None:
    services, visitor = services_of(app), app.test_client()
    add_contact(services, email(KNOWN))
    answers = [visitor.post("/sign-in", data={"address": address}) for address in (KNOWN, UNKNOWN, KNOWN, UNKNOWN)]
    assert {answer.status_code for answer in answers} == {303}
    assert {answer.text for answer in answers} == {""}
    assert len({tuple(sorted(answer.headers.keys())) for answer in answers}) == 1
    ids = [id_in(answer) for answer in answers]
    assert len({without_id(visitor.get(f"/sign-in/code/{sign_in_id}")) for sign_in_id in ids}) == 1
    wrong = [type_code(visitor, sign_in_id, "123456") for sign_in_id in ids[:2]]
    assert {answer.status_code for answer in wrong} == {400}
    assert len({without_id(answer) for answer in wrong}) == 1


def test_an_unknown_address_gets_no_email(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    ask(visitor, UNKNOWN)
    ask(visitor, KNOWN)
    send_emails(services_of(mailing_app))
    assert [message.recipients for message in mail.messages] == [[KNOWN]]


def test_a_request_takes_as_long_for_an_unknown_address(app: Flask) -> None:
    services, visitor = services_of(app), app.test_client()
    people = [f"person.{number:03}@example.com" for number in range(200)]
    for address in people:
        add_contact(services, email(address))
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for number, person in enumerate(people):
        pair = [("known", person), ("unknown", f"absent.{number:03}@example.com")]
        for kind, address in pair if number % 2 else reversed(pair):
            with app.app_context():
                limiter.reset()
            began = time.perf_counter()
            visitor.post("/sign-in", data={"address": address})
            took[kind].append(time.perf_counter() - began)
    known, unknown = (statistics.median(took[kind]) * 1000 for kind in ("known", "unknown"))
    print(f"median of 200 tries: known {known:.3f} ms, unknown {unknown:.3f} ms")
    assert max(known, unknown) / min(known, unknown) < 1.5


def test_at_most_five_emails_an_hour_go_to_one_mailbox(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient
) -> None:
    for _ in range(8):
        ask(visitor)
    send_emails(services_of(mailing_app))
    assert len(mail.to(KNOWN)) == 5


def test_a_program_that_requests_many_codes_is_limited(sqlite_app: Flask) -> None:
    visitor = sqlite_app.test_client()
    with time_machine.travel(datetime.now(UTC), tick=False):
        answers = [visitor.post("/sign-in", data={"address": f"p{number}@example.com"}) for number in range(21)]
        codes = [type_code(visitor, secrets.token_hex(16), "123456") for _ in range(61)]
    assert [answer.status_code for answer in answers] == [*[303] * 20, 429]
    assert [answer.status_code for answer in codes] == [*[410] * 60, 429]


@pytest.mark.parametrize("typed", ["", "jane", "jane@", "jane doe@example.com", "x" * 2000])
def test_a_mistake_is_explained_and_kept_in_the_field(sqlite_app: Flask, typed: str) -> None:
    url = services_of(sqlite_app).settings.database_url
    before = contents(url)
    page = sqlite_app.test_client().post("/sign-in", data={"address": typed})
    assert page.status_code == 400
    assert "<title>Error: Sign in" in page.text
    assert "There is a problem" in page.text
    assert page.text.count("Enter an email address, like name@example.com") == 2, "in the summary and at the field"
    assert f'value="{typed}"' in page.text
    assert contents(url) == before


def test_neither_code_nor_link_nor_address_is_logged(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as events, caplog.at_level("DEBUG"):
        sign_in_id = ask(visitor)
        received = email_to(mailing_app, mail)
        code, token = received.code, path_of(received.url).split("/")[-1].partition("?")[0]
        type_code(visitor, sign_in_id, other_than(code))
        type_code(visitor, sign_in_id, code)
        visitor.post(path_of(received.url))
    ours = [
        record.getMessage() for record in caplog.records if record.name != "mail.log"
    ]  # that is the test's mail server
    said = f"{events} {ours}"
    assert "email sent" in said, "it does say what happened"
    for secret in (code, f"{code[:3]} {code[3:]}", token, sign_in_id, KNOWN):
        assert secret not in said


def test_code_and_address_are_not_stored_longer_than_needed(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient
) -> None:
    ask(visitor)
    code = email_to(mailing_app, mail).code
    rows = contents(services_of(mailing_app).settings.database_url)
    assert rows["letter"] == []
    assert code not in str(rows["sign_in"])
    assert KNOWN not in str(rows["sign_in"]) + str(rows["letter_request"])


# The session.


def test_the_cookie_is_protected_and_holds_no_personal_data(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient
) -> None:
    sign_in_id = ask(visitor)
    answer = type_code(visitor, sign_in_id, email_to(mailing_app, mail).code)
    (cookie,) = answer.headers.getlist("Set-Cookie")
    assert cookie.startswith("preferences-session=")
    assert {part.strip() for part in cookie.split(";")[1:]} == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
    serializer = mailing_app.session_interface.get_signing_serializer(mailing_app)  # type: ignore[attr-defined]
    held = serializer.loads(cookie.partition("=")[2].partition(";")[0])
    assert held.keys() == {"contact", "since", "way", "may_opt_in"}


@pytest.mark.parametrize(
    ("public_url", "path", "secure"),
    [("http://localhost:5000", "/", False), ("https://example.com/prefs", "/prefs/", True)],
)
def test_the_cookie_follows_the_public_url(tmp_path: Path, public_url: str, path: str, secure: bool) -> None:
    app = new_app(new_sqlite(tmp_path), public_url=public_url)
    services = services_of(app)
    token = services.links.sign_hand_off(Ticket(add_contact(services), datetime.now(UTC)))
    cookie = app.test_client().post(f"/sign-in/hand-off/{token}").headers["Set-Cookie"]
    assert f"Path={path};" in cookie
    assert ("Secure" in cookie) is secure
    close(app)


def test_no_public_page_sets_a_cookie(sqlite_app: Flask) -> None:
    services, visitor = services_of(sqlite_app), sqlite_app.test_client()
    contact_id = add_contact(services)
    pages = [
        *("/", "/optout", "/sign-in", "/sign-up", "/link", "/account/", "/no-such-page"),
        *(link_for(services, contact_id), manage_link_for(services, contact_id)),
        *("/sign-in/link/junk", "/sign-in/hand-off/junk", "/confirm/junk"),
    ]
    for path in pages:
        assert "Set-Cookie" not in visitor.get(path).headers, path
    for path in (
        "/optout",
        "/sign-in",
        f"/sign-in/code/{uuid4()}",
        "/sign-up",
        "/link",
        link_for(services, contact_id),
    ):
        assert "Set-Cookie" not in visitor.post(path, data={"address": KNOWN}).headers, path


def test_a_session_ends_after_half_an_hour_of_use(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        sign_in(mailing_app, mail, visitor)
        for _ in range(2):
            clock.shift(timedelta(minutes=15))
            assert is_signed_in(visitor)
        clock.shift(timedelta(seconds=1))
        assert not is_signed_in(visitor)


def test_signing_out_ends_this_session_alone(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    other = mailing_app.test_client()
    sign_in(mailing_app, mail, other)
    sign_in(mailing_app, mail, visitor)

    page = visitor.post("/sign-in/out", data={"csrf_token": csrf_of(visitor)})

    assert page.status_code == 200
    assert "You are signed out" in page.text
    assert not is_signed_in(visitor)
    assert is_signed_in(other)


def test_signing_out_everywhere_ends_all_sessions_and_links(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient, jane: UUID
) -> None:
    other = mailing_app.test_client()
    sign_in(mailing_app, mail, other)
    sign_in(mailing_app, mail, visitor)
    stolen = manage_link_for(services_of(mailing_app), jane)
    assert other.get(stolen).status_code == 200

    page = visitor.post("/sign-in/out-everywhere", data={"csrf_token": csrf_of(visitor)})

    assert "Anyone else signed in as you has been signed out too" in page.text
    assert not is_signed_in(visitor)
    assert not is_signed_in(other)
    assert other.get(stolen).status_code == 410
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=3)):
        fresh = path_of(email_to(mailing_app, mail).url)
        assert fresh.startswith("/p/")
        assert other.get(fresh).status_code == 200
        sign_in(mailing_app, mail, visitor)


def test_a_deleted_contact_has_no_session(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in(mailing_app, mail, visitor)
    with services_of(mailing_app).database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.exec_driver_sql("DELETE FROM contact")
    assert not is_signed_in(visitor)


def test_a_changed_cookie_is_not_accepted(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    sign_in(mailing_app, mail, visitor)
    cookie = visitor.get_cookie("preferences-session")
    assert cookie is not None
    stranger = mailing_app.test_client()
    stranger.set_cookie("preferences-session", cookie.value[:-2] + ("AA" if cookie.value[-2:] != "AA" else "BB"))
    assert not is_signed_in(stranger)


@pytest.mark.parametrize("path", ["/sign-in/out", "/sign-in/out-everywhere"])
def test_a_forged_post_does_nothing(mailing_app: Flask, mail: MailSink, visitor: FlaskClient, path: str) -> None:
    other = mailing_app.test_client()
    sign_in(mailing_app, mail, other)
    sign_in(mailing_app, mail, visitor)
    foreign = csrf_of(other)
    for form in ({}, {"csrf_token": ""}, {"csrf_token": "junk"}, {"csrf_token": foreign}):
        assert visitor.post(path, data=form).status_code == 400
        assert is_signed_in(visitor)


def test_a_form_token_does_not_outlive_its_session(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        sign_in(mailing_app, mail, visitor)
        old = csrf_of(visitor)
        clock.shift(timedelta(minutes=31))
        assert visitor.post("/sign-in/out", data={"csrf_token": old}).status_code == 303
        sign_in(mailing_app, mail, visitor)
        assert visitor.post("/sign-in/out", data={"csrf_token": old}).status_code == 400


def test_the_sign_in_page_says_that_the_session_ended(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    assert visitor.get("/account/").headers["Location"] == "/sign-in", "who never signed in is told nothing"
    now = datetime.now(UTC)
    with time_machine.travel(now):
        sign_in(mailing_app, mail, visitor)
    with time_machine.travel(now + timedelta(minutes=31)):
        visitor.set_cookie("preferences-session", "what a browser may still hold")
        answer = visitor.get("/account/")
        assert "You were signed out after 30 minutes." in visitor.get(answer.headers["Location"]).text


@pytest.mark.parametrize("path", ["/sign-in/out", "/sign-in/out-everywhere"])
def test_signing_out_needs_a_session(sqlite_app: Flask, path: str) -> None:
    client = sqlite_app.test_client()
    answer = client.post(path)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/sign-in?lapsed=1"
    assert "Your last change was not saved." in client.get(answer.headers["Location"]).text


@pytest.mark.parametrize("site_header", ["cross-site", "same-site"])
def test_another_site_cannot_sign_anybody_in(
    mailing_app: Flask, mail: MailSink, visitor: FlaskClient, site_header: str
) -> None:
    """Else it could have a visitor act as a person of its own choice, and see what they enter."""
    sign_in_id = ask(visitor)
    received = email_to(mailing_app, mail)
    services = services_of(mailing_app)
    hand_off = services.links.sign_hand_off(Ticket(add_contact(services, email(KNOWN)), datetime.now(UTC)))
    headers = {"Sec-Fetch-Site": site_header}
    form, code_path = {"code": received.code}, f"/sign-in/code/{sign_in_id}"
    for path in (code_path, path_of(received.url), f"/sign-in/hand-off/{hand_off}"):
        assert visitor.post(path, data=form, headers=headers).status_code == 400
        assert not is_signed_in(visitor)
    assert arrived(visitor.post(code_path, data=form, headers={"Sec-Fetch-Site": "same-origin"}))


@pytest.mark.parametrize("name", ["next", "url", "return_to", "redirect", "continue"])
def test_no_redirect_leads_to_another_site(mailing_app: Flask, mail: MailSink, visitor: FlaskClient, name: str) -> None:
    evil = "https://evil.example/"
    page = visitor.post(f"/sign-in?{name}={evil}", data={"address": KNOWN, name: evil})
    sign_in_id = re.findall("/sign-in/code/([0-9a-f-]{36})", page.headers["Location"])[0]
    form = {"code": email_to(mailing_app, mail).code, name: evil}
    answer = visitor.post(f"/sign-in/code/{sign_in_id}?{name}={evil}", data=form, headers={"Referer": evil})
    assert answer.headers["Location"] == "/account/"
    assert "evil" not in page.text


def test_a_forged_host_is_in_no_email(mailing_app: Flask, mail: MailSink, visitor: FlaskClient) -> None:
    answer = visitor.post("/sign-in", data={"address": KNOWN}, headers={"Host": "evil.example"})
    assert answer.status_code == 400
    ask(visitor)
    received = email_to(mailing_app, mail)
    assert received.url.startswith("https://preferences.example.test/sign-in/link/")
    assert b"evil" not in received.raw


# In a frame.


@pytest.fixture
def embedding(tmp_path: Path) -> Iterator[Flask]:
    """A site whose owner's pages may show it in a frame."""
    app = new_app(new_sqlite(tmp_path), embed_origins=("https://shop.example.com", "https://www.example.com"))
    yield app
    close(app)


def frames(visitor: FlaskClient, path: str) -> str:
    policy = visitor.get(path).headers["Content-Security-Policy"]
    return policy.partition("frame-ancestors ")[2]


def test_only_account_pages_can_be_framed_by_the_named_origins(embedding: Flask) -> None:
    with embedding.app_context():
        limiter.reset()
    services, visitor = services_of(embedding), embedding.test_client()
    contact_id = add_contact(services)
    token = services.links.sign_hand_off(Ticket(contact_id, datetime.now(UTC)))
    assert frames(visitor, f"/sign-in/hand-off/{token}") == "https://shop.example.com https://www.example.com"
    assert arrived(visitor.post(f"/sign-in/hand-off/{token}"))
    assert frames(visitor, "/account/") == "https://shop.example.com https://www.example.com"
    for path in (
        "/",
        "/optout",
        "/sign-in",
        "/accounting",
        "/sign-in/link/junk",
        manage_link_for(services, contact_id),
    ):
        assert frames(visitor, path) == "'none'", path


def test_by_default_nothing_can_be_framed(sqlite_app: Flask) -> None:
    visitor = sqlite_app.test_client()
    for path in ("/account/", "/sign-in/hand-off/junk", "/sign-in"):
        assert frames(visitor, path) == "'none'"
