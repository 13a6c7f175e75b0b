"""`make bench`: how fast the hot paths are, beside an empty Flask view on the same server and the same core.

Servers and databases run on one core, the load on the others. Every round measures every line once, so that what else
the machine does meanwhile hits all of them alike; what is printed are medians over the rounds. The exit code is 1 when
a call failed or the ledger does not add up, and 0 otherwise, whatever the figures.

To see where the time goes, hold one load and watch it from outside, which needs no change to the product:

    make bench ARGS="--hold post"          then, with the number it prints,
    py-spy record --duration 20 --native --output post.svg --pid NUMBER
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import psutil
from sqlalchemy import func, select
from tqdm import tqdm

from preferences.current import services_of
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import contacts
from preferences.store.tables import ledger_entry
from preferences.store.transactions import Read
from tests.bench import decisions, importing, inbound, load, scrub
from tests.bench.load import Load, Target
from tests.bench.machine import CoreTime, Web, cores, cpu_seconds, flush_micros, import_seconds, on_core, pss
from tests.servers import PostgresServer, postgresql_binaries
from tests.support import close, email, link_for, new_app, new_postgresql, new_sqlite, settings

THREADS = 32
"""As the operator's guide has it; the Procfile starts fewer, for the demo."""

CONNECTIONS = (1, 8, 32)
PAGES = 5_000
"""Contacts whose page is read and who never unsubscribe, so that it is always the same page."""

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "128MB"}
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
EMPTY = "empty Flask view"
FLOOR = "token and two rows"


@dataclass(slots=True)
class Engine:
    """One database with our web process in front of it."""

    key: str
    url: str
    posts: Path
    pages: Path
    database: Callable[[], Sequence[psutil.Process]]
    acknowledged: int = 0
    position: int = 0
    web: Web | None = None

    @property
    def environment(self) -> dict[str, str]:
        chosen = settings(self.url)
        return {
            "PUBLIC_URL": chosen.public_url,
            "SECRET_KEYS": chosen.secret_keys[0],
            "LINK_KEYS": chosen.link_keys[0],
            "FINGERPRINT_KEYS": chosen.fingerprint_keys[0],
            "DATABASE_URL": self.url,
            "CONFIG_FILE": str(chosen.config_file),
        }

    def processes(self) -> list[psutil.Process]:
        return [*(self.web.tree() if self.web else ()), *self.database()]


@dataclass(slots=True)
class Line:
    """One line of the table, and what each round said of it."""

    name: str
    target: Target
    connections: int
    processes: Callable[[], Sequence[psutil.Process]]
    engine: Engine | None = None
    loads: list[Load] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [load.requests / load.seconds for load in self.loads]

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def failures(self) -> int:
        return sum(load.refused + load.broken for load in self.loads)

    def measure(self, core: int, seconds: int) -> None:
        writes = self.engine if self.target.method != "GET" else None
        cpu, time = cpu_seconds(self.processes()), CoreTime.of(core)
        skip = writes.position if writes else 0
        done = load.run(self.target, connections=self.connections, seconds=seconds, skip=skip)
        cpu, time = cpu_seconds(self.processes()) - cpu, CoreTime.of(core) - time
        if writes:
            writes.acknowledged += done.requests - done.refused
            writes.position += done.requests + self.connections
        self.loads.append(done)
        self.micros.append(cpu / max(done.requests, 1) * 1e6)
        self.others.append(max(time.busy - cpu, 0) / done.seconds)
        self.stolen.append(time.stolen / done.seconds)


