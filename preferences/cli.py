"""The commands: `flask …`.

Owns what an operator types and reads. Invariants: bad input is one clear line on standard error and exit code 1, with
nothing half done; long work shows its progress.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from flask_migrate import Migrate

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.domain.addresses import read_address
from preferences.domain.errors import PreferencesError
from preferences.domain.terms import BLANKET, Basis, Brand, Channel, MessageClass, OneClick, Topic
from preferences.site import Site, current_site
from preferences.store.db import StoreFault, db

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
DEFAULT_BRAND: Final = "default"


def register(app: Flask) -> None:
    """Add every command to `flask`, `flask db` included."""
    Migrate(app, db, directory=str(MIGRATIONS))
    for group in (brand_group, topic_group, key_group, links_group, ledger_group):
        app.cli.add_command(group)
    for command in (worker, import_command, explain, reconcile, connectors, resume, doctor):
        app.cli.add_command(command)


def fail(message: str) -> NoReturn:
    """Say what is wrong, in one line on standard error, and end with exit code 1."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(1)


class Command(click.Command):
    """A command that tells a wrong option or argument like any other bad input: in one line."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            fail(" ".join(error.format_message().split()))


class Group(AppGroup):
    """A group of such commands."""

    command_class = Command


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn our own errors into one line; let a mistake in the program show itself whole."""
    try:
        yield
    except PreferencesError as error:
        fail(str(error))
    except StoreFault as error:
        fail(f"the database refused it ({error}); has `flask db upgrade` been run? `flask doctor` looks")


