"""The shape of the house: who may know whom, where a commit stands, what each door needs, how long a function is."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete
from werkzeug.routing import Rule

import preferences
import sandbox
from preferences.current import services_of
from preferences.domain.vocabulary import Channel
from preferences.services import Services
from preferences.store.tables import contact
from preferences.tokens import ConfirmLink, ManageLink, Ticket, UnsubscribeLink
from preferences.web import ROUTES, guards
from tests.processes import contents
from tests.support import add_contact, api_headers, close, email, new_app, new_sqlite

PACKAGE = Path(preferences.__file__).parent
SANDBOX = Path(sandbox.__file__).parent

# Each part of the package, and the parts that it may import besides itself. A new part needs a line here.
BELOW_USE_CASES = {
    "domain",
    "address_parsing",
    "config",
    "tokens",
    "i18n",
    "files",
    "store",
    "ledger",
    "connectors",
    "services",
}
MAY_IMPORT = {
    "domain": set(),
    "client": set(),
    "address_parsing": {"domain"},
    "config": {"domain"},
    "tokens": {"domain"},
    "i18n": {"domain"},
    "files": {"domain"},
    "store": {"domain"},
    "ledger": {"domain", "store"},
    "connectors": {"domain", "config", "address_parsing"},
    "services": {"domain", "config", "i18n", "tokens", "store", "ledger"},
    "current": {"services"},
    "metrics": {"domain", "store"},
    "sending": BELOW_USE_CASES,
    "people": BELOW_USE_CASES | {"metrics"},
    "importing": BELOW_USE_CASES | {"sending"},
    "checks": BELOW_USE_CASES,
    "mail": BELOW_USE_CASES | {"people"},
    "sync": BELOW_USE_CASES,
    "web": BELOW_USE_CASES | {"people", "sending", "sync", "current", "metrics"},
    "cli": BELOW_USE_CASES | {"people", "sending", "importing", "checks", "mail", "sync", "current"},
    "factory": BELOW_USE_CASES | {"current", "web"},
    "__init__": set(),
}
NOW = datetime.now(UTC)
WEB_FRAMEWORK = {
    *("flask", "flask_limiter", "flask_migrate", "flask_wtf"),
    *("werkzeug", "jinja2", "wtforms", "click"),
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(folder: Path = PACKAGE) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found
    return found


def imports(path: Path) -> Iterator[str]:
    """The full name of everything that a file imports, at the top or late."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(path: Path) -> set[str]:
    """What a file imports that is neither ours nor Python's."""
    found = {name.partition(".")[0] for name in imports(path)}
    return found - set(sys.stdlib_module_names) - {"preferences", "_typeshed"}


def parts_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("preferences.")}


# The arrow of dependencies.


def test_each_part_has_its_place_in_the_arrow() -> None:
    assert {part_of(path) for path in modules()} == MAY_IMPORT.keys()


def test_dependencies_point_one_way() -> None:
    strays = {name_of(path): parts_imported(path) - {part_of(path)} - MAY_IMPORT[part_of(path)] for path in modules()}
    assert {name: parts for name, parts in strays.items() if parts} == {}


def test_nothing_imports_in_a_circle() -> None:
    placed: set[str] = set()
    while waiting := MAY_IMPORT.keys() - placed:
        ready = {part for part in waiting if MAY_IMPORT[part] <= placed}
        assert ready, f"a circle among {waiting}"
        placed |= ready


def test_the_rules_need_the_standard_library_alone() -> None:
    found = {name_of(path): libraries(path) for path in modules(PACKAGE / "domain") if libraries(path)}
    assert found == {}


def test_each_module_of_rules_loads_in_a_bare_interpreter() -> None:
    names = [f"preferences.domain.{path.stem}" for path in modules(PACKAGE / "domain") if path.stem != "__init__"]
    program = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1]); [importlib.import_module(n) for n in sys.argv[2:]]"
    )
    loaded = "; print(*sorted({n.split('.')[1] for n in sys.modules if n.startswith('preferences.')}))"
    command = [sys.executable, "-I", "-S", "-c", program + loaded, str(PACKAGE.parent), *names]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["domain"]


