"""Commands as operators run them, and how a refused command looks."""

from __future__ import annotations

from click.testing import Result
from flask import Flask

from preferences.current import services_of
from tests.processes import contents

CONFIG = """
[connectors.shop]
kind = "webhook"
base_url = "https://shop.example.test"
api_key = "key-of-the-shop"
signing_secrets = ["whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="]
webhook_secrets = ["whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="]
[connectors.shop.topics]
"product-news" = "list-17"
"offers" = "list-18"
"*" = "global"
"""


def run(app: Flask, *arguments: str) -> Result:
    """Run a command as an operator does. What a person would see as a traceback is raised."""
    result = app.test_cli_runner().invoke(args=list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def is_refused(result: Result, *words: str) -> bool:
    """Exit code 1, one line on standard error with these words in it, and nothing on standard output."""
    lines = result.stderr.splitlines()
    return (
        result.exit_code == 1
        and result.stdout == ""
        and len(lines) == 1
        and lines[0].startswith("Error: ")
        and all(word in lines[0] for word in words)
    )


def rows(app: Flask) -> dict[str, list[str]]:
    return contents(services_of(app).settings.database_url)
