"""Whether it lives, whether it can work, and what it has counted: for machines, and about nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from preferences.current import services_of
from preferences.services import Services
from tests.processes import Installation, contents, database_away
from tests.servers import PostgresServer
from tests.support import add_contact, api_headers, close, email, link_for, new_app, new_postgresql, new_sqlite


def counted(text: str) -> dict[str, float]:
    """Each counter with its labels, as one readable name."""
    return {
        " ".join(
            [sample.name.removeprefix("preferences_"), *map("=".join, sorted(sample.labels.items()))]
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("preferences_") and sample.name.endswith("_total")
    }


def grown(client: FlaskClient, before: dict[str, float]) -> dict[str, float]:
    """By how much each counter has grown since."""
    now = counted(client.get("/metrics").text)
    return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}


def test_a_process_that_answers_is_alive(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text, answer.mimetype) == (200, "ok\n", "text/plain")


def test_a_migrated_database_is_ready(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_looking_writes_nothing(client: FlaskClient, services: Services) -> None:
    before = contents(services.settings.database_url)
    for path in ("/healthz", "/readyz", "/metrics"):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert client.open(path, method=method).status_code == 200
    assert contents(services.settings.database_url) == before


def test_an_empty_database_is_alive_but_not_ready_and_says_what_to_do(tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path}/empty.db")
    assert app.test_client().get("/healthz").status_code == 200
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the database needs `flask db upgrade`\n")
    close(app)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM alembic_version", "UPDATE alembic_version SET version_num = '0000'"]
)
def test_a_database_of_another_version_is_not_ready(client: FlaskClient, services: Services, statement: str) -> None:
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the database needs `flask db upgrade`\n")


def test_a_process_survives_an_outage_of_the_database(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    assert client.get("/readyz").status_code == 200
    with database_away(sqlite_app):
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "the database cannot be reached\n")
        assert client.get("/metrics").status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.fixture
def own_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    with PostgresServer(postgres.binaries) as server:
        yield server


def test_the_same_with_a_server_that_dies_and_comes_back(own_server: PostgresServer) -> None:
    app = new_app(new_postgresql(own_server))
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    own_server.stop("immediate")
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    own_server.start()
    assert client.get("/readyz").status_code == 200
    close(app)


def test_each_thing_is_counted_where_it_happens(client: FlaskClient, services: Services) -> None:
    path, headers = link_for(services, add_contact(services)), api_headers(services)
    before = counted(client.get("/metrics").text)

    client.post(path)
    client.post(path, data={"intent": "topic"}, headers={"Accept": "text/html"})
    client.post("/optout", data={"address": "somebody@example.com"})
    question = {"channel": "email", "topic": "product-news", "addresses": ["jane.doe@example.com", "x@example.com"]}
    for message_class in ("marketing", "transactional", "newsletter"):
        client.post("/api/v1/decisions", json=question | {"class": message_class}, headers=headers)

    assert grown(client, before) == {
        "acts_total origin=one_click": 1,
        "acts_total origin=page": 1,
        "acts_total origin=address_box": 1,
        "api_calls_total call=decisions key=shop old_key=false": 3,
        "decisions_total allowed=False degraded=False message_class=marketing": 1,
        "decisions_total allowed=True degraded=False message_class=marketing": 1,
        "decisions_total allowed=False degraded=False message_class=transactional": 1,
        "decisions_total allowed=True degraded=False message_class=transactional": 1,
        "decisions_total allowed=False degraded=False message_class=unknown": 2,
    }


def test_what_failed_is_counted_by_its_kind(sqlite_app: Flask) -> None:
    client, services = sqlite_app.test_client(), services_of(sqlite_app)
    path, headers = link_for(services, add_contact(services)), api_headers(services)
    question = {"channel": "email", "class": "marketing", "topic": "offers", "addresses": ["jane.doe@example.com"]}
    before = counted(client.get("/metrics").text)

    with database_away(sqlite_app):
        client.post(path)
        client.post("/api/v1/decisions", json=question, headers=headers)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE preference")
    client.post(path)
    client.get("/u/forged")

    assert grown(client, before) == {
        "failures_total kind=StoreBusy": 1,
        "failures_total kind=StoreFault": 1,
        "decisions_total allowed=False degraded=True message_class=marketing": 1,
    }


def test_the_counters_are_about_nobody(client: FlaskClient, services: Services) -> None:
    contact_id = add_contact(services, email("canary@example.com"))
    path = link_for(services, contact_id, message_ref="campaign-7")
    client.post(path)
    client.post("/optout", data={"address": "canary@example.com"})

    text = client.get("/metrics").text

    assert "@" not in text
    for private in ("canary", "campaign-7", str(contact_id), path.removeprefix("/u/")):
        assert private not in text


def test_the_counters_of_a_folder_outlive_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "counters"
    folder.mkdir()
    with Installation(tmp_path, new_sqlite(tmp_path), PROMETHEUS_MULTIPROC_DIR=str(folder)) as installation:
        app = new_app(installation.settings.database_url)
        path = link_for(services_of(app), add_contact(services_of(app)))
        for times in (1, 2):
            installation.web.start()
            with closing(installation.connect()) as connection:
                connection.request("POST", path)
                assert connection.getresponse().read()
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                assert answer.status == 200
                now = counted(answer.read().decode())
            assert now["acts_total origin=one_click"] == times
            installation.web.kill()
        close(app)
