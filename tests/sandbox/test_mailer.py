"""What the company sends, byte by byte, and to whom; what a mail program does with it."""

from __future__ import annotations

import logging
import re
import smtplib
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

import listunsub
import pytest

from sandbox.app import SandboxServer
from sandbox.client import Links
from sandbox.config import Person
from sandbox.mailer import LETTERS, POSTAL_ADDRESS, BadHeader, compose
from sandbox.smtp import LARGEST_MESSAGE, SmtpServer
from tests.sandbox.conftest import Client, config_for
from tests.sandbox.stub import PUBLIC_URL, StubCenter
from tests.servers import free_port

ADA = "ada@example.com"
BEN = "ben@example.org"
ZOE = Person("Zoë Łukasik", "zoe@example.net")
NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)
TOKEN = "Tk-_" * 40
URL = f"{PUBLIC_URL}/u/{TOKEN}"
MANAGE_URL = f"{PUBLIC_URL}/p/{TOKEN}"
HEADERS = {
    "List-Unsubscribe": f"<{URL}>, <mailto:leave@preferences.example.com?subject={TOKEN}>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "List-Id": "Product news <product-news.default.list-id.preferences.example.com>",
}


def links(headers: dict[str, str] | None = None) -> Links:
    return Links(ADA, URL, MANAGE_URL, headers=HEADERS if headers is None else headers)


def newsletter(person: Person | None = None, headers: dict[str, str] | None = None) -> bytes:
    return compose(LETTERS["product-news"], person or Person("Ada Brook", ADA), links(headers), number=3, now=NOW)


def receipt(with_links: Links | None) -> bytes:
    return compose(LETTERS["receipts"], Person("Ada Brook", ADA), with_links, number=3, now=NOW)


def header_lines(raw: bytes) -> list[bytes]:
    return raw.partition(b"\r\n\r\n")[0].split(b"\r\n")


def parsed(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=SMTP)


def part(raw: bytes, subtype: str) -> str:
    body = parsed(raw).get_body((subtype,))
    assert body is not None
    return str(body.get_content())


class TestMarketingMail:
    def test_list_headers_are_one_raw_line_each(self) -> None:
        """M-01 to M-04: a 160-character token stays as it is."""
        lines = header_lines(newsletter())
        for name, value in HEADERS.items():
            assert [line for line in lines if line.startswith(f"{name}:".encode())] == [f"{name}: {value}".encode()]

    def test_nothing_is_encoded_or_folded(self) -> None:
        head = newsletter().partition(b"\r\n\r\n")[0]
        assert b"=?" not in head
        assert not re.search(rb"\r\n[ \t]", head)
        assert head.isascii()

    def test_second_opinion(self) -> None:
        message = parsed(newsletter())
        found = listunsub.audit(message.get_all("List-Unsubscribe"), message.get_all("List-Unsubscribe-Post"))
        assert found == []
        assert listunsub.parse(message["List-Unsubscribe"])[0] == URL

    def test_lines_are_of_lawful_length(self) -> None:
        for person in (None, ZOE):
            raw = newsletter(person)
            assert raw.replace(b"\r\n", b"").count(b"\n") == 0
            assert max(map(len, raw.split(b"\r\n"))) <= 998

    def test_both_parts_show_the_same_link(self) -> None:
        """M-09: visible, in text and HTML, not an image."""
        raw = newsletter()
        assert URL in part(raw, "plain").splitlines()
        assert f'<a href="{URL}">Unsubscribe</a>' in part(raw, "html")
        for subtype in ("plain", "html"):
            assert MANAGE_URL in part(raw, subtype)
        assert "<img" not in part(raw, "html")

    def test_postal_address_stands_in_both_parts(self) -> None:
        """M-10."""
        assert POSTAL_ADDRESS in part(newsletter(), "plain")
        assert POSTAL_ADDRESS in part(newsletter(), "html")

    @pytest.mark.parametrize(
        "value",
        [f"<{PUBLIC_URL}/u/{'t' * 998}>", "<https://exämple.com/u/t>"],
        ids=["too long", "not ASCII"],
    )
    def test_header_that_would_not_arrive_is_refused(self, value: str) -> None:
        with pytest.raises(BadHeader):
            newsletter(headers=HEADERS | {"List-Unsubscribe": value})

    def test_header_cannot_bring_another(self) -> None:
        with pytest.raises(ValueError, match="linefeed"):
            newsletter(headers=HEADERS | {"List-Unsubscribe": f"<{URL}>\r\nBcc: x@example.com"})

    def test_name_with_letters_beyond_ascii(self) -> None:
        raw = newsletter(ZOE)
        assert f"List-Unsubscribe: {HEADERS['List-Unsubscribe']}".encode() in header_lines(raw)
        assert parsed(raw)["To"].addresses[0].display_name == ZOE.name
        assert "Hello Zoë," in part(raw, "plain")
        assert URL in part(raw, "plain").splitlines()
        assert "Hello Zoë," in part(raw, "html")
        encoded = raw.partition(b"quoted-printable")[2].split(b"\r\n\r\n--")[0]
        assert max(map(len, encoded.split(b"\r\n"))) <= 76  # RFC 2045 section 6.7


