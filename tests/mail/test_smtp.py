"""The SMTP client and the bytes of a message: header fields, encodings, TLS, refusals and failures."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from preferences.domain.errors import Rejected, TryLater
from preferences.mail.message import POLICY, Content, Message, build, serialise
from preferences.mail.smtp import MailServer, ServerAway
from tests.mail_sink import MailSink, Received
from tests.servers import free_port

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
HELLO = "hello@maple-and-finch.example"
JANE = "jane.doe@example.com"
ARABIC = "يرجى التأكيد: هل تريد بريدنا الإلكتروني الذي نكتب فيه عن كل جديد في المتجر؟"
LONG_URL = "https://preferences.example.test/" + "a" * 267


def built(
    name: str = "Maple & Finch", subject: str = "Your link", text: str = "Hello.", recipient: str = JANE
) -> Message:
    content = Content(subject=subject, text=f"{text}\n", html=f"<p>{text}</p>\n", language="en")
    sender = Mailbox(display_name=name, addr_spec=HELLO)
    message_id = "<1@preferences.example.test>"
    return build(content, sender=sender, recipient=recipient, message_id=message_id, now=NOW)


def sent(mail: MailSink, message: Message) -> Received:
    MailServer(mail.url).send(message)
    return mail.messages[-1]


def lines_of(text: str) -> list[str]:
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def header(received: Received, name: str) -> str:
    """A header as it stands on the wire, unfolded."""
    head = received.raw.partition(b"\r\n\r\n")[0].decode("ascii").replace("\r\n ", " ")
    (value,) = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith(f"{name.lower()}:")]
    return value


def test_an_automatic_email_says_so_and_has_each_header_once(mail: MailSink) -> None:
    received = sent(mail, built())
    names = [name.lower() for name in received.message]
    for name in ("from", "to", "subject", "date", "message-id", "auto-submitted", "content-language", "mime-version"):
        assert names.count(name) == 1, name
    assert not [name for name in names if name.startswith("list-")], "it is no list's mail"
    assert received.message["Auto-Submitted"] == "auto-generated"
    assert received.message["Date"].datetime == NOW
    assert header(received, "Message-ID").endswith("@preferences.example.test>")
    assert received.sender == HELLO
    assert received.recipients == [JANE]


@pytest.mark.parametrize(
    "words",
    [
        ARABIC,
        "Bitte bestätigen Sie: Möchten Sie unsere E-Mails über Neues für Ihre Küche, Bad und Garten erhalten?",
        "Maple & Finch",
        'Finch, Maple (and Sons) "the shop"; <b>',
        'A name of eighty and more letters, which has commas, and quotes "here", and has to be folded somewhere',
    ],
)
def test_names_and_subjects_in_any_script_arrive_unchanged(mail: MailSink, words: str) -> None:
    received = sent(mail, built(name=words, subject=words))

    assert received.message["Subject"] == words
    assert received.message["From"].addresses[0].addr_spec == HELLO
    assert len(received.message["From"].addresses) == 1
    # By the older reader: the newer one puts a space between two encoded words of a name, as no mail program does.
    name = header(received, "From").rpartition(" <")[0]
    plain = name.strip('"').replace('\\"', '"') if name.startswith('"') else name
    assert str(make_header(decode_header(plain))) == words
    assert received.raw.isascii()
    for line in received.raw.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert len(line) <= 998
        assert all(len(word) <= 75 for word in line.split() if word.startswith(b"=?")), "RFC 2047 §2"


def test_a_long_url_in_a_list_header_is_not_folded(mail: MailSink) -> None:
    """RFC 2047 §5 allows no encoded words there, and one folded inside its brackets is read by nobody."""
    message = EmailMessage(policy=POLICY)
    message["From"] = HELLO
    message["To"] = JANE
    message["Subject"] = "News"
    message["List-Unsubscribe"] = f"<{LONG_URL}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["List-ID"] = f"News <{'product-news.' * 8}maple-and-finch.example>"
    message.set_content("News.\n")

    received = sent(mail, serialise(message))

    assert len(LONG_URL) == 300
    assert f"\r\nList-Unsubscribe: <{LONG_URL}>\r\n".encode("ascii") in received.raw
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in received.raw
    assert f"\r\nList-ID: News <{'product-news.' * 8}maple-and-finch.example>\r\n".encode("ascii") in received.raw
    assert b"=?" not in received.raw


@pytest.mark.parametrize(
    "text", ["a" * 3000, "ä" * 3000, f"See {LONG_URL}", "From now on", "..", "A line\n.\nafter a dot"]
)
def test_a_text_arrives_complete_in_lines_of_at_most_998(mail: MailSink, text: str) -> None:
    received = sent(mail, built(text=text))
    assert max(len(line) for line in received.raw.split(b"\r\n")) <= 998
    assert lines_of(received.text) == text.split("\n")
    assert text in received.html.replace("\r\n", "\n")


@pytest.mark.parametrize(
    "broken", ["Maple\r\nBcc: victim@example.org", "Maple\nBcc: victim@example.org", "Maple\rX: y"]
)
def test_no_name_address_or_subject_adds_a_header(mail: MailSink, broken: str) -> None:
    with pytest.raises(ValueError, match="CR or LF"):
        built(name=broken)
    with pytest.raises(ValueError, match="CR or LF"):
        built(recipient=f"{broken}@example.com")

    received = sent(mail, built(subject=broken))

    assert received.message["Subject"] == " ".join(broken.split())
    assert {"Bcc", "X"}.isdisjoint(received.message)
    assert received.recipients == [JANE]


@pytest.mark.parametrize("recipient", ["o'brien+news@example.com", "a/b={c}@example.com", "x" * 60 + "@example.com"])
def test_unusual_addresses_reach_their_mailbox(mail: MailSink, recipient: str) -> None:
    received = sent(mail, built(recipient=recipient))
    assert received.recipients == [recipient]
    assert received.message["To"].addresses[0].addr_spec == recipient


def test_a_non_ascii_address_is_sent_to_with_smtputf8(mail: MailSink) -> None:
    received = sent(mail, built(recipient="jörg@xn--bcher-kva.example"))
    assert received.recipients == ["jörg@xn--bcher-kva.example"]


def test_without_smtputf8_only_a_non_ascii_address_is_refused() -> None:
    with Latin() as sink:
        server = MailServer(sink.url)
        with pytest.raises(Rejected) as refusal:
            server.send(built(recipient="jörg@example.com"))
        server.send(built())
    assert "jörg" not in str(refusal.value)
    assert [message.recipients for message in sink.messages] == [[JANE]]


# A mail server that refuses, waits, or is not there.


@dataclass
class Moody(MailSink):
    """A mail server that answers as it is told to."""

    to_recipient: str = "250 OK"
    to_message: str = "250 kept"
    to_goodbye: str = "221 bye"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.to_recipient.format(address=address)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.to_message.startswith("2"):
            await super().handle_DATA(server, session, envelope)
        return self.to_message

    async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802
        return self.to_goodbye


@dataclass
class Latin(MailSink):
    """A mail server of the old kind, without SMTPUTF8."""

    def __enter__(self) -> Self:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=False)
        self._controller.start()
        return self


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"to_recipient": "550 no such mailbox: {address}"}, Rejected),
        ({"to_recipient": "450 greylisted: {address}"}, TryLater),
        ({"to_message": "554 5.7.1 looks like spam to jane.doe@example.com"}, Rejected),
        ({"to_message": "451 try again"}, TryLater),
    ],
)
def test_a_refusal_is_permanent_or_temporary_and_quotes_nothing(
    answers: dict[str, Any], error: type[Exception]
) -> None:
    with Moody(**answers) as sink, pytest.raises(error) as refusal:
        MailServer(sink.url).send(built())
    assert not isinstance(refusal.value, ServerAway), "the server is there: it is about this email alone"
    assert "@" not in str(refusal.value)
    assert sink.messages == []


def test_an_accepted_email_counts_although_quit_fails() -> None:
    with Moody(to_goodbye="421 too busy to say good-bye") as sink:
        MailServer(sink.url).send(built())
    assert len(sink.messages) == 1


def test_an_unreachable_server_is_away() -> None:
    with pytest.raises(ServerAway):
        MailServer(f"smtp://127.0.0.1:{free_port()}").send(built())


# TLS.


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that signs itself, and its key."""

    path: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    path, key_path = folder / "certificate.pem", folder / "key.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return Certificate(path, context)


