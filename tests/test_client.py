"""The client that sending systems copy: list headers that arrive as they are."""

from __future__ import annotations

import copy
import pickle
import smtplib
import string
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage, Message
from email.mime.text import MIMEText

import listunsub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.client import LIST_HEADERS, BadHeader, put_list_headers
from tests.mail_sink import MailSink

POLICIES = (
    policy.default,
    policy.SMTP,
    policy.SMTPUTF8,
    policy.HTTP,
    policy.strict,
    policy.compat32,
    policy.SMTP.clone(refold_source="all"),
    policy.SMTP.clone(max_line_length=40),
    policy.EmailPolicy(header_factory=HeaderRegistry(), refold_source="none"),
)


def headers_of(length: int) -> dict[str, str]:
    """List headers whose URL has so many characters."""
    start = "https://preferences.example.com/u/"
    return {
        "List-Unsubscribe": f"<{start}{'aB3-_.' * length}"[: length + 1] + ">",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{'news.' * 30}list-id.preferences.example.com>",
    }


def a_message(of_policy: policy.Policy = policy.default) -> Message:
    message = EmailMessage(policy=of_policy)
    message["From"], message["To"], message["Subject"] = "shop@example.com", "jane@example.com", "News"
    message.set_payload("Hello\n")
    return message


def lines_of(raw: bytes, headers: dict[str, str]) -> list[bytes]:
    """The lines of the head that begin with one of these names, in their order there."""
    head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    names = tuple(f"{name.lower()}:".encode() for name in headers)
    return [line for line in head.split(b"\n") if line.lower().startswith(names)]


def as_lines(headers: dict[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode("ascii") for name, value in headers.items()]


# Headers.


@pytest.mark.parametrize("of_policy", POLICIES, ids=repr)
@pytest.mark.parametrize("written_by", [None, *POLICIES], ids=repr)
def test_list_headers_are_written_raw_on_one_line_by_every_policy(
    of_policy: policy.Policy, written_by: policy.Policy | None
) -> None:
    for length in (50, 76, 78, 200, 500, 900):
        headers, message = headers_of(length), a_message(of_policy)
        put_list_headers(message, headers)
        for one in (message, copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
            assert lines_of(one.as_bytes(policy=written_by), headers) == as_lines(headers)


def test_messages_of_the_old_kind_carry_them_too() -> None:
    message, headers = MIMEText("Hello"), headers_of(900)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)
    assert lines_of(message.as_string().encode(), headers) == as_lines(headers)


def test_python_alone_breaks_such_a_header() -> None:
    """When this fails, Python has learned it, and the helper's reason is gone."""
    headers, message = headers_of(200), a_message()
    for name, value in headers.items():
        message[name] = value
    assert lines_of(message.as_bytes(), headers) != as_lines(headers)


URL_LETTERS = string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%"


@given(st.text(URL_LETTERS, min_size=20, max_size=900), st.sampled_from(POLICIES), st.sampled_from(POLICIES))
def test_any_url_arrives_as_it_is(path: str, of_policy: policy.Policy, written_by: policy.Policy) -> None:
    headers = {"List-Unsubscribe": f"<https://preferences.example.com/{path}>, <mailto:out@example.com>"}
    message = a_message(of_policy)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(policy=written_by), headers) == as_lines(headers)


@pytest.fixture(scope="module")
def sink() -> Iterator[MailSink]:
    with MailSink() as one:
        yield one


def test_they_reach_a_mail_server_as_they_are_and_another_program_reads_them(sink: MailSink) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port) as server:
        for length in range(50, 901, 50):
            message, headers = a_message(), headers_of(length)
            put_list_headers(message, headers)
            server.send_message(message)
            raw = sink.letters[-1].raw
            assert lines_of(raw, headers) == as_lines(headers)
            read = message_from_bytes(raw, policy=policy.default)
            fields = [read.get_all(name) for name in LIST_HEADERS[:2]]
            assert listunsub.audit(*fields) == []
            assert listunsub.parse(read["List-Unsubscribe"]) == [headers["List-Unsubscribe"][1:-1]]


def test_there_is_one_of_each_whatever_was_there_before() -> None:
    message, headers = a_message(), headers_of(100)
    for name in (*LIST_HEADERS, "list-unsubscribe", "LIST-ID"):
        message[name] = "<https://old.example/u/x>"
    put_list_headers(message, headers)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)
    assert message["list-id"] == headers["List-Id"]
    assert str(message["List-Unsubscribe"]).startswith("<https://")


def test_a_transactional_message_is_left_without_any() -> None:
    message = a_message()
    put_list_headers(message, headers_of(100))
    put_list_headers(message, {})
    assert not set(LIST_HEADERS) & set(message.keys())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("List-Unsubscribe", headers_of(980)["List-Unsubscribe"], "998"),
        ("List-Unsubscribe", "<https://x.example/é>", "ASCII"),
        ("List-Unsubscribe", "<https://x.example/u>\r\nBcc: all@x.example", "one line"),
        ("List-Unsubscribe", "<https://x.example/u>\n", "one line"),
        ("List-Id", "", "ASCII"),
        ("List-Id", "<a\tb>", "ASCII"),
        ("Bcc", "all@x.example", "List-"),
        ("List-Id\r\nBcc", "all@x.example", "List-"),
    ],
)
def test_what_a_message_cannot_carry_is_refused_and_the_message_left_alone(name: str, value: str, words: str) -> None:
    message, headers = a_message(), headers_of(100)
    put_list_headers(message, headers)
    with pytest.raises(BadHeader, match=words) as raised:
        put_list_headers(message, {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click", name: value})
    assert "x.example" not in str(raised.value)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)


def test_the_longest_line_there_may_be_is_written() -> None:
    message = a_message(policy.SMTP)
    headers = {"List-Unsubscribe": headers_of(998 - len("List-Unsubscribe: <>"))["List-Unsubscribe"]}
    put_list_headers(message, headers)
    (line,) = lines_of(message.as_bytes(), headers)
    assert len(line) == 998
