"""Commands about people: bring them in, and say why they may or may not be written to."""

from __future__ import annotations

from pathlib import Path

import click
from flask.cli import with_appcontext

from preferences.cli.common import Command, choice, plain_errors, progress_bar
from preferences.domain.addresses import read_address
from preferences.domain.terms import Channel
from preferences.site import current_site


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check every row and write nothing.")
@with_appcontext
def import_command(file: Path, dry_run: bool) -> None:
    """Bring in contacts and opt-outs from a CSV FILE; an opt-out that stands is never undone by it.

    Columns: address, channel, topic, status, occurred_at, source, reason, evidence, brand. Only `address` is needed. A
    row with a wrong value stops the import before anything is written. The same file twice is the same as once.

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
@click.option("--channel", type=choice(Channel), default=Channel.EMAIL.value, show_default=True)
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