@dataclass
class Sealed(MailSink):
    """A mail server with implicit TLS or STARTTLS. `over_tls` says whether each message came over TLS."""

    context: ssl.SSLContext | None = None
    at_once: bool = False
    over_tls: list[bool] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'smtps' if self.at_once else 'smtp'}://127.0.0.1:{self.port}"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.over_tls.append(session.ssl is not None or self.at_once)
        return await super().handle_DATA(server, session, envelope)

    def _log_in(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        self.logins.append(data.login)
        return AuthResult(success=True)

    def __enter__(self) -> Self:
        contexts: dict[str, Any] = {"ssl_context" if self.at_once else "tls_context": self.context}
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            authenticator=self._log_in,
            auth_require_tls=False,
            **contexts,
        )
        self._controller.start()
        return self


@pytest.fixture(params=[True, False], ids=["smtps", "starttls"])
def sealed(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[Sealed]:
    with Sealed(context=certificate.context, at_once=request.param) as sink:
        yield sink


def test_tls_is_used_where_the_certificate_is_trusted(
    sealed: Sealed, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    MailServer(sealed.url).send(built())
    assert sealed.over_tls == [True]


def test_an_untrusted_certificate_is_refused(sealed: Sealed) -> None:
    with pytest.raises(ServerAway, match="SSLCertVerificationError"):
        MailServer(sealed.url).send(built())
    assert sealed.messages == []


def test_a_password_is_sent_over_tls(sealed: Sealed, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    MailServer(sealed.url.replace("://", "://the%40user:the%2Fpassword@")).send(built())
    assert sealed.logins == [b"the@user"]
    assert sealed.over_tls == [True]


@pytest.mark.parametrize("url", ["smtp://user:password@127.0.0.1:{port}", "smtp://127.0.0.1:{port}?tls=required"])
def test_without_tls_no_password_and_no_required_tls_email_is_sent(url: str) -> None:
    with Sealed(context=None) as sink:
        with pytest.raises(ServerAway):
            MailServer(url.format(port=sink.port)).send(built())
        assert not sink.messages
        assert not sink.logins
        MailServer(sink.url).send(built())
        assert sink.over_tls == [False], "without a password, and where nobody asks for it, it may travel open"
