"""The application with a mail server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.mail_sink import MailSink
from tests.support import close, new_app, new_sqlite


@pytest.fixture
def posting(tmp_path: Path, mail: MailSink) -> Iterator[Flask]:
    """The application with a mail server, on SQLite."""
    app = new_app(new_sqlite(tmp_path), smtp_url=mail.url)
    yield app
    close(app)
