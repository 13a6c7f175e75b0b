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

from preferences.checks.lint import MOST_BYTES, RULES, Options, Report, Result, lint
from preferences.checks.lint.findings import KeyUnknown
from preferences.checks.lint.signing import BadKey, read_key
from preferences.client import put_list_headers
from preferences.current import services_of
from preferences.domain.vocabulary import MessageClass
from preferences.mail.message import Content, build
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


# How it is signed, and when.

UNSIGNED = mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID)
ED25519 = Options(keys={mails.KEY_NAME: mails.ED25519_RECORD})
WRITTEN = 1_795_590_000
"""The Date of those mails."""


def test_a_signature_of_ed25519_is_verified() -> None:
    raw = mails.sign(UNSIGNED, algorithm="ed25519-sha256")
    assert found(lint(raw, ED25519), "M-05") is Result.PASS
    changed = raw.replace(b"new tables have come", b"new tables are gone!")
    assert found(lint(changed, ED25519), "M-05") is Result.FAIL
    broken = raw.replace(b"b=", b"b=AAAA", 1)
    assert found(lint(broken, ED25519), "M-05") is Result.FAIL


@pytest.mark.parametrize(
    "record",
    [
        *(b"v=DKIM1; k=ed25519; p=", b"v=DKIM1; k=ed25519; p=AAAA", b"v=DKIM1; k=ed25519", b"k=rsa; p=AAAA", b"x"),
        b"v=DKIM1; k=ed25519; p=" + b"A" * 43 + b"=",
        b"v=DKIM2; " + mails.ED25519_RECORD[9:],
        mails.key_pair()[1],
    ],
)
def test_a_signature_of_ed25519_holds_by_its_own_key_alone(record: bytes) -> None:
    raw = mails.sign(UNSIGNED, algorithm="ed25519-sha256")
    assert found(lint(raw, Options(keys={mails.KEY_NAME: record})), "M-05") is Result.FAIL
    assert found(lint(mails.good(), ED25519), "M-05") is Result.FAIL


def test_a_key_of_ed25519_is_read_from_pem() -> None:
    pem = (
        b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
        b"-----END PUBLIC KEY-----\n"
    )
    assert read_key(pem) == mails.ED25519_RECORD


RSA, ED = mails.key_pair()[1], mails.ED25519_RECORD
BELOW = (b"i", b"news@sub.shop.example")


@pytest.mark.parametrize(
    ("record", "identity", "result"),
    [
        (RSA.replace(b"k=", b"h=sha1; k="), None, Result.FAIL),
        (RSA.replace(b"k=", b"h=sha1 : SHA256; k="), None, Result.PASS),
        (RSA.replace(b"k=", b"t=s; k="), BELOW, Result.FAIL),
        (RSA.replace(b"k=", b"t=x:s; k="), BELOW, Result.FAIL),
        (RSA.replace(b"k=", b"t=s; k="), (b"i", b"News@Shop.Example"), Result.PASS),
        (RSA.replace(b"k=", b"t=s; k="), None, Result.PASS),
        (RSA, BELOW, Result.PASS),
        (b"k=rsa; v=DKIM1; " + RSA.partition(b"k=rsa; ")[2], None, Result.FAIL),
        (RSA.removeprefix(b"v=DKIM1; "), None, Result.PASS),
        (ED.replace(b"k=", b"h=sha1; k="), None, Result.FAIL),
        (ED.replace(b"k=", b"t=s; k="), BELOW, Result.FAIL),
        (b"k=ed25519; v=DKIM1; " + ED.partition(b"k=ed25519; ")[2], None, Result.FAIL),
        (ED, BELOW, Result.PASS),
    ],
)
def test_a_key_that_receivers_must_not_use_fails_though_the_signature_holds(
    record: bytes, identity: tuple[bytes, bytes] | None, result: Result
) -> None:
    algorithm = "ed25519-sha256" if b"ed25519" in record else "rsa-sha256"
    raw = mails.sign(UNSIGNED, algorithm=algorithm, fields=[identity] if identity else [])
    assert found(lint(raw, Options(keys={mails.KEY_NAME: record})), "M-05") is result


