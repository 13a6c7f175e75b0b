"""Mails held against the rules: a good one passes, and each bad one fails by its own rule and no other."""

from __future__ import annotations

import smtplib
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage

import dkim
import listunsub
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from preferences.client import put_list_headers
from preferences.domain.terms import MessageClass
from preferences.linting import MOST_BYTES, RULES, Options, Report, Result, lint
from preferences.linting.findings import KeyUnknown
from preferences.linting.signing import BadKey, read_key
from preferences.mail import POLICY, Writing, compose
from preferences.site import site_of
from tests import mails
from tests.mail_sink import MailSink
from tests.support import api_headers

BAD = mails.bad_mails()


def found(report: Report, rule: str) -> Result:
    return next(one.result for one in report.findings if one.rule == rule)


def unproved_key(_name: str) -> bytes | None:
    raise KeyUnknown


def test_a_good_mail_passes_every_rule_that_applies() -> None:
    report = lint(mails.good(), mails.options(address=mails.ADDRESS))
    assert {one.result for one in report.findings} == {Result.PASS, Result.NOT_APPLICABLE}, report
    assert report.result is Result.PASS


def test_every_rule_says_something_of_every_mail() -> None:
    ids = ["M-00", *(rule.id for rule in RULES)]
    for raw in (mails.good(), b"", *(one.raw for one in BAD)):
        findings = lint(raw, mails.options()).findings
        assert [one.rule for one in findings] == ids
        assert all(one.text and one.title and one.source for one in findings)


def test_the_corpus_is_large_and_breaks_every_rule_that_can_fail() -> None:
    assert len(BAD) >= 20
    assert {one.rule for one in BAD} == {f"M-{number:02}" for number in range(1, 11)}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_mail_fails_by_its_rule_alone(bad: mails.Bad) -> None:
    report = lint(bad.raw, mails.options(message_class=bad.message_class))
    assert report.with_result(Result.FAIL) == [bad.rule], report
    assert report.result is Result.FAIL


def test_no_finding_repeats_an_address_or_a_link() -> None:
    for raw in (mails.good(), *(one.raw for one in BAD)):
        said = " ".join(one.text for one in lint(raw, mails.options()).findings)
        assert "@" not in said
        assert mails.TOKEN not in said
        assert "jane" not in said


SEEN_BY_ANOTHER = ("no List-Unsubscribe-Post", "two List-Unsubscribe", "only mailto", "a quoted value")


@pytest.mark.parametrize("bad", [one for one in BAD if one.name in SEEN_BY_ANOTHER], ids=lambda bad: bad.name)
def test_another_program_finds_fault_with_the_same_headers(bad: mails.Bad) -> None:
    """It is more lenient than RFC 8058 with a second URI and with the letters of the value, hence only some of them."""
    message = message_from_bytes(bad.raw, policy=policy.compat32)
    fields = [message.get_all(name) for name in ("List-Unsubscribe", "List-Unsubscribe-Post")]
    assert listunsub.audit(*fields) != []


# Signatures.


def test_a_key_that_cannot_be_looked_up_is_not_told_as_a_bad_signature() -> None:
    for options in (Options(look_up=None), Options(look_up=unproved_key)):
        report = lint(mails.good(), options)
        assert report.with_result(Result.UNCHECKED) == ["M-05"]
        assert report.result is Result.UNCHECKED


def test_a_key_that_is_not_published_fails() -> None:
    asked: list[str] = []
    report = lint(mails.good(), Options(look_up=asked.append))
    assert report.with_result(Result.FAIL) == ["M-05"]
    assert asked == [mails.KEY_NAME]


def test_a_looked_up_key_is_as_good_as_one_at_hand() -> None:
    assert lint(mails.good(), Options(look_up={mails.KEY_NAME: mails.key_pair()[1]}.get)).result is Result.PASS


def test_a_second_signature_may_be_the_one_that_counts() -> None:
    both = mails.sign(mails.good(), domain="platform.example", covers=mails.SIGNED[:5])
    assert found(lint(both, mails.options()), "M-05") is Result.PASS


def test_not_naming_the_fields_twice_is_only_advice() -> None:
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID), twice=False)
    report = lint(raw, mails.options())
    assert report.with_result(Result.WARN) == ["M-05"]
    assert report.result is Result.PASS


def test_a_key_is_read_in_each_form_that_people_have_it_in() -> None:
    record = mails.key_pair()[1]
    body = record.rpartition(b"p=")[2]
    pem = b"-----BEGIN PUBLIC KEY-----\n" + body[:64] + b"\n" + body[64:] + b"\n-----END PUBLIC KEY-----\n"
    zone = b's1._domainkey IN TXT ( "' + record[:100] + b'"\n  "' + record[100:] + b'" )'
    for data in (record, pem, zone):
        assert lint(mails.good(), Options(keys={mails.KEY_NAME: read_key(data)})).result is Result.PASS


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: f"v=DKIM1; p={text}".encode()))
def test_any_key_file_is_a_key_or_a_bad_key(data: bytes) -> None:
    try:
        record = read_key(data)
    except BadKey:
        return
    lint(mails.good(), Options(keys={mails.KEY_NAME: record}))


# Mails that are none.