def main() -> int:
    options = _options()
    if not load.ensure_wrk():
        print(load.MISSING, file=sys.stderr)
        return 1
    core, others = cores()
    # The load, and this program, keep off the servers' core.
    os.sched_setaffinity(0, others)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        print(_about_the_machine(folder, core, others))
        engines = [_engine(key, folder, options, core, stack) for key in options.engine]
        if options.inbound:
            _print_inbound(engines, folder, options.rounds, core)
            return 0
        if options.decisions:
            _print_decisions(engines, folder, options.rounds)
            return 0
        if options.imports:
            return _print_imports(engines, folder, options.imports, core)
        if options.scrub:
            return _print_scrubs(engines, folder, options)
        if options.hold:
            return _hold(engines[0], options.hold, core)
        _print_idle(engines[0], core)
        lines = _lines(engines, options, core, folder, stack)
        for number in tqdm(range(options.rounds), "rounds", leave=False, disable=None):
            for line in lines[:: 1 if number % 2 else -1]:
                line.measure(core, options.seconds)
        _print_table(lines)
        _print_ratios(lines)
        _print_shares_of_floor(lines)
        _print_noise(lines)
        sound = [_check(engine) for engine in engines]
        _print_inbound(engines, folder, min(options.rounds, 3), core)
        return 0 if all(sound) and not any(line.failures for line in lines) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each line is measured (5)")
    parser.add_argument("--seconds", type=int, default=2, help="how long each time (2)")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, at 32 connections only")
    parser.add_argument("--engine", choices=NAMES, help="one database only (both)")
    parser.add_argument("--form", action="store_true", help="measure the page's own form too")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"threads of the web process ({THREADS})")
    parser.add_argument("--inbound", action="store_true", help="only what comes in from providers, beside an import")
    parser.add_argument("--decisions", action="store_true", help="only ten thousand decisions in one call")
    parser.add_argument(
        "--import",
        dest="imports",
        type=int,
        nargs="?",
        const=importing.ROWS,
        metavar="ROWS",
        help=f"only an import of so many rows, while people click ({importing.ROWS:,})",
    )
    parser.add_argument("--scrub", action="store_true", help="only the scrub of a list, beside DuckDB's anti-join")
    parser.add_argument("--scrub-rows", type=int, default=scrub.ROWS, help=f"rows of that list ({scrub.ROWS:,})")
    parser.add_argument("--hold", choices=("post", "page"), help="keep one load up until Ctrl-C, to watch it")
    options = parser.parse_args()
    options.engine = [options.engine] if options.engine else list(NAMES)
    options.connections = CONNECTIONS
    if options.quick:
        options.rounds, options.seconds, options.connections = 2, 1, (32,)
    return options


def _about_the_machine(folder: Path, core: int, others: set[int]) -> str:
    shared = " (this machine has one core: the load takes time from the servers)" if others == {core} else ""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()[:10]]
    model = next((name for name in names if "@" in name or "CPU" in name or "Processor" in name), "unknown processor")
    return (
        f"Servers and databases on core {core}, load on {sorted(others)}{shared}; {model};"
        f" making 4 kB durable takes {flush_micros(folder):,.0f} µs here.\n"
    )


# Preparing.


def _engine(key: str, folder: Path, options: argparse.Namespace, core: int, stack: ExitStack) -> Engine:
    database: Callable[[], Sequence[psutil.Process]] = tuple
    if key == "postgresql":
        with on_core(core):
            server = stack.enter_context(PostgresServer(postgresql_binaries(), **DURABLE))
        url = new_postgresql(server)

        def database() -> Sequence[psutil.Process]:
            return [psutil.Process(pid) for pid in server.pids()]
    else:
        url = new_sqlite(folder)
    engine = Engine(key, url, folder / f"{key}-posts", folder / f"{key}-pages", database)
    # More than a run can use up, so that each click is somebody's first. Ctrl-C ends a held load before that matters.
    clicks = (
        20_000
        if options.hold or options.inbound or options.decisions or options.imports
        else options.rounds * options.seconds * (len(options.connections) + 1) * 2_000
    )
    paths = list(_contact_paths(engine, clicks + PAGES))
    engine.pages.write_text("\n".join(paths[:PAGES]))
    engine.posts.write_text("\n".join(paths[PAGES:]))
    return engine


def _contact_paths(engine: Engine, count: int) -> Iterator[str]:
    """Make contacts, and give the path of an unsubscribe link for each."""
    app = new_app(engine.url)
    services = services_of(app)
    for start in range(0, count, 1_000):
        addresses = [email(f"person{number}@example.com") for number in range(start, min(start + 1_000, count))]
        found = services.database.write(contacts.find_or_create, addresses, services.fingerprints, datetime.now(UTC))
        for facts in found.values():
            assert facts.contact_id is not None
            yield link_for(services, facts.contact_id)
    close(app)