@contextmanager
def progress_bar(label: str, total: int | None = None, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line a minute elsewhere. Yields what to call with the number of rows just done."""
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    interval, delay = (0.1, 0.5) if on_terminal else (60.0, 60.0)
    with tqdm(
        desc=label,
        total=total,
        unit=f" {unit}",
        mininterval=interval,
        delay=delay,
        ascii=not on_terminal,
        leave=on_terminal,
    ) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance


def _slug(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not SLUG.fullmatch(value):
        raise click.BadParameter("use small letters, digits and hyphens, such as product-news", param=parameter)
    return value


def _choice(kind: Any) -> click.Choice[Any]:
    return click.Choice([member.value for member in kind], case_sensitive=False)


# Brands and topics.

brand_group = Group("brand", help="Whose name the mail bears.")


@brand_group.command("set")
@click.argument("slug", callback=_slug)
@click.option("--name", required=True, help="The name that recipients know.")
@click.option("--postal-address", default="", help="One line; the law wants it in every marketing mail.")
@click.option("--contact-email", default="", help="Where recipients can write to a person.")
@click.option(
    "--one-click",
    type=_choice(OneClick),
    default=OneClick.EVERYTHING.value,
    show_default=True,
    help="What one click in a mail program stops.",
)
def brand_set(slug: str, name: str, postal_address: str, contact_email: str, one_click: str) -> None:
    """Add a brand, or change the one of this SLUG.

    \b
    Example:
      flask brand set default --name "Maple & Finch" --contact-email hello@example.com
    """
    from preferences.store.catalog import save_brand

    new = Brand(
        slug=slug,
        name=name,
        postal_address=postal_address,
        contact_email=contact_email,
        one_click=OneClick(one_click),
    )
    with plain_errors():
        added = current_site().database.save(save_brand, new, datetime.now(UTC))
    click.echo(f"{'Added' if added else 'Changed'} brand {slug}.")


topic_group = Group("topic", help="What people can choose.")


@topic_group.command("add")
@click.argument("slug", callback=_slug)
@click.option("--class", "message_class", type=_choice(MessageClass), required=True, help="What kind of mail it is.")
@click.option("--basis", type=_choice(Basis), required=True, help="On what lawful ground it is sent.")
@click.option("--name", help="What recipients read; made from the slug if not given.")
@click.option("--description", default="", help="One plain line: what is in it.")
@click.option("--frequency", default="", help="How often, such as “about twice a month”.")
@click.option("--brand", default=DEFAULT_BRAND, show_default=True, help="Whose topic it is.")
@click.option(
    "--channel",
    "channels",
    type=_choice(Channel),
    multiple=True,
    default=[Channel.EMAIL.value],
    show_default=True,
    help="How it travels; give it again for each further channel.",
)
@click.option("--if-missing", is_flag=True, help="Do nothing, and succeed, when the topic is there already.")
def topic_add(
    slug: str,
    message_class: str,
    basis: str,
    name: str | None,
    description: str,
    frequency: str,
    brand: str,
    channels: Sequence[str],
    if_missing: bool,
) -> None:
    """Add a topic under its SLUG, which never changes afterwards.

    \b
    Example:
      flask topic add product-news --class marketing --basis consent --name "Product news"
    """
    from preferences.store import queries
    from preferences.store.catalog import add_topic

    new = Topic(
        slug=slug,
        brand=brand,
        name=name or slug.replace("-", " ").capitalize(),
        description=description,
        frequency=frequency,
        message_class=MessageClass(message_class),
        basis=Basis(basis),
        channels=tuple(Channel(one) for one in channels),
    )
    database = current_site().database
    with plain_errors():
        if if_missing and slug in database.read(queries.catalog).topics:
            click.echo(f"Topic {slug} is there already.")
            return
        database.save(add_topic, new, datetime.now(UTC))
    click.echo(f"Added topic {slug}.")


# Keys and links.

key_group = Group("api-key", help="Keys of sending systems.")


@key_group.command("create")
@click.argument("name")
def key_create(name: str) -> None:
    """Make a key for the system NAME and print it, once, alone on a line.

    \b
    Example:
      SHOP_KEY=$(flask api-key create shop)
    """
    from preferences.store.keys import create_key

    with plain_errors():
        click.echo(current_site().database.save(create_key, name, datetime.now(UTC)))


links_group = Group("links", help="Signed links.")


@links_group.command("mint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topic", default=BLANKET, show_default=True, help="What the link stops; * is everything.")
@click.option("--channel", type=_choice(Channel), default=Channel.EMAIL.value, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; else standard output.")
def links_mint(file: Path, topic: str, channel: str, output: Path | None) -> None:
    """Read a CSV FILE with a column `address`, and write it with `unsubscribe_url` and `manage_url` added.

    \b
    Example:
      flask links mint contacts.csv --topic product-news --output contacts-with-links.csv
    """
    from preferences.minting import mint

    if output is not None and not output.parent.is_dir():
        fail(f"there is no folder {output.parent}")
    with plain_errors(), progress_bar("Links") as progress:
        text = mint(current_site(), file, topic=topic, channel=Channel(channel), progress=progress)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        fail(f"{output} cannot be written ({error.strerror})")
    click.echo(f"Wrote {output}.")


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check every row and write nothing.")
@with_appcontext
def import_command(file: Path, dry_run: bool) -> None:
    """Bring in contacts and opt-outs from a CSV FILE; an opt-out that stands is never undone by it.

    Columns: address, channel, topic, status, occurred_at, source, reason, evidence. Only `address` is needed. A row
    with a wrong value stops the import before anything is written. The same file twice is the same as once.

    \b
    Example:
      flask import contacts.csv --dry-run
      flask import contacts.csv
    """
    from preferences.importing import check, import_file
    from preferences.store import queries

    site = current_site()
    with plain_errors():
        catalog = site.database.read(queries.catalog)
        total = check(file, catalog)
        if dry_run:
            click.echo(f"{total} rows are fine. Nothing was written.")
            return
        with progress_bar("Import", total) as progress:
            counts = import_file(
                file, catalog, database=site.database, fingerprints=site.fingerprints, progress=progress
            )
    click.echo(
        f"{counts.rows} rows: {counts.created} new contacts, {counts.changed} changes,"
        f" {counts.unchanged} that changed nothing (known already, or older than what counts)."
    )


# Looking and proving.


@click.command("explain", cls=Command)
@click.argument("address")
@click.option("--channel", type=_choice(Channel), default=Channel.EMAIL.value, show_default=True)
@with_appcontext
def explain(address: str, channel: str) -> None:
    """Say what may be sent to ADDRESS, and every entry that led there.

    \b
    Example:
      flask explain jane@example.com
    """
    from preferences.explaining import explanation

    with plain_errors():
        for line in explanation(current_site(), read_address(Channel(channel), address)):
            click.echo(line)


ledger_group = Group("ledger", help="The record of every act.")


@ledger_group.command("verify")
def ledger_verify() -> None:
    """Recompute every hash and the whole projection. Exit code 1, and the entry, if anything differs.

    \b
    Example:
      flask ledger verify
    """
    from preferences.store.proof import verify

    with plain_errors(), progress_bar("Verify", unit="entries") as progress:
        report = current_site().database.snapshot(verify, progress)
    for problem in report.problems:
        click.echo(problem, err=True)
    if report.problems:
        fail("the ledger does not verify; see above")
    click.echo(
        f"{report.entries} entries form one chain; {report.preferences} preferences and"
        f" {report.suppressions} suppressions are what they add up to."
    )


# Sync.


@click.command("worker", cls=Command)
@with_appcontext
def worker() -> None:
    """Keep every connector in step until stopped. Run any number of them.

    \b
    Example:
      flask worker
    """
    from preferences.worker import Worker

    site = current_site()
    with plain_errors():
        loop = Worker(site.database, [make_connector(one) for one in site.connectors.values()], site.fingerprints)
        loop.stop_on_signals()
        loop.run()


def _connector(site: Site, name: str) -> Connector:
    settings = site.connectors.get(name)
    if settings is None:
        known = ", ".join(site.connectors) or "none"
        fail(f"there is no connector {name} in {site.settings.config_file}; there are: {known}")
    return make_connector(settings)


@click.command("reconcile", cls=Command)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Compare, say what differs, and change nothing on either side.")
@with_appcontext
def reconcile(name: str, dry_run: bool) -> None:
    """Hold the suppression list of connector NAME against ours, and mend both in the safe direction.

    \b
    Example:
      flask reconcile sendgrid --dry-run
    """
    from preferences import sync
    from preferences.store import cursors
    from preferences.worker import owner_name

    site = current_site()
    connector = _connector(site, name)
    with plain_errors(), progress_bar("Compare") as progress:
        if dry_run:
            drift = sync.compare(site.database, connector, progress)
        else:
            site.database.save(cursors.start, name)
            site.database.save(cursors.resume, name)
            drift = sync.reconcile(
                site.database,
                connector,
                owner=owner_name(),
                fingerprints=site.fingerprints,
                now=datetime.now(UTC),
                progress=progress,
            )
    _show_drift(site, drift, dry_run=dry_run)


def _show_drift(site: Site, drift: Any, *, dry_run: bool) -> None:
    for push in drift.missing_there:
        click.echo(f"missing there: {site.fingerprints.of(push.address)[:10]}…  {push.list_ref}")
    for row in drift.missing_here:
        click.echo(f"missing here:  {site.fingerprints.of(row.address)[:10]}…  {row.list_ref}  {row.kind}")
    if drift.unmapped:
        click.echo(f"{drift.unmapped} rows are on lists that map to no topic; they were left alone.")
    verdict = "Nothing was changed." if dry_run else "Both sides were mended."
    click.echo(f"Drift: {drift.count}. {verdict if drift.count else 'Both sides agree.'}")


@click.command("connectors", cls=Command)
@with_appcontext
def connectors() -> None:
    """Show each connector: state, lag, contacts it refused, last success, drift.

    \b
    Example:
      flask connectors
    """
    from preferences.store import cursors, queries

    site = current_site()
    with plain_errors():
        head = site.database.read(queries.head_seq)
        for name in site.connectors:
            cursor = site.database.read(cursors.find_cursor, name)
            parked = site.database.read(cursors.count_parked, name)
            click.echo(_connector_line(name, cursor, head, parked))
    if not site.connectors:
        click.echo(f"There are no connectors in {site.settings.config_file}.")


def _connector_line(name: str, cursor: Any, head: int, parked: int) -> str:
    if cursor is None:
        return f"{name}: never ran; start `flask worker`"
    state = f"paused ({cursor.paused_because})" if cursor.paused_because else "running"
    if cursor.failures and not cursor.paused_because:
        state = f"waiting after {cursor.failures} failures ({cursor.last_error})"
    success = cursor.last_success_at.isoformat(timespec="seconds") if cursor.last_success_at else "never"
    return (
        f"{name}: {state}; {head - cursor.position} entries behind; {parked} contacts refused;"
        f" last success {success}; drift {'unknown' if cursor.drift is None else cursor.drift}"
    )


@click.command("resume", cls=Command)
@click.argument("name")
@with_appcontext
def resume(name: str) -> None:
    """Start a paused connector NAME again, after what was wrong has been mended.

    \b
    Example:
      flask resume sendgrid
    """
    from preferences.store import cursors

    site = current_site()
    _connector(site, name)
    with plain_errors():
        site.database.save(cursors.resume, name)
    click.echo(f"{name} will go on within a second of the worker's next look.")


@click.command("doctor", cls=Command)
@with_appcontext
def doctor() -> None:
    """Look at everything that must be right, and say what is not. Exit code 1 if anything is wrong.

    \b
    Example:
      flask doctor
    """
    from preferences.doctor import examine

    findings = examine(current_site())
    for finding in findings:
        click.echo(f"{finding.mark}  {finding.rule}  {finding.text}")
    if any(finding.is_wrong for finding in findings):
        sys.exit(1)