def test_a_signature_of_rsa_sha1_counts_for_nothing_though_it_would_hold() -> None:
    raw = mails.sign(UNSIGNED, algorithm="rsa-sha1")
    assert dkim.verify(raw, dnsfunc=lambda *_, **__: mails.key_pair()[1])
    report = lint(raw, mails.options())
    assert report.with_result(Result.FAIL) == ["M-05"]
    assert "rsa-sha1" in next(finding.text for finding in report.findings if finding.rule == "M-05")
    both = mails.sign(raw)
    assert found(lint(both, mails.options()), "M-05") is Result.PASS


def expiring(at: int, received: str = "", *, signed: int = WRITTEN) -> bytes:
    raw = mails.sign(UNSIGNED, fields=[(b"t", str(signed).encode()), (b"x", str(at).encode())])
    return received.encode() + raw


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (expiring(WRITTEN + 3_600), Result.PASS),
        (expiring(1_000_000_000, signed=999_999_999), Result.FAIL),
        (expiring(WRITTEN + 3_600, "Received: from a by b; Wed, 25 Nov 2026 07:00:05 +0000\r\n"), Result.PASS),
        (expiring(WRITTEN + 3_600, "Received: from a by b; Fri, 27 Nov 2026 07:00:05 +0000\r\n"), Result.FAIL),
        (expiring(WRITTEN + 3_600, "Received: from a by b; Wed, 25 Nov 2020 07:00:05 +0000\r\n"), Result.FAIL),
        (expiring(WRITTEN - 3_600), Result.FAIL),
        (expiring(WRITTEN), Result.FAIL),
    ],
    ids=["long ago", "expired before it was written", "in time", "late", "signed later", "x before t", "x is t"],
)
def test_a_signature_is_judged_as_of_when_the_mail_was_received(raw: bytes, result: Result) -> None:
    assert found(lint(raw, mails.options()), "M-05") is result


def test_an_old_mail_is_not_told_as_expired() -> None:
    old = UNSIGNED.replace(b"Date: Wed, 25 Nov 2026 07:00:00", b"Date: Mon, 1 Jun 2020 07:00:00")
    raw = mails.sign(old, fields=[(b"t", b"1590994800"), (b"x", b"1591599600")])
    assert not dkim.verify(raw, dnsfunc=lambda *_, **__: mails.key_pair()[1])  # by today's clock
    assert found(lint(raw, mails.options()), "M-05") is Result.PASS


# Who it is from.


@pytest.mark.parametrize("author", ["Acme, Inc. <news@shop.example>", "Shop, The <news@shop.example>"])
def test_a_comma_outside_quotes_in_from_is_named_as_such(author: str) -> None:
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, author=author))
    report = lint(raw, mails.options())
    assert report.with_result(Result.FAIL) == ["M-00"]
    assert "comma that is not in quotes" in report.findings[0].text
    assert "shop.example" not in report.findings[0].text


@pytest.mark.parametrize(
    "author",
    ['"Acme, Inc." <news@shop.example>', "Acme (books, tables) <news@shop.example>", "news@shop.example"],
)
def test_a_comma_in_quotes_or_in_a_comment_is_fine(author: str) -> None:
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, author=author))
    assert lint(raw, mails.options()).with_result(Result.FAIL) == []


@pytest.mark.parametrize("author", ["a@shop.example, b@shop.example", "A <a@shop.example>, B <b@shop.example>", "Acme"])
def test_a_mail_is_from_one_address(author: str) -> None:
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, author=author))
    assert "M-00" in lint(raw, mails.options()).with_result(Result.FAIL)


# Links.