def test_only_the_edges_and_what_joins_them_know_the_web_framework() -> None:
    inside = [path for path in modules() if part_of(path) not in {"web", "cli", "current", "factory"}]
    found = {name_of(path): libraries(path) & WEB_FRAMEWORK for path in inside}
    assert {name: known for name, known in found.items() if known} == {
        "i18n.py": {"jinja2"},
    }


def test_only_the_store_and_the_ledger_know_sql() -> None:
    outside = [path for path in modules() if part_of(path) not in {"store", "ledger"}]
    found = {name for path in outside for name in imports(path) if name.startswith("sqlalchemy")}
    assert found <= {
        "sqlalchemy.engine.make_url",
        "sqlalchemy.exc.ArgumentError",
        "sqlalchemy.exc.SQLAlchemyError",
    }


def test_only_connectors_call_other_machines() -> None:
    clients = ("requests", "http.client", "urllib.request", "smtplib", "urllib3", "httpx")
    found = {part_of(path) for path in modules() for name in imports(path) if name.startswith(clients)}
    assert found == {"client", "connectors", "mail", "people", "checks"}


def test_the_sandbox_and_the_product_do_not_know_each_other() -> None:
    assert [path.name for path in modules(SANDBOX) for name in imports(path) if name.startswith("preferences")] == []
    assert [path.name for path in modules() for name in imports(path) if name.startswith(("sandbox", "tests"))] == []


# What may stand where.


def calls(path: Path, name: str) -> list[ast.Call]:
    """Calls of a function or a method of this name."""
    found = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    return [call for call in found if name in {getattr(call.func, "id", None), getattr(call.func, "attr", None)}]


def commits(path: Path) -> int:
    """Calls of `commit`, and texts that a database takes for one."""
    texts = [node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)]
    as_text = [text for text in texts if isinstance(text, str) and re.match(r"\s*(?:COMMIT|END)\b(?!.*\n)", text)]
    return len(calls(path, "commit")) + len(as_text)


def test_transactions_are_committed_in_one_module() -> None:
    """Twice there: by SQLAlchemy, and as text where the driver is called. The third is the answer that it expects."""
    assert {name_of(path): commits(path) for path in modules() if commits(path)} == {"store/transactions.py": 3}


LEDGER_TABLES = {"ledger_entry", "ledger_head", "evidence", "preference", "suppression", "pace"}
WRITING_CALLS = ("insert", "update", "delete", "Insert", "insert_rows", "put_rows")
WRITING_SQL = re.compile(rf"(?i)\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|COPY)\s+({'|'.join(LEDGER_TABLES)})\b")


def tables_written(module: ast.Module) -> set[str]:
    """The tables of the ledger that a module inserts into, updates or deletes from, by SQLAlchemy or as text."""
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call)]
    arguments = [
        argument
        for call in calls
        if {getattr(call.func, "id", None), getattr(call.func, "attr", None)} & set(WRITING_CALLS)
        for argument in (*call.args, *(keyword.value for keyword in call.keywords), getattr(call.func, "value", None))
    ]
    named = {getattr(argument, "attr", getattr(argument, "id", "")) for argument in arguments}
    texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return named & LEDGER_TABLES | {found for text in texts for found in WRITING_SQL.findall(text)}


def test_only_the_ledger_writes_entries_and_projections() -> None:
    found = {part_of(path): tables_written(tree(path)) for path in modules() if tables_written(tree(path))}
    assert found.keys() == {"ledger"}


@pytest.mark.parametrize(
    "statement",
    [
        "save.execute(update(tables.pace).values(per_week=1))",
        "save.execute(preference.delete())",
        "insert_rows(save, suppression, rows)",
        "insert_all(save, [Insert(table=evidence, rows=rows)])",
        "save.exec_driver_sql('DELETE  FROM ledger_entry WHERE seq = 1')",
    ],
)
def test_a_write_past_the_ledger_would_be_noticed(statement: str) -> None:
    assert len(tables_written(ast.parse(statement))) == 1