class TestReceipt:
    def test_has_no_list_headers_and_another_sender(self) -> None:
        """M-07."""
        raw = receipt(Links(ADA, None, MANAGE_URL, headers={}))
        assert b"list-" not in b"\r\n".join(header_lines(raw)).lower()
        assert parsed(raw)["Auto-Submitted"] == "auto-generated"
        assert parsed(raw)["From"] != parsed(newsletter())["From"]
        assert "nsubscribe" not in part(raw, "plain") + part(raw, "html")

    def test_goes_without_links(self) -> None:
        assert POSTAL_ADDRESS in part(receipt(None), "plain")


class TestSending:
    def test_asks_first_and_says_whom_it_left_out(self, sandbox: Client, center: StubCenter) -> None:
        center.said_no.add(ADA)
        answer = sandbox.post("/api/send", topic="product-news")
        assert answer["sent"] == [BEN, ZOE.address]
        assert answer["skipped"] == [{"address": ADA, "reason": "unsubscribed"}]
        assert {mail["address"] for mail in sandbox.get("/api/mails")["mails"]} == {BEN, ZOE.address}

    def test_to_some(self, sandbox: Client) -> None:
        assert sandbox.post("/api/send", topic="offers", addresses=[BEN, "stranger@example.com"])["sent"] == [BEN]

    def test_receipt_reaches_who_opted_out(self, sandbox: Client, center: StubCenter) -> None:
        center.said_no.add(ADA)
        assert ADA in sandbox.post("/api/send", topic="receipts")["sent"]

    def test_without_an_answer_marketing_stays_and_receipts_go(self, sandbox: Client, center: StubCenter) -> None:
        center.broken = True
        newsletter = sandbox.post("/api/send", topic="product-news")
        assert newsletter["sent"] == []
        assert {skip["reason"] for skip in newsletter["skipped"]} == {
            "no answer from the preference center (status 503)"
        }
        assert len(sandbox.post("/api/send", topic="receipts")["sent"]) == 3

    def test_half_an_answer_is_none(self, sandbox: Client, center: StubCenter) -> None:
        center.forgets.add(BEN)
        assert sandbox.post("/api/send", topic="product-news")["sent"] == []

    def test_wrong_key_sends_no_marketing(self, center: StubCenter) -> None:
        with SandboxServer(config_for(center.url, preferences_api_key="wrong"), free_port()) as server:
            answer = Client(server).post("/api/send", topic="product-news")
        assert answer["skipped"][0]["reason"] == "no answer from the preference center (status 401)"

    def test_first_newsletter_is_sent_once(self, center: StubCenter) -> None:
        config = config_for(center.url, first_newsletter="product-news")
        with SandboxServer(config, free_port()) as server:
            server.sandbox.send_first_newsletter()
            server.sandbox.send_first_newsletter()
            assert len(Client(server).get("/api/mails")["mails"]) == 3


