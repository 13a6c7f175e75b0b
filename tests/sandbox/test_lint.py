"""The demo's mails against the rules of `flask lint-eml`: signed, and right but for being on this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask

from preferences.checks.lint import Options, Result, lint
from preferences.checks.lint.signing import read_key
from preferences.current import services_of
from preferences.domain.vocabulary import MessageClass
from sandbox import demo
from sandbox.client import Links
from sandbox.config import Person
from sandbox.mailer import KEY_NAME, LETTERS, POSTAL_ADDRESS, compose, sign
from tests.mail_sink import MailSink
from tests.support import add_contact, email, send_emails

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)
URL = "http://127.0.0.1:8000/u/AaIrREbacJKHde7MFmRQkwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.g3NBSrtehofXUyRxNo8CnvBp"
HEADERS = {
    "List-Unsubscribe": f"<{URL}>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "List-Id": "<product-news.default.list-id.127.0.0.1>",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's key, made as `make run` makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("demo"))
        demo.INSTANCE.mkdir()
        demo._make_dkim_key()
        assert demo.DKIM_KEY_FILE.stat().st_mode & 0o777 == 0o600
        return demo.DKIM_KEY_FILE.resolve()


def options(key: Path, kind: str, *, local: bool = True) -> Options:
    keys = {KEY_NAME: read_key(key.with_suffix(".pub").read_bytes())}
    return Options(message_class=MessageClass(kind), keys=keys, address=POSTAL_ADDRESS, local=local)


@pytest.mark.parametrize("topic", LETTERS)
def test_each_mail_of_the_demo_passes(key: Path, topic: str) -> None:
    letter = LETTERS[topic]
    links = Links("ada@example.com", URL, f"{URL}/p", headers=HEADERS) if letter.is_marketing else None
    raw = compose(letter, Person("Zoë Brook", "ada@example.com"), links, number=3, now=NOW)
    report = lint(sign(raw, key.read_bytes()), options(key, letter.message_class))
    assert report.with_result(Result.FAIL) == report.with_result(Result.UNCHECKED) == []
    assert lint(raw, options(key, letter.message_class)).with_result(Result.FAIL) == (
        ["M-05"] if letter.is_marketing else []
    )


@pytest.mark.parametrize("url", [URL, URL.replace("127.0.0.1", "preferences.example.com")])
def test_a_link_over_http_passes_only_on_this_machine_with_local(key: Path, url: str) -> None:
    letter = LETTERS["product-news"]
    links = Links("ada@example.com", url, url, headers=HEADERS | {"List-Unsubscribe": f"<{url}>"})
    raw = sign(compose(letter, Person("Ada", "ada@example.com"), links, number=3, now=NOW), key.read_bytes())
    for local in (False, True):
        failed = lint(raw, options(key, "marketing", local=local)).with_result(Result.FAIL)
        assert failed == ([] if local and url == URL else ["M-02"])


def test_our_own_letters_pass_as_transactional_mail(mailing_app: Flask, mail: MailSink, key: Path) -> None:
    add_contact(services_of(mailing_app), email("ada@example.com"))
    mailing_app.test_client().post("/link", data={"address": "ada@example.com"})
    send_emails(services_of(mailing_app))
    (sent,) = mail.messages
    plain = Options(message_class=MessageClass.TRANSACTIONAL)
    assert lint(sent.raw, plain).with_result(Result.FAIL) == []