def _lines(
    engines: Sequence[Engine], options: argparse.Namespace, core: int, folder: Path, stack: ExitStack
) -> list[Line]:
    """Start every server, and list what is to be measured."""
    root = folder / "root"
    root.write_text("/")
    lines = []
    for threads in sorted({options.threads, 2}, reverse=True):
        web = stack.enter_context(Web("tests.bench.empty:app", core=core, threads=threads, environment={}, probe="/"))
        name = f"{EMPTY}, {threads} threads"
        lines += [Line(name, Target(web.port, "GET", root), count, web.tree) for count in options.connections]
    for engine in engines:
        web = stack.enter_context(_web(engine, core, options.threads))
        engine.web = web
        kinds = {"POST": ("one-click POST", engine.posts), "GET": ("page GET", engine.pages)}
        if options.form:
            kinds["FORM"] = ("page form", engine.posts)
        for method, (kind, paths) in kinds.items():
            target = Target(web.port, method, paths)
            name = f"{kind}, {NAMES[engine.key]}"
            lines += [Line(name, target, count, engine.processes, engine) for count in options.connections]
        floor = stack.enter_context(_web(engine, core, options.threads, app="tests.bench.floor:app", probe="/"))
        rows = Target(floor.port, "POST", engine.posts)
        name = f"{FLOOR}, {NAMES[engine.key]}"
        processes = partial(_with_database, floor, engine)
        lines += [Line(name, rows, count, processes) for count in options.connections]
    for line in lines[:: len(options.connections)]:
        load.run(line.target, connections=32, seconds=1)
    return lines


def _web(engine: Engine, core: int, threads: int = THREADS, *, app: str = "app:app", probe: str = "/healthz") -> Web:
    return Web(app, core=core, threads=threads, environment=engine.environment, probe=probe)


def _with_database(web: Web, engine: Engine) -> Sequence[psutil.Process]:
    return [*web.tree(), *engine.database()]


def _hold(engine: Engine, what: str, core: int) -> int:
    with _web(engine, core) as web:
        kind = ("POST", engine.posts) if what == "post" else ("GET", engine.pages)
        target = Target(web.port, *kind)
        print(f"The web process is {web.worker().pid}; Ctrl-C ends this.", flush=True)
        try:
            while True:
                done = load.run(target, connections=32, seconds=10)
                print(f"{done.requests / done.seconds:,.0f} requests/s", flush=True)
        except KeyboardInterrupt:
            return 0


def _print_inbound(engines: Sequence[Engine], folder: Path, rounds: int, core: int) -> None:
    """What providers send us, with program and database on the servers' core."""
    print("\nWhat comes in from a provider, program and database on one core:")
    with on_core(core):
        for engine in engines:
            url = new_sqlite(folder) if engine.key == "sqlite" else engine.url
            print(inbound.describe(NAMES[engine.key], inbound.measure(url, folder, rounds)))


def _print_decisions(engines: Sequence[Engine], folder: Path, rounds: int) -> None:
    """Ten thousand answers to "may we send?", beside a bare look-up of the same keys."""
    print(f"\nMay we send? Among {decisions.CONTACTS:,} contacts:")
    for engine in engines:
        url = new_sqlite(folder) if engine.key == "sqlite" else engine.url
        print(decisions.describe(NAMES[engine.key], decisions.measure(url, decisions.CONTACTS, rounds)))


def _print_imports(engines: Sequence[Engine], folder: Path, rows: int, core: int) -> int:
    """An import on each database, beside a bare COPY into PostgreSQL. Nothing is bound to a core but the servers."""
    path = folder / "import.csv"
    importing.write_file(path, rows)
    print(f"\nAn import of {rows:,} rows about new people, while people click:")
    bare, sound = 0.0, True
    for engine in engines:
        if engine.key == "postgresql":
            bare = importing.copy_bare(path, engine.url, engine.environment["FINGERPRINT_KEYS"])
        with _web(engine, core) as web:
            clicks = importing.Clicks(web.port, engine.posts.read_text().splitlines())
            result = importing.measure(path, rows, url=engine.url, environment=engine.environment, clicks=clicks)
        print(importing.describe(NAMES[engine.key], result, bare or float("nan")), flush=True)
        sound = sound and not result.problems and not result.wrong
    return 0 if sound else 1


def _print_scrubs(engines: Sequence[Engine], folder: Path, options: argparse.Namespace) -> int:
    """A list against everybody who said no, beside DuckDB with the same two files."""
    results = []
    for engine in engines:
        place = Path(tempfile.mkdtemp(dir=folder))
        url = new_sqlite(place) if engine.key == "sqlite" else engine.url
        environment = engine.environment | {"DATABASE_URL": url}
        results.append(scrub.measure(url, environment, place, options.scrub_rows, options.rounds))
        print(scrub.describe(NAMES[engine.key], results[-1]), flush=True)
        shutil.rmtree(place)
    return 0 if all(result.agree for result in results) else 1


# Saying what was found.


