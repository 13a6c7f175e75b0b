"""The floor under a click: a Flask view that checks the token and makes two rows durable, many calls to a commit.

What a click costs above it is ours: the fold, the chained hash, the evidence and the projection.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask
from sqlalchemy import create_engine

from preferences.config import from_process
from preferences.store.batching import Batcher, Take
from preferences.store.engine import engine_options, engine_url, prepare_sqlite
from preferences.tokens import Links

settings = from_process()
links = Links(settings.key_bytes(settings.link_keys))
url = engine_url(settings.database_url)
engine = create_engine(url, **engine_options(url, settings.database_pool))
is_sqlite = url.get_backend_name() == "sqlite"
if is_sqlite:
    prepare_sqlite(engine)
mark = "?" if is_sqlite else "%s"
ENTRY = f"INSERT INTO floor_entry VALUES ({mark}, {mark})"
STATE = f"INSERT INTO floor_state VALUES ({mark}, {mark}) ON CONFLICT (contact) DO UPDATE SET at = excluded.at"
with engine.begin() as connection:
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS floor_entry (contact TEXT, at TEXT)")
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS floor_state (contact TEXT PRIMARY KEY, at TEXT)")


def _insert(take: Take[tuple[str, str]]) -> list[None]:
    """Two rows for each call, in one transaction."""
    with engine.connect() as connection:
        connection.begin()
        driver = connection.connection
        rows = take()
        cursor = driver.cursor()
        cursor.executemany(ENTRY, rows)
        cursor.executemany(STATE, rows)
        connection.commit()
    return [None] * len(rows)


batches = Batcher(_insert)
app = Flask(__name__)


@app.post("/u/<token>")
def click(token: str) -> str:
    link = links.read_unsubscribe(token)
    batches((str(link.contact_id), datetime.now(UTC).isoformat()))
    return "You are unsubscribed.\n"


@app.get("/")
def ready() -> str:
    return ""