@given(st.binary(max_size=2_000))
def test_any_bytes_end_in_findings(raw: bytes) -> None:
    assert len(lint(raw, mails.options()).findings) == len(RULES) + 1


PIECES = [
    one.encode() for one in ("From: a@b.c\r\n", mails.UNSUBSCRIBE + "\r\n", mails.POST + "\r\n", "\r\n", "--b\r\n")
]
PIECES += [
    b"DKIM-Signature: v=1; a=rsa-sha256; d=b.c; s=s; h=from; bh=x; b=y\r\n",
    b"Content-Type: text/html; charset=x",
]
PIECES += [
    b"<a href=",
    b"=?utf-8?b?",
    b"\xff\x00",
    b"To: <@>\r\n",
    b"List-Id: <>\r\n",
    b'multipart/mixed; boundary="b"\r\n',
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=30), st.sampled_from(list(MessageClass)))
def test_anything_like_a_mail_ends_in_findings(pieces: list[bytes], kind: MessageClass) -> None:
    options = mails.options(message_class=kind)
    assert len(lint(b"From: a@b.c\r\n" + b"".join(pieces), options).findings) == len(RULES) + 1


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=5))
def test_a_good_mail_with_a_wound_ends_in_findings(place: int, wound: bytes) -> None:
    raw = mails.good()
    at = place % len(raw)
    assert len(lint(raw[:at] + wound + raw[at + len(wound) :], mails.options()).findings) == len(RULES) + 1


def nested(depth: int) -> bytes:
    head = b"From: a@b.c\r\n"
    inner = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (number, number) for number in range(depth)
    )
    return head + inner


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \r\n ",
        b"\x00\xff" * 500,
        b"Hello, world",
        b"Subject: none\r\n\r\n",
        nested(2_000),
        b"x" * (MOST_BYTES + 1),
    ],
    ids=["empty", "blank", "binary", "words", "no From", "deep", "huge"],
)
def test_what_is_no_mail_fails_as_such(raw: bytes) -> None:
    assert lint(raw, mails.options()).with_result(Result.FAIL) == ["M-00"]


def test_line_ends_do_not_matter() -> None:
    raw = mails.good().replace(b"\r\n", b"\n")
    assert lint(raw, mails.options()).result is Result.PASS
    assert lint(b"From MAILER Wed Nov 25\n" + raw, mails.options()).result is Result.PASS


# The postal address.


def test_the_address_given_is_looked_for_whatever_its_line_breaks() -> None:
    options = mails.options(address="12 Harbour Lane\nPortland\nME 04101")
    assert found(lint(mails.good(), options), "M-10") is Result.PASS
    options = mails.options(address="1 Other Street")
    assert lint(mails.good(), options).with_result(Result.FAIL) == ["M-10"]


# Our own.


def test_our_own_letters_pass_as_transactional() -> None:
    writing = Writing(subject="Your link", text="Here: https://x.example/p/1", html="<p>Here</p>", language="en")
    sender = Mailbox("Maple", "hello", "shop.example")
    letter = compose(writing, sender=sender, recipient="jane@x.example", host="x.example", now=datetime.now(UTC))
    report = lint(letter.as_bytes(policy=POLICY), Options(message_class=MessageClass.TRANSACTIONAL))
    assert report.with_result(Result.WARN) == report.with_result(Result.FAIL) == []


def test_promotion_in_a_transactional_mail_is_a_warning() -> None:
    raw = mails.mail("Auto-Submitted: auto-generated", text="Save 20% off your next order.", html=None)
    report = lint(raw, Options(message_class=MessageClass.TRANSACTIONAL))
    assert report.with_result(Result.WARN) == ["M-14"]


def test_a_mail_made_with_the_helper_and_signed_passes_three_judges(sqlite_app: Flask, mail: MailSink) -> None:
    client: FlaskClient = sqlite_app.test_client()
    asked = {"channel": "email", "topic": "product-news", "addresses": ["jane.doe@example.com"]}
    answer = client.post("/api/v1/links", json=asked, headers=api_headers(site_of(sqlite_app)))
    assert answer.json is not None
    (links,) = answer.json["links"]
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "news@shop.example", "jane.doe@example.com", "New tables"
    put_list_headers(message, links["headers"])
    message.set_content(mails.TEXT.replace(mails.URL, links["unsubscribe_url"]))
    message.add_alternative(mails.HTML.replace(mails.URL, links["unsubscribe_url"]), subtype="html")
    signed = mails.sign(message.as_bytes(policy=policy.SMTP))
    with smtplib.SMTP("127.0.0.1", mail.port) as server:
        server.sendmail("news@shop.example", ["jane.doe@example.com"], signed)

    raw = mail.to("jane.doe@example.com")[0].raw

    assert dkim.verify(raw, dnsfunc=lambda *_, **__: mails.key_pair()[1])
    read = message_from_bytes(raw, policy=policy.default)
    fields = [read.get_all(name) for name in ("List-Unsubscribe", "List-Unsubscribe-Post")]
    assert listunsub.audit(*fields, dkim_signatures=read.get_all("DKIM-Signature")) == []
    report = lint(raw, mails.options(address=mails.ADDRESS))
    assert report.result is Result.PASS, report
    assert set(report.with_result(Result.WARN)) == {"M-02", "M-08"}  # no mailto, and its List-Id has the site's domain