def _print_idle(engine: Engine, core: int) -> None:
    """Start, memory and import: with no other server up, so that no memory counts as shared that is not."""
    starts, workers, trees = [], [], []
    page = engine.pages.read_text().partition("\n")[0]
    for _ in range(5):
        with _web(engine, core) as web:
            starts.append(web.seconds_to_start)
            assert web.status("GET", page) == 200
            workers.append(pss(web.worker()))
            trees.append(sum(pss(process) for process in web.tree()))
    with Web("tests.bench.empty:app", core=core, threads=THREADS, environment={}, probe="/") as web:
        empty = pss(web.worker())
    taken = import_seconds(engine.environment, core)
    print(f"Start to first answer {median(starts):.2f} s; `import app` {taken:.2f} s of it.")
    print(
        f"Memory of an idle web process {median(workers) / 2**20:.0f} MB (an {EMPTY}: {empty / 2**20:.0f} MB);"
        f" with its main process {median(trees) / 2**20:.0f} MB.\n"
    )


def _print_table(lines: Sequence[Line]) -> None:
    header = f"{'':<30}{'conns':>6}{'requests/s':>12}{'lowest–highest':>17}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs':>8}"
    print(f"{header}{'errors':>8}{'of empty':>10}")
    for line in lines:
        span = f"{min(line.rates):,.0f}–{max(line.rates):,.0f}"
        p50, p99 = median(load.p50 for load in line.loads), median(load.p99 for load in line.loads)
        print(
            f"{line.name:<30}{line.connections:>6}{line.rate:>12,.0f}{span:>17}{p50:>8.1f}{p99:>8.1f}"
            f"{median(line.micros):>8,.0f}{line.failures:>8}{line.rate / _empty(lines, line.connections):>10.2f}"
        )
    print("CPU µs is the time of web process and database together for one request.\n")


def _empty(lines: Sequence[Line], connections: int) -> float:
    """What the better one of the empty views does: with too many threads it is slower, which would flatter us."""
    return max(line.rate for line in lines if line.name.startswith(EMPTY) and line.connections == connections)


def _print_shares_of_floor(lines: Sequence[Line]) -> None:
    """What a click does, beside a Flask view that only checks the token and commits two rows with others."""
    floors = {(line.name.partition(", ")[2], line.connections): line for line in lines if line.name.startswith(FLOOR)}
    for line in lines:
        floor = floors.get((NAMES[line.engine.key], line.connections)) if line.engine else None
        if floor is not None and line.target.method == "POST":
            cpu = f"CPU {median(line.micros):,.0f} / {median(floor.micros):,.0f} µs"
            print(
                f"{line.name}, {line.connections} connections: {line.rate / floor.rate:.2f} of {FLOOR}"
                f" ({line.rate:,.0f} / {floor.rate:,.0f}; {cpu})"
            )


def _print_ratios(lines: Sequence[Line]) -> None:
    for line in lines:
        if line.engine is not None and line.connections == max(other.connections for other in lines):
            empty = _empty(lines, line.connections)
            print(
                f"{line.name}, {line.connections} connections: {line.rate / empty:.2f} of an {EMPTY}"
                f" ({line.rate:,.0f} / {empty:,.0f})"
            )


def _print_noise(lines: Sequence[Line]) -> None:
    others = median(share for line in lines for share in line.others)
    worst = max(share for line in lines for share in line.others)
    stolen = median(share for line in lines for share in line.stolen)
    print(
        f"\nOf the servers' core, other programs and the kernel took {others:.0%} (at worst {worst:.0%}),"
        f" other machines {stolen:.0%}."
    )


def _check(engine: Engine) -> bool:
    """Whether every click that was answered stands in the ledger, and the ledger adds up."""
    app = new_app(engine.url)
    services: Services = services_of(app)
    entries, changed = services.database.read(_counts)
    report = services.database.snapshot(verify.verify, lambda _: None)
    close(app)
    sound = entries >= engine.acknowledged and not report.problems
    print(
        f"{NAMES[engine.key]}: {engine.acknowledged:,} clicks answered, {entries:,} entries ({changed:,} of them a"
        f" contact's first); the ledger {'adds up' if sound else 'DOES NOT ADD UP'}."
    )
    for problem in report.problems:
        print(f"  {problem}")
    return sound


def _counts(read: Read) -> tuple[int, int]:
    changed = func.count().filter(ledger_entry.c.changed)
    entries, first = read.execute(select(func.count(), changed).select_from(ledger_entry)).one()
    return entries, first


if __name__ == "__main__":
    sys.exit(main())