@pytest.mark.parametrize(
    "token",
    [
        *("q3Jk9sVx2L%2BTz8RbYw5%2FcEoPhUaG%3D%3D", "%71%33Jk9sVx2LmTz8RbYw5NcEo", "q3Jk9sVx2L%252BTz8RbYw5NcEoPh"),
        *("q3Jk%40s%2BVx2LmTz8RbYw5NcEoP%2Fh", "%7Bq3Jk9sVx2LmTz8RbYw5NcEo%7D"),
    ],
)
def test_a_token_that_is_percent_encoded_is_as_long_as_it_is(token: str) -> None:
    raw = mails.with_url(f"https://mail.shop.example/u/{token}")
    assert found(lint(raw, mails.options()), "M-06") is Result.PASS


@pytest.mark.parametrize("part", ["jane.doe%40example.com", "jane.doe%2540example.com", "u/1234", "%31%32%33%34"])
def test_an_address_or_a_number_is_found_however_it_is_encoded(part: str) -> None:
    raw = mails.with_url(f"https://mail.shop.example/{part}")
    assert found(lint(raw, mails.options()), "M-06") is Result.FAIL


@pytest.mark.parametrize(
    "words",
    [
        *("配信停止", "退订", "수신거부", "Отписаться", "Wypisz się", "Avregistrera dig", "Uitschrijven", "Odhlásit"),
        *("Leiratkozás", "Abonelikten çık", "Διαγραφή", "להסרה מרשימת התפוצה", "إلغاء الاشتراك", "लिङ्क", "Cliquez ici"),
    ],
)
def test_the_way_out_is_seen_in_any_language(words: str) -> None:
    other = "https://mail.shop.example/u/Zx81kQm4Tn6VbYc2LsPdGhRf"
    text = f"…\n\n{words}: {other}\n\nMaple, {mails.ADDRESS}\n"
    html = f'<p>…</p><p><a href="{other}">{words}</a></p><p>Maple, {mails.ADDRESS}</p>\n'
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, text=text, html=html))
    assert found(lint(raw, mails.options()), "M-09") is Result.PASS


@pytest.mark.parametrize("words", ["配信停止", "退订", "수신거부", "Отписаться", "Uitschrijven", "إلغاء الاشتراك"])
def test_words_that_say_so_are_enough(words: str) -> None:
    other = "https://mail.shop.example/centre"
    text = f"…\n\n{words}: {other}\n\nMaple, {mails.ADDRESS}\n"
    html = f'<p>…</p><p><a href="{other}">{words}</a></p><p>Maple, {mails.ADDRESS}</p>\n'
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, text=text, html=html))
    assert found(lint(raw, mails.options()), "M-09") is Result.PASS


def test_a_link_to_something_else_is_no_way_out() -> None:
    text, html = (part.replace(mails.URL, "https://shop.example/tables") for part in (mails.TEXT, mails.HTML))
    text, html = (part.replace("Unsubscribe", "Tische") for part in (text, html))
    raw = mails.sign(mails.mail(mails.UNSUBSCRIBE, mails.POST, mails.LIST_ID, text=text, html=html))
    assert found(lint(raw, mails.options()), "M-09") is Result.FAIL


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
    content = Content(subject="Your link", text="Here: https://x.example/p/1", html="<p>Here</p>", language="en")
    sender = Mailbox("Maple", "hello", "shop.example")
    message = build(
        content, sender=sender, recipient="jane@x.example", message_id="<1@x.example>", now=datetime.now(UTC)
    )
    report = lint(message.content, Options(message_class=MessageClass.TRANSACTIONAL))
    assert report.with_result(Result.WARN) == report.with_result(Result.FAIL) == []


def test_promotion_in_a_transactional_mail_is_a_warning() -> None:
    raw = mails.mail("Auto-Submitted: auto-generated", text="Save 20% off your next order.", html=None)
    report = lint(raw, Options(message_class=MessageClass.TRANSACTIONAL))
    assert report.with_result(Result.WARN) == ["M-14"]


def test_a_mail_made_with_the_helper_and_signed_passes_three_judges(sqlite_app: Flask, mail: MailSink) -> None:
    client: FlaskClient = sqlite_app.test_client()
    asked = {"channel": "email", "topic": "product-news", "addresses": ["jane.doe@example.com"]}
    answer = client.post("/api/v1/links", json=asked, headers=api_headers(services_of(sqlite_app)))
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