def test_nothing_is_printed_past_the_log_and_the_commands() -> None:
    assert [name_of(path) for path in modules() if calls(path, "print")] == []


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: everything but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            outside = [child.args] if isinstance(child, ast.Lambda) else [*child.decorator_list, child.args]
            for part in outside:
                yield from at_import(part)
        else:
            yield child
            yield from at_import(child)


def read_at_import(module: ast.Module) -> set[str]:
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in at_import(module)}
    return names & {"environ", "getenv", "open", "read_text", "read_bytes", "connect"}


def test_nothing_reads_the_environment_or_a_file_when_it_is_imported() -> None:
    found = {name_of(path): read_at_import(tree(path)) for path in modules()}
    assert {name: read for name, read in found.items() if read} == {}


def test_reading_at_import_would_be_noticed() -> None:
    source = "import os\nclass A:\n    x = os.environ['A']\ndef f(x=os.getenv('B')): return open(x)"
    assert read_at_import(ast.parse(source)) == {"environ", "getenv"}


# Words and sizes.


def test_each_module_says_what_it_owns() -> None:
    assert [name_of(path) for path in modules() if not ast.get_docstring(tree(path))] == []


def test_the_guides_name_only_modules_that_exist() -> None:
    top = PACKAGE.parent
    present = {path.name for folder in ("preferences", "tests", "sandbox") for path in (top / folder).rglob("*.py")}
    guides = [top / "README.md", top / "tests" / "README.md", *(top / "docs").rglob("*.md")]
    named = {
        (guide.name, name) for guide in guides for name in re.findall(r"(?<!/tmp/)\b[a-z_]+\.py\b", guide.read_text())
    }
    assert {(guide, name) for guide, name in named if name not in present | {"app.py"}} == set()


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def vague_names(module: ast.Module) -> list[str]:
    """Where a variable or a parameter is called `one`, and does not say what it is."""
    named = [(node, getattr(node, "id", getattr(node, "arg", ""))) for node in ast.walk(module)]
    return [f"line {node.lineno}" for node, name in named if name == "one" and isinstance(node, (ast.Name, ast.arg))]