class TestMailProgram:
    def send(self, sandbox: Client, topic: str = "product-news") -> int:
        sandbox.post("/api/send", topic=topic, addresses=[ADA])
        return int(sandbox.get("/api/mails")["mails"][0]["id"])

    def test_one_click_is_what_rfc_8058_asks(self, sandbox: Client, center: StubCenter) -> None:
        mail_id = self.send(sandbox)
        answer = sandbox.post(f"/api/mails/{mail_id}/one-click")
        assert (answer["status"], answer["text"], answer["is_right"]) == (200, "x You're out", True)
        (click,) = center.clicks
        assert click["body"] == b"List-Unsubscribe=One-Click"
        assert click["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
        assert not {"Cookie", "Referer", "Authorization"} & set(click["headers"])

    @pytest.mark.parametrize(
        "answer",
        [("", 302, {"Location": "/"}), ("", 200, {"Set-Cookie": "a=b"}), ("", 500, {})],
        ids=["redirect", "cookie", "error"],
    )
    def test_wrong_answers_are_told(
        self, sandbox: Client, center: StubCenter, answer: tuple[str, int, dict[str, str]]
    ) -> None:
        center.click_answer = answer
        shown = sandbox.post(f"/api/mails/{self.send(sandbox)}/one-click")
        assert (shown["status"], shown["is_right"]) == (answer[1], False)
        assert len(center.clicks) == 1  # no redirect is followed

    def test_receipt_offers_none(self, sandbox: Client) -> None:
        mail_id = self.send(sandbox, "receipts")
        assert sandbox.get("/api/mails")["mails"][0]["one_click_url"] is None
        with pytest.raises(AssertionError, match="no one-click"):
            sandbox.post(f"/api/mails/{mail_id}/one-click")

    def test_shows_links_headers_and_source(self, sandbox: Client, center: StubCenter) -> None:
        mail_id = self.send(sandbox)
        (mail,) = sandbox.get("/api/mails?address=ada@example.com")["mails"]
        assert mail["one_click_url"] == mail["links"][0]
        assert mail["links"][1].startswith(f"{center.url}/p/")
        assert mail["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert mail["id"] == mail_id


class TestSmtp:
    """The preference center's own letters arrive here."""

    def letter(self, text: str = ".\n..dots\n") -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.com", f"{ADA}, {BEN}", "Your link"
        message.set_content(text)
        return message

    def test_delivers_to_each_recipient(self, center: StubCenter) -> None:
        port = free_port()
        with SandboxServer(config_for(center.url), free_port(), port) as server:
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
                smtp.send_message(self.letter())
                smtp.send_message(self.letter("again\n"), to_addrs=[ADA])
            mails = server.sandbox.mailbox.mails()
        assert [(mail.address, mail.subject) for mail in mails] == [
            (ADA, "Your link"),
            (BEN, "Your link"),
            (ADA, "Your link"),
        ]
        assert mails[1].text.splitlines() == [".", "..dots"]

    def test_a_message_without_recipients_or_too_large_is_refused(self, center: StubCenter) -> None:
        port = free_port()
        with SandboxServer(config_for(center.url), free_port(), port) as server:
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
                smtp.ehlo()
                assert smtp.docmd("DATA")[0] == 503
                with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                    smtp.sendmail("a@example.com", [ADA], b"x\r\n" * (LARGEST_MESSAGE // 3 + 1))
                assert refused.value.smtp_code == 552
            assert server.sandbox.mailbox.mails() == []

    def test_the_log_names_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        port, received = free_port(), list[str]()
        server = SmtpServer(port, lambda recipient, _message: received.append(recipient))
        server.start()
        try:
            with caplog.at_level(logging.INFO), smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
                smtp.sendmail("hello@example.com", [ADA], b"Subject: Hello\r\n\r\nHello\r\n")
        finally:
            server.stop()
        assert received == [ADA]
        assert "@" not in caplog.text

    def test_a_message_that_cannot_be_stored_is_not_accepted(self, center: StubCenter) -> None:
        port = free_port()

        def full(_address: str, _message: bytes) -> None:
            raise OSError("disk full")

        server = SmtpServer(port, full)
        server.start()
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp, pytest.raises(smtplib.SMTPDataError):
                smtp.send_message(self.letter())
        finally:
            server.stop()
