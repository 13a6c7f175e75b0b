"""Settings: each is refused when wrong, all problems are told at once, and no value is ever shown."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from preferences.config import SETTINGS_FILE, ConnectorSettings, Settings, from_process, read_connectors
from preferences.connectors import make_connector, read_checked, shown_as
from preferences.domain.errors import Misconfigured

SECRET = "hunter2"  # in each wrong value, so that no message can show one unseen
NEEDED = {
    "PUBLIC_URL": "https://preferences.example.com",
    "SECRET_KEYS": "session-key-for-these-tests",
    "LINK_KEYS": "link-key-for-these-tests-too",
    "FINGERPRINT_KEYS": "fingerprint-key-for-these-tests",
}
WRONG = [
    *(
        ("PUBLIC_URL", value)
        for value in (
            "hunter2",
            "ftp://hunter2.example.com",
            "https:///hunter2",
            "https://preferences.example.com?hunter2",
            "https://preferences.example.com#hunter2",
            "https://[hunter2",
            "https://preferences.example.com:hunter2",
            "https://user:hunter2@preferences.example.com",
            "https://℀.hunter2.example.com",
            "https://preferences.example.com/hünter2/hunter2",
            "https://preferences.example.com/hunter2 hunter2",
            "http://hunter2.example.com",
            "http://localhost.hunter2.example.com",
            "http://192.0.2.1/hunter2",
        )
    ),
    *((name, value) for name in ("SECRET_KEYS", "LINK_KEYS", "FINGERPRINT_KEYS") for value in ("hunter2", " , ")),
    ("LINK_KEYS", "a-key-that-is-long-enough,hunter2"),
    ("DATABASE_URL", "hunter2"),
    ("DATABASE_URL", "mysql://user:hunter2@localhost/preferences"),
    ("DATABASE_URL", "postgresql://user:secret@localhost:hunter2/preferences"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("DATABASE_POOL", "hunter2"),
    ("DATABASE_POOL", "0"),
    ("DATABASE_POOL", "201"),
    ("DATABASE_POOL", "2.5"),
    ("RATE_LIMIT_URL", "hunter2"),
    ("RATE_LIMIT_URL", "memcached://user:hunter2@localhost"),
    ("API_LIMIT", "hunter2"),
    ("API_LIMIT", "hunter2 per minute"),
    *(
        ("SMTP_URL", value)
        for value in (
            "hunter2",
            "https://hunter2.example.com",
            "smtp://",
            "smtp://user:hunter2@mail.example.com:hunter2",
            "smtp://mail.example.com/hunter2",
            "smtp://mail.example.com?tls=hunter2",
        )
    ),
    *(
        ("EMBED_ORIGINS", value)
        for value in (
            "hunter2.example.com",
            "*",
            "https://*.hunter2.example.com/",
            "https://shop.example.com/hunter2",
            "https://shop.example.com;script-src:hunter2",
            "https://shop.example.com;hunter2",
            "https://shop.example.com, http://hunter2.example.com",
            "https://user:hunter2@shop.example.com",
        )
    ),
    ("TRUSTED_HOSTS", "https://hunter2"),
    ("TRUSTED_HOSTS", "web internal/hunter2"),
    ("TRUSTED_PROXIES", "hunter2"),
    ("TRUSTED_PROXIES", "-1"),
    ("TRUSTED_PROXIES", "11"),
]


def problems(environment: Mapping[str, str]) -> list[str]:
    """What is said about these settings, line by line, without the headline."""
    with pytest.raises(Misconfigured) as refusal:
        Settings.from_env(environment)
    assert SECRET not in repr(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    headline, *lines = str(refusal.value).splitlines()
    assert headline == "The settings are not complete:"
    return [line.strip() for line in lines if line.startswith("  ")]


# Each one.


def test_four_settings_are_enough() -> None:
    settings = Settings.from_env(NEEDED)
    assert settings.public_url == "https://preferences.example.com"
    assert settings.link_keys == ("link-key-for-these-tests-too",)
    assert settings.database_url == "sqlite:///instance/preferences.db"


def test_all_settings_are_taken() -> None:
    settings = Settings.from_env(
        {
            **NEEDED,
            "PUBLIC_URL": "https://example.com/preferences/",
            "DATABASE_URL": "postgresql://user:secret@localhost:5432/preferences",
            "DATABASE_POOL": "20",
            "CONFIG_FILE": "/etc/preferences.toml",
            "RATE_LIMIT_URL": "redis://localhost",
            "API_LIMIT": "50 per second",
            "SMTP_URL": "smtps://mail.example.com",
            "EMBED_ORIGINS": "https://shop.example.com http://localhost:8000",
            "TRUSTED_PROXIES": "1",
            "PATH": "/usr/bin",
        }
    )
    assert (settings.public_url, settings.host, settings.root) == (
        "https://example.com/preferences",
        "example.com",
        "/preferences",
    )
    assert settings.database_url == "postgresql://user:secret@localhost:5432/preferences"
    assert settings.config_file == Path("/etc/preferences.toml")
    assert settings.smtp_url == "smtps://mail.example.com"
    assert settings.embed_origins == ("https://shop.example.com", "http://localhost:8000")
    assert (settings.database_pool, settings.rate_limit_url, settings.trusted_proxies) == (20, "redis://localhost", 1)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_named_and_not_shown(name: str, value: str) -> None:
    (problem,) = problems(NEEDED | {name: value})
    assert problem.startswith(f"{name}: ")


def test_every_setting_that_can_be_wrong_is_tried_above() -> None:
    assert {name for name, _ in WRONG} == {name.upper() for name in Settings.model_fields} - {"CONFIG_FILE"}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("emptied", [False, True])
def test_a_needed_setting_that_is_missing_is_named(name: str, emptied: bool) -> None:
    environment = {other: value for other, value in NEEDED.items() if other != name}
    (problem,) = problems(environment | ({name: ""} if emptied else {}))
    assert problem.startswith(f"{name}: is not set")


@pytest.mark.parametrize("there", [False, True])
def test_missing_settings_come_with_the_command_that_helps(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        SETTINGS_FILE.parent.mkdir()
        SETTINGS_FILE.touch()
    with pytest.raises(Misconfigured) as refusal:
        Settings.from_env({name: value for name, value in NEEDED.items() if name != "LINK_KEYS"})
    assert ("flask init" in str(refusal.value)) is not there
    assert ("set -a; . instance/settings.env; set +a" in str(refusal.value)) is there


def test_a_wrong_setting_does_not_lead_to_a_new_file() -> None:
    with pytest.raises(Misconfigured) as refusal:
        Settings.from_env(NEEDED | {"PUBLIC_URL": "hunter2"})
    assert "flask init" not in str(refusal.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = problems(
        {
            "PUBLIC_URL": "hunter2",
            "SECRET_KEYS": "hunter2",
            "FINGERPRINT_KEYS_FILE": str(tmp_path / "nothing-here"),
            "DATABASE_URL": "hunter2",
            "DATABASE_POOL": "hunter2",
            "RATE_LIMIT_URL": "hunter2",
            "TRUSTED_PROXIES": "hunter2",
            "CONFIG_FILE": "one.toml",
            "CONFIG_FILE_FILE": "another.toml",
        }
    )
    named = {problem.partition(":")[0] for problem in found}
    assert named == {
        "PUBLIC_URL",
        "SECRET_KEYS",
        "LINK_KEYS",
        "FINGERPRINT_KEYS_FILE",
        "DATABASE_URL",
        "DATABASE_POOL",
        "RATE_LIMIT_URL",
        "TRUSTED_PROXIES",
        "CONFIG_FILE",
    }


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://127.8.9.1",
        "http://[::1]:8000",
        "http://demo.localhost",
        "https://localhost",
    ],
)
def test_plain_http_is_for_this_machine_alone(url: str) -> None:
    assert Settings.from_env(NEEDED | {"PUBLIC_URL": url}).public_url == url


@pytest.mark.parametrize("text", ["old-key-0123456789,new-key-0123456789", " old-key-0123456789\nnew-key-0123456789\n"])
def test_keys_are_separated_by_commas_or_space_the_oldest_first(text: str) -> None:
    settings = Settings.from_env(NEEDED | {"LINK_KEYS": text})
    assert settings.key_bytes(settings.link_keys) == [b"old-key-0123456789", b"new-key-0123456789"]


# From a file.


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_each_setting_may_stand_in_a_file(name: str, tmp_path: Path) -> None:
    values = NEEDED | {
        "DATABASE_URL": "postgresql://localhost/preferences",
        "DATABASE_POOL": "7",
        "CONFIG_FILE": "other.toml",
        "RATE_LIMIT_URL": "redis://localhost",
        "API_LIMIT": "50 per second",
        "SMTP_URL": "smtp://user:secret@mail.example.com:587",
        "EMBED_ORIGINS": "https://shop.example.com",
        "TRUSTED_HOSTS": "web.internal",
        "TRUSTED_PROXIES": "2",
    }
    file = tmp_path / "value"
    file.write_text(f"{values[name]}\n")
    others = {other: value for other, value in values.items() if other != name}
    assert Settings.from_env(others | {f"{name}_FILE": str(file)}) == Settings.from_env(values)


def test_a_setting_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(SECRET)
    (problem,) = problems(NEEDED | {"LINK_KEYS_FILE": str(file)})
    assert problem == "LINK_KEYS: given twice, as LINK_KEYS and as LINK_KEYS_FILE; keep one"


def test_a_file_that_is_missing_or_no_text_is_named_by_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    environment = {name: value for name, value in NEEDED.items() if name != "LINK_KEYS"} | {"LINK_KEYS_FILE": str(file)}
    assert problems(environment) == ["LINK_KEYS_FILE: cannot be read (No such file or directory)"]
    file.write_bytes(b"\xff\xfehunter2")
    assert problems(environment) == ["LINK_KEYS_FILE: cannot be read (not text in UTF-8)"]


def test_an_empty_file_is_not_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n")
    environment = {name: value for name, value in NEEDED.items() if name != "LINK_KEYS"} | {"LINK_KEYS_FILE": str(file)}
    assert problems(environment) == ["LINK_KEYS: needs at least one key"]


def test_the_process_takes_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.removesuffix("_FILE").lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    assert from_process() == Settings.from_env(NEEDED)


def test_settings_do_not_change_while_we_run() -> None:
    settings = Settings.from_env(NEEDED)
    with pytest.raises(ValueError, match="frozen"):
        settings.public_url = "https://elsewhere.example.com"


# The connectors' file.

GOOD = """
[connectors.shop-mailer]
kind = "webhook"
base_url = "https://mailer.example.com/preferences/"
brand = "maple"
api_key = { env = "MAILER_KEY" }
signing_secrets = [{ env = "MAILER_SIGNING" }]
webhook_secrets = [{ file = "FOLDER/secret" }, { env = "MAILER_WEBHOOK" }]
[connectors.shop-mailer.topics]
"product-news" = "list-17"
"*" = "global"
"""
PLAIN = '[connectors.mailer]\nkind = "webhook"\nbase_url = "https://mailer.example.com"\n'


def connectors(folder: Path, text: str, **environment: str) -> dict[str, ConnectorSettings]:
    file = folder / "config.toml"
    file.write_text(text.replace("FOLDER", str(folder)))
    return read_connectors(file, environment)


def refusal_of(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(Misconfigured) as refusal:
        connectors(folder, text, **environment)
    assert SECRET not in repr(refusal.value)
    assert refusal.value.__cause__ is None
    return str(refusal.value)


def test_a_connector_is_read_with_its_secrets(tmp_path: Path) -> None:
    signing, from_a_file, webhook = ("whsec_" + base64.b64encode(word * 24).decode() for word in (b"s", b"f", b"w"))
    (tmp_path / "secret").write_text(f"{from_a_file}\n")
    found = connectors(tmp_path, GOOD, MAILER_KEY="key", MAILER_SIGNING=signing, MAILER_WEBHOOK=webhook)
    assert found == {
        "shop-mailer": ConnectorSettings(
            name="shop-mailer",
            kind="webhook",
            base_url="https://mailer.example.com/preferences",
            brand="maple",
            api_key="key",
            signing_secrets=(signing,),
            webhook_secrets=(from_a_file, webhook),
            topics={"product-news": "list-17", "*": "global"},
        )
    }


@pytest.mark.parametrize(
    ("kind", "label", "shown"),
    [("sendgrid", "", "SendGrid"), ("sendgrid", "Our newsletters", "Our newsletters"), ("webhook", "", "my-platform")],
)
def test_people_are_told_a_providers_label_or_its_usual_name(kind: str, label: str, shown: str) -> None:
    settings = ConnectorSettings(name="my-platform", kind=kind, base_url="https://api.example.com", label=label)
    assert shown_as(settings) == shown


def test_without_a_file_or_in_an_empty_one_there_are_no_connectors(tmp_path: Path) -> None:
    assert read_connectors(tmp_path / "nothing-here.toml", {}) == {}
    assert connectors(tmp_path, "") == {}


def test_a_file_that_is_not_toml_is_named_with_the_place(tmp_path: Path) -> None:
    said = refusal_of(tmp_path, "[connectors.mailer]\nkind = hunter2\n")
    assert said.startswith("config.toml cannot be read: ")
    assert "line 2" in said


def test_a_folder_or_a_file_of_bytes_is_not_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_connectors(tmp_path, {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match=r"bytes\.toml cannot be read"):
        read_connectors(tmp_path / "bytes.toml", {})


@pytest.mark.parametrize("text", ["connectors = 5", '[connectors]\nmailer = "hunter2"', "[[connectors]]"])
def test_connectors_that_are_no_tables_are_refused(tmp_path: Path, text: str) -> None:
    assert refusal_of(tmp_path, text) == "config.toml: connectors must be tables, such as [connectors.my-platform]"


@pytest.mark.parametrize("environment", [{}, {"MAILER_KEY": ""}])
def test_a_secret_that_the_environment_lacks_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    said = refusal_of(tmp_path, PLAIN + 'api_key = { env = "MAILER_KEY" }', **environment)
    assert said == "connector mailer: the environment has no MAILER_KEY"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "secret cannot be read (No such file" in refusal_of(tmp_path, PLAIN + 'api_key = { file = "FOLDER/secret" }')
    (tmp_path / "secret").write_bytes(b"\xff")
    assert "secret cannot be read (not text" in refusal_of(tmp_path, PLAIN + 'api_key = { file = "FOLDER/secret" }')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[connectors.mailer]\nkind = "webhook"', "connector mailer: base_url: Field required"),
        ('[connectors.mailer]\nbase_url = "https://x.example"', "connector mailer: kind: Field required"),
        (PLAIN.replace("https:", "hunter2:"), "connector mailer: base_url: "),
        (PLAIN.replace("https://", "https://user:hunter2@"), "connector mailer: base_url: "),
        (PLAIN.replace("mailer]", "Mailer]"), "connector Mailer: name: "),
        (PLAIN + 'api_kee = "hunter2"', "connector mailer: api_kee: "),
        (PLAIN + 'webhook_secrets = "hunter2"', "connector mailer: webhook_secrets: "),
        (PLAIN + "[connectors.mailer.topics]\noffers = 5", "connector mailer: topics.offers: "),
    ],
)
def test_a_wrong_setting_of_a_connector_is_named_and_not_shown(tmp_path: Path, text: str, said: str) -> None:
    assert refusal_of(tmp_path, text).startswith(said)


def test_two_topics_cannot_share_a_list(tmp_path: Path) -> None:
    text = PLAIN + '[connectors.mailer.topics]\noffers = "list-1"\nnews = "list-1"'
    assert "an opt-out of one would stop the other" in refusal_of(tmp_path, text)


def test_a_purpose_cannot_be_mapped_to_a_list(tmp_path: Path) -> None:
    text = PLAIN + '[connectors.mailer.topics]\n"@profiling" = "list-1"'
    assert "none is told to a provider" in refusal_of(tmp_path, text)


def test_a_connector_is_called_by_its_table(tmp_path: Path) -> None:
    assert connectors(tmp_path, PLAIN + 'name = "other"')["mailer"].name == "mailer"


def test_an_unknown_kind_is_refused_with_the_kinds_we_know(tmp_path: Path) -> None:
    settings = connectors(tmp_path, PLAIN.replace("webhook", "pigeon"))["mailer"]
    with pytest.raises(Misconfigured, match="connector mailer: there is no kind 'pigeon'; known kinds: "):
        make_connector(settings)


@pytest.mark.parametrize("kind", ["webhook", "resend"])
@pytest.mark.parametrize("field", ["webhook_secrets", "signing_secrets"])
@pytest.mark.parametrize(
    "secret",
    [
        "whpk_MCowBQYDK2VwAyEAbm90IGEgcmVhbCBwdWJsaWMga2V5IGF0IGFsbA==",
        "whsk_MC4CAQAwBQYDK2VwBCIEIG5vdCBhIHJlYWwgcHJpdmF0ZSBrZXkgYXQ=",
        "whsec_no base64 at all, but long enough",
        "a-plain-password-of-some-length",
        "whsec_AAAA",
        "",
    ],
)
def test_a_secret_of_standard_webhooks_that_is_none_is_refused_at_start(
    tmp_path: Path, kind: str, field: str, secret: str
) -> None:
    path = tmp_path / "config.toml"
    text = f'[connectors.mailer]\nkind = "{kind}"\nbase_url = "https://x.example"\n{field} = ["{secret}"]\n'
    path.write_text(text)
    with pytest.raises(Misconfigured, match=f"connector mailer: {field}: each must be whsec_") as refusal:
        read_checked(path, {})
    assert not secret or secret not in str(refusal.value)


def test_a_standard_secret_may_come_without_its_prefix(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    secret = base64.b64encode(b"twenty-four octets or so").decode()
    path.write_text(
        f'[connectors.m]\nkind = "webhook"\nbase_url = "https://x.example"\nwebhook_secrets = ["{secret}"]\n'
    )
    assert read_checked(path, {})["m"].webhook_secrets == (secret,)