def test_every_variable_says_what_it_is() -> None:
    found = {name_of(path): vague_names(tree(path)) for path in modules()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_vague_name_would_be_noticed() -> None:
    assert vague_names(ast.parse("x = [one for one in y]")) == ["line 1", "line 1"]
    assert vague_names(ast.parse("def f(one): ...")) == ["line 1"]


def functions() -> dict[str, int]:
    """The lines of each function, from its `def` to its end."""
    return {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_functions_are_short() -> None:
    lengths = functions()
    assert statistics.median(lengths.values()) <= 9
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= 35
    assert {name: length for name, length in lengths.items() if length > 60} == {}


LONGEST_VIEW = 15
ROUTING = {"route", "get", "post", "put", "patch", "delete", "errorhandler"}


def views() -> dict[str, int]:
    """The lines of each function that answers a request, from its `def` to its end."""
    return {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules(PACKAGE / "web")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and any(map(is_routing, node.decorator_list))
    }


def is_routing(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", None) in ROUTING


def test_views_parse_call_and_render() -> None:
    lengths = views()
    assert len(lengths) > 60
    assert {name: length for name, length in lengths.items() if length > LONGEST_VIEW} == {}


def has_views(path: Path) -> bool:
    return any(
        is_routing(decorator)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    )


@pytest.mark.parametrize("folder", ["account", "public"])
def test_no_view_imports_another(folder: str) -> None:
    modules_of_views = [path for path in modules(PACKAGE / "web" / folder) if has_views(path)]
    names = {f"preferences.{name_of(path).removesuffix('.py').replace('/', '.')}" for path in modules_of_views}
    assert len(names) > 4
    known = {name_of(path): {name for name in imports(path) if starts_with(name, names)} for path in modules_of_views}
    assert {name: views for name, views in known.items() if views} == {}


def starts_with(name: str, modules_named: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules_named)


VIEWS_OF_USE_CASES = ("web/account", "web/api", "web/public")
"""Folders whose views parse, call one use case and render: they open no transaction themselves."""


def test_views_of_use_cases_open_no_transaction_and_know_no_other_view() -> None:
    shared = {f"preferences.web.{name}" for name in ("account", "api.bodies", "api.operations", "api.openapi")}
    folders = tuple(f"preferences.{folder.replace('/', '.')}." for folder in VIEWS_OF_USE_CASES)
    for path in [path for folder in VIEWS_OF_USE_CASES for path in modules(PACKAGE / folder)]:
        opened = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        assert not opened & {"database", "writer", "reader"}, name_of(path)
        assert not {name for name in imports(path) if name.startswith(("sqlalchemy", "preferences.ledger"))}
        if path.name != "__init__.py":
            known = {name.rpartition(".")[0] for name in imports(path) if name.startswith(folders)}
            assert known <= shared, name_of(path)


def test_one_module_says_that_a_brand_or_a_topic_is_unknown() -> None:
    words = ("there is no such topic", "there is no such brand", "another brand's")
    assert {name_of(path) for path in modules() if any(word in path.read_text() for word in words)} == {
        "sending/scope.py"
    }


# Doors.

CONNECTORS = """
[connectors.shop-mailer]
kind = "webhook"
base_url = "https://mailer.example.com"
webhook_secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]

[sign_in.shop-mailer]
issuer = "http://localhost:9"
client_id = "preferences"
client_secret = "secret"
label = "Sign in with your account"
"""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Flask, str]]:
    """The application with every kind of door open, and the URL of its database."""
    config_file, url = tmp_path / "config.toml", new_sqlite(tmp_path)
    config_file.write_text(CONNECTORS)
    app = new_app(url, config_file=config_file)
    yield app, url
    close(app)


def all_guards() -> set[Any]:
    return {guard for guard in vars(guards).values() if callable(guard) and guard.__module__ == guards.__name__}


def test_each_blueprint_has_a_guard(sqlite_app: Flask) -> None:
    assert set(sqlite_app.blueprints.values()) == {route.blueprint for route in ROUTES}
    for route in ROUTES:
        assert route.guard in all_guards()
        assert route.guard in sqlite_app.blueprints[route.blueprint.name].before_request_funcs[None]


def proves_something(guard: ast.FunctionDef) -> bool:
    """Whether a guard leaves something in `g` that it read from a link, a signature, a key or a session."""
    left = {
        target.attr
        for node in ast.walk(guard)
        if isinstance(node, ast.Assign)
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "g"
    }
    return bool(left) and any(isinstance(node, ast.Call) for node in ast.walk(guard))


def test_every_guard_but_one_proves_something() -> None:
    found = [node for node in tree(Path(guards.__file__)).body if isinstance(node, ast.FunctionDef)]
    public = [node for node in found if not node.name.startswith("_")]
    assert [node.name for node in public if not proves_something(node)] == ["open_to_all"]


def test_an_empty_guard_would_be_noticed() -> None:
    source = "def by_link():\n    'Whoever holds the link.'\ndef by_key():\n    g.key = None"
    empty, without_proof = ast.parse(source).body
    assert isinstance(empty, ast.FunctionDef)
    assert isinstance(without_proof, ast.FunctionDef)
    assert not proves_something(empty)
    assert not proves_something(without_proof)


OPEN_BLUEPRINTS = {"optout", "sign_up", "lost_link", "brands", "sign_in", "openid", "api_docs", "health"}
"""What needs no proof. Each says why in the route map, and a new one is a decision to make here too."""


def test_only_these_blueprints_are_open_to_all() -> None:
    is_open = {route.blueprint.name for route in ROUTES if route.guard is guards.open_to_all}
    assert is_open == OPEN_BLUEPRINTS
    assert {route.blueprint.name for route in ROUTES if route.open_because} == OPEN_BLUEPRINTS


def test_each_address_belongs_to_a_guarded_blueprint_or_is_a_file(sqlite_app: Flask) -> None:
    guarded = {route.blueprint.name for route in ROUTES}
    strays = {rule.rule for rule in sqlite_app.url_map.iter_rules() if rule.endpoint.partition(".")[0] not in guarded}
    assert strays == {"/static/<path:filename>"}


def test_no_door_of_the_api_opens_without_a_key(opened: tuple[Flask, str]) -> None:
    app, _ = opened
    doors = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/v1/")]
    assert doors
    for rule in doors:
        path = rule.rule.replace("<uuid:contact_id>", str(UUID(int=1)))
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            for headers in ({}, {"Authorization": "Bearer pref_wrong"}, {"Authorization": "Basic eDp5"}):
                answer = app.test_client().open(path, method=method, headers=headers, json={})
                assert answer.status_code == 401, (method, path)


def addresses(rule: Rule, services: Services) -> Iterator[str]:
    """The rule with each kind of value in it that it can meet: right, of another kind, and none of ours."""
    known, lost = add_contact(services, email()), add_contact(services, email("lost@example.com"))
    services.database.save(lambda save: save.execute(delete(contact).where(contact.c.id == lost)))
    values = {
        "token": [
            *(
                services.links.sign_unsubscribe(UnsubscribeLink(contact_id, Channel.EMAIL, "default", topic))
                for contact_id in (known, lost)
                for topic in ("product-news", "*", "receipts", "no-such-topic")
            ),
            services.links.sign_manage(ManageLink(known, Channel.EMAIL, "default", NOW)),
            services.links.sign_manage(ManageLink(known, Channel.EMAIL, "default", NOW - timedelta(days=31))),
            services.links.sign_confirm(ConfirmLink(known, "default", ("email.offers.status=on",), NOW)),
            services.links.sign_confirm(ConfirmLink(lost, "default", ("email.offers.status=on",), NOW)),
            *(
                sign(Ticket(known, at))
                for sign in (services.links.sign_sign_in, services.links.sign_hand_off)
                for at in (datetime.now(UTC), NOW - timedelta(hours=1))
            ),
            "junk",
        ],
        "name": ["shop-mailer", "nobody"],
        "slug": ["default", "nobody"],
        "filename": ["style.css", "nothing.css"],
        "reference": ["0000-0000", "junk"],
        "ref": [str(UUID(int=7)), "junk"],
        "address_id": [str(known)],
        "contact_id": [str(known), str(lost)],
    }
    combinations = [{}] if not rule.arguments else [{name: value} for name in rule.arguments for value in values[name]]
    for chosen in combinations:
        built = rule.build(chosen, append_unknown=False)
        assert built is not None
        yield built[1]


def test_opening_any_address_writes_nothing(opened: tuple[Flask, str]) -> None:
    app, url = opened
    services, client = services_of(app), app.test_client()
    headers = api_headers(services)
    requests = [
        (method, address)
        for rule in app.url_map.iter_rules()
        for address in addresses(rule, services)
        for method in ("GET", "HEAD", "OPTIONS")
        if method in (rule.methods or ())
    ]
    # Signed in, so that the pages behind the session are opened too, and not only the way to them.
    ticket = Ticket(add_contact(services, email()), datetime.now(UTC))
    assert client.post(f"/sign-in/hand-off/{services.links.sign_hand_off(ticket)}").status_code == 303
    before = contents(url)
    statuses = {
        client.open(address, method=method, headers=headers, buffered=True).status_code for method, address in requests
    }
    assert contents(url) == before
    assert {200, 404, 410} <= statuses
    assert not any(status >= 500 for status in statuses)


def test_posting_to_the_same_addresses_would_have_been_noticed(opened: tuple[Flask, str]) -> None:
    app, url = opened
    rule = next(rule for rule in app.url_map.iter_rules() if rule.rule == "/u/<token>")
    address = next(addresses(rule, services_of(app)))
    before = contents(url)
    assert app.test_client().post(address).status_code == 200
    assert contents(url) != before
