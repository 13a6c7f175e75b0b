"""The guide to the API, followed to the letter: its examples are run, in their order, against a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import DEFAULT_SCOPES, KeyScope
from preferences.store.api_keys import create_key
from preferences.web.api.operations import OPERATIONS
from tests.processes import Installation
from tests.support import close, new_app, new_sqlite

GUIDE = Path(__file__).parents[3] / "docs" / "api.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANGING = {
    *("as_of", "seq", "entry", "id", "recorded_at", "created_at", "added_at", "expires_at", "next", "head", "hash"),
}
"""What differs from one day to another."""


def assert_alike(shown: Any, answered: Any, place: str = "") -> None:
    """The same fields, and the same values where they are those of every day. `…` stands for what is left out."""
    if isinstance(shown, dict):
        assert shown.keys() == answered.keys(), place
        for name, value in shown.items():
            if name in CHANGING:
                assert (value is None) == (answered[name] is None), f"{place}.{name}"
            else:
                assert_alike(value, answered[name], f"{place}.{name}")
    elif isinstance(shown, list):
        assert len(shown) == len(answered), place
        if shown and isinstance(shown[0], dict) and "channel" in shown[0]:  # addresses that came together have no order
            shown, answered = (sorted(some, key=lambda one: one["channel"]) for some in (shown, answered))
        for one, other in zip(shown, answered, strict=True):
            assert_alike(one, other, f"{place}[]")
    elif isinstance(shown, str) and "…" in shown:
        assert answered.startswith(shown.partition("…")[0]), place
    else:
        assert answered == shown, place


def run_shell(code: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", code], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="the examples need curl and bash")
def test_the_examples_of_the_guide_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = new_sqlite(tmp_path)
    app = new_app(url)
    key = services_of(app).database.save(create_key, "shop", datetime.now(UTC), DEFAULT_SCOPES | {KeyScope.HAND_OFFS})
    close(app)
    shutil.copy(GUIDE.parent.parent / "preferences" / "client.py", tmp_path / "center.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Installation(tmp_path, url) as services:
        services.web.start()
        for name, value in {"KEY": key, "CENTER": services.url}.items():
            monkeypatch.setenv(name, value)
        names: dict[str, Any] = {}
        said = ""
        kinds = []
        for kind, code in BLOCK.findall(GUIDE.read_text()):
            kinds.append(kind)
            if kind == "sh":
                said = run_shell(code, tmp_path, dict(os.environ))
                assert "about:blank" not in said or '"errors"' in said, said
            elif kind == "python":
                exec(compile(code, "docs/api.md", "exec"), names)
            elif kind == "json":
                shown = code.replace("https://preferences.example.com", services.url)
                assert_alike(json.loads(shown), json.loads(said))
            elif kind == "csv":
                assert said == code
        names["client"].close()
    sys.modules.pop("center", None)
    printed = capsys.readouterr().out.splitlines()
    assert "unsubscribed_all" in printed
    assert "unchanged True" in printed
    assert any(line.startswith(f"List-Unsubscribe: <{services.url}/u/") for line in printed)
    for name in ("topics.json", "list.json", "entries.json"):
        assert "about:blank" not in (tmp_path / name).read_text()
    assert set(kinds) == {"console", "sh", "json", "python", "csv"}


def test_every_call_of_the_api_is_in_the_guide(sqlite_app: Flask) -> None:
    text = GUIDE.read_text()
    rules = {rule.rule for rule in sqlite_app.url_map.iter_rules() if rule.endpoint in OPERATIONS}
    calls = {rule.removeprefix("/api/v1").partition("<")[0].rstrip("/") for rule in rules if "/v1/" in rule}
    assert {"/acts", "/contacts", "/decisions", "/entries", "/hand-offs", "/links", "/scrubs"} <= calls
    assert [call for call in sorted(calls) if f"/api/v1{call}" not in text] == []
