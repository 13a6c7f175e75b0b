"""A newcomer's first hour: settings to begin with, commands that say what they did, and an end without an error."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from preferences.config import Settings
from preferences.store.migrations import HEAD
from tests.commands import is_refused, run
from tests.processes import ROOT
from tests.support import close, new_app, new_sqlite

FLASK = [sys.executable, "-m", "flask"]
WHERE = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "FLASK_APP": str(ROOT / "app.py")}


def flask(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in an empty environment, in a folder of its own."""
    return subprocess.run(
        [*FLASK, *words],
        cwd=folder,
        env={**WHERE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(file: Path) -> dict[str, str]:
    """What a shell has after it has read the file."""
    script = f'set -a; . "{file}"; set +a; env'
    told = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in told.splitlines())


# Settings.


def test_init_writes_settings_that_work_and_says_what_comes_next(tmp_path: Path) -> None:
    done = flask(tmp_path, "init", "--public-url", "https://preferences.example.com/")
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "instance" / "settings.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = Settings.from_env(loaded(file))
    assert found.public_url == "https://preferences.example.com"
    keys = [*found.secret_keys, *found.link_keys, *found.fingerprint_keys]
    assert len(keys) == len(set(keys)) == 3
    assert min(map(len, keys)) >= 43
    assert not any(key in done.stdout for key in keys)
    steps = (
        "set -a; . instance/settings.env; set +a",
        "flask db upgrade",
        "flask brand set default",
        "flask topic add",
        "honcho start web worker",
        "https://preferences.example.com/sign-up",
        "docs/operator.md",
    )
    for words in steps:
        assert words in done.stdout
    assert "--local" not in done.stdout


def test_the_commands_that_init_names_work_as_they_stand(tmp_path: Path) -> None:
    done = flask(tmp_path, "init")
    steps = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert steps[0].startswith("export PATH="), "whoever typed .venv/bin/flask has no `flask` yet"
    assert steps[-1].startswith("honcho start web worker ")
    typed = subprocess.run(
        ["sh", "-ec", "\n".join(steps[:-1])], cwd=tmp_path, env=WHERE, capture_output=True, text=True, check=False
    )
    assert (typed.returncode, typed.stderr) == (0, "")
    assert "BAD" not in typed.stdout
    assert "BRAND-WHO" not in typed.stdout
    assert "TOPIC-ANY" not in typed.stdout


def test_every_line_of_the_settings_file_names_a_real_setting(tmp_path: Path) -> None:
    flask(tmp_path, "init")
    lines = (tmp_path / "instance" / "settings.env").read_text().splitlines()
    named = {found[1] for line in lines if (found := re.fullmatch(r"(?:# )?([A-Z_]+)=\S*", line))}
    assert named >= {"PUBLIC_URL", "SECRET_KEYS", "LINK_KEYS", "FINGERPRINT_KEYS", "SMTP_URL"}
    assert named <= {name.upper() for name in Settings.model_fields}


def test_each_time_the_keys_are_others(tmp_path: Path) -> None:
    for name in ("a.env", "b.env"):
        flask(tmp_path, "init", name)
    first, second = (loaded(tmp_path / name) for name in ("a.env", "b.env"))
    assert not {first[name] for name in first if name.endswith("KEYS")} & set(second.values())


def test_init_replaces_nothing_and_follows_no_link(tmp_path: Path) -> None:
    flask(tmp_path, "init")
    file = tmp_path / "instance" / "settings.env"
    before = file.read_text()
    (tmp_path / "link.env").symlink_to(tmp_path / "elsewhere.env")
    for words in ((), ("link.env",)):
        done = flask(tmp_path, "init", *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert "is there already" in done.stderr
    assert file.read_text() == before
    assert not (tmp_path / "elsewhere.env").exists()


def test_init_makes_no_keys_beside_data_that_was_made_with_others(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "preferences.db").touch()
    done = flask(tmp_path, "init")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "other keys" in done.stderr
    assert not (tmp_path / "instance" / "settings.env").exists()
    assert flask(tmp_path, "init", "other.env").returncode == 0


@pytest.mark.parametrize("url", ["http://preferences.example.com", "preferences", "https://a b"])
def test_init_refuses_an_address_that_the_site_would_refuse(sqlite_app: Flask, tmp_path: Path, url: str) -> None:
    file = tmp_path / "settings.env"
    result = run(sqlite_app, "init", str(file), "--public-url", url)
    assert is_refused(result, "--public-url")
    assert not file.exists()


def test_a_command_without_settings_points_to_init(tmp_path: Path) -> None:
    done = flask(tmp_path, "doctor")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`flask init`" in done.stderr.splitlines()[-1]


def test_a_mail_is_checked_without_settings(tmp_path: Path) -> None:
    (tmp_path / "mail.eml").write_bytes(b"From: a@example.com\r\n\r\nHello\r\n")
    done = flask(tmp_path, "lint-eml", "mail.eml", "--no-dns")
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 checked: 0 pass, 1 fail" in done.stdout


# What commands say.


def test_db_upgrade_says_from_where_to_where(tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path / 'new.db'}")
    said = [run(app, "db", "upgrade", *to).stdout for to in (("0001",), (), ())]
    assert said == [
        "Brought the database from nothing to 0001.\n",
        f"Brought the database from 0001 to {HEAD}.\n",
        f"The database is up to date already, at {HEAD}.\n",
    ]
    close(app)


def test_the_first_brand_is_made_once_and_changed_afterwards(tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path / 'new.db'}")
    run(app, "db", "upgrade")
    said = [run(app, "brand", "set", "default", "--name", name).stdout for name in ("Maple & Finch", "Finch")]
    assert said == ["Made brand default.\n", "Changed brand default.\n"]
    close(app)


# The doctor of a trial.


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Flask]:
    """A site on this machine alone, without a mail server, as a newcomer has it."""
    app = new_app(new_sqlite(tmp_path), public_url="http://localhost:8000")
    yield app
    close(app)


def marks(said: str) -> dict[str, str]:
    return {line.split()[1]: line.split()[0] for line in said.splitlines() if re.match(r"(ok|warn|BAD|pub) ", line)}


@pytest.mark.parametrize("postal_address", ["", "…"], ids=["none", "as in an example"])
def test_doctor_of_a_trial_tells_what_only_matters_in_public(trial: Flask, postal_address: str) -> None:
    run(trial, "brand", "set", "default", "--postal-address", postal_address)
    public, local = run(trial, "doctor"), run(trial, "doctor", "--local")
    assert public.exit_code == 1
    assert {marks(public.stdout)[rule] for rule in ("URL-HTTPS", "MAIL-OUT")} == {"BAD"}
    assert {marks(local.stdout)[rule] for rule in ("URL-HTTPS", "MAIL-OUT", "BRAND-WHO")} == {"pub"}
    assert marks(local.stdout)["DB-SCHEMA"] == "ok"
    assert local.exit_code == int("BAD" in marks(local.stdout).values())
    assert "smtp://127.0.0.1:8026" in local.stdout


def test_what_is_wrong_in_a_trial_too_is_still_wrong(tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path / 'empty.db'}", public_url="http://127.0.0.1:8000")
    result = run(app, "doctor", "--local")
    assert (result.exit_code, marks(result.stdout)["DB-SCHEMA"]) == (1, "BAD")
    close(app)


def test_a_public_site_is_never_looked_at_as_a_trial(sqlite_app: Flask) -> None:
    assert is_refused(run(sqlite_app, "doctor", "--local"), "--local", "http://localhost")


# The end.


def test_the_worker_ends_on_ctrl_c_without_an_error(tmp_path: Path) -> None:
    flask(tmp_path, "init")
    environment = {**loaded(tmp_path / "instance" / "settings.env"), **WHERE}
    flask(tmp_path, "db", "upgrade", **environment)
    worker = subprocess.Popen(
        [*FLASK, "worker"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert "worker started" in worker.stdout.readline()
    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate(timeout=20)
    assert (worker.returncode, err) == (0, "")
    assert "worker stopped" in out
