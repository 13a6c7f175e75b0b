"""Commands to import contacts and explain decisions."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click
from flask.cli import with_appcontext

from preferences.address_parsing import read_address
from preferences.cli.common import (
    FOR_SPREADSHEETS,
    Command,
    check_output,
    choice,
    encoding_of,
    fail,
    plain_errors,
    progress_bar,
)
from preferences.cli.export import restore
from preferences.current import current_services
from preferences.domain.vocabulary import Channel

if TYPE_CHECKING:
    from preferences.importing import Source


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "tool", default="", metavar="TOOL", help="The program whose export FILE is, such as mailchimp.")
@click.option("--topic", default="", help="The topic that is meant by rows that name none.")
@click.option("--map", "mapping", multiple=True, metavar="NAME=TOPIC", help="Which topic a name in the export means.")
@click.option("--dry-run", is_flag=True, help="Check every row and write nothing.")
@click.option(
    "--rejects", type=click.Path(dir_okay=False, path_type=Path), help="Put wrong rows there and take the others."
)
@click.option(
    "--encoding", default="utf-8-sig", callback=encoding_of, help="Such as latin-1; UTF-8 if nothing is said."
)
@click.option("--column", default="", help="The column of the addresses, where it has another name.")
@click.option("--force", is_flag=True, help="Write over the file of --rejects.")
@click.option("--for-spreadsheets", is_flag=True, help=f"In the file of --rejects. {FOR_SPREADSHEETS}")
@with_appcontext
def import_command(
    file: Path,
    tool: str,
    topic: str,
    mapping: tuple[str, ...],
    dry_run: bool,
    rejects: Path | None,
    encoding: str,
    column: str,
    force: bool,
    for_spreadsheets: bool,
) -> None:
    """Bring in contacts and opt-outs from a CSV FILE; an opt-out that stands is never undone by it.

    Columns: address, channel, topic, status, occurred_at, source, reason, evidence, brand. Only `address` is needed. A
    row with a wrong value stops the import before anything is written, unless --rejects names a file for such rows.
    FILE may be packed with gzip. The same file twice is the same as once, so an import that was interrupted is run
    again. The .zip of `flask export` is put back whole, into an empty install.

    \b
    Example:
      flask import contacts.csv --dry-run
      flask import contacts.csv --rejects wrong.csv
      flask import members.csv --from mailchimp --topic product-news
    """
    from preferences.importing import check, prepared, record, rejects_to
    from preferences.importing.export import is_archive
    from preferences.store.catalog import read_catalog

    if is_archive(file):
        restore(file, dry_run=dry_run)
        return
    if rejects is not None:
        check_output(rejects, force=force, source=file)
    services = current_services()
    source = replace(_source(tool, topic, encoding, mapping), column=column)
    with plain_errors(), rejects_to(rejects, replace=force, for_spreadsheets=for_spreadsheets) as reject:
        catalog = services.database.read(read_catalog)
        if dry_run:
            with progress_bar("Check") as progress:
                counts = check(file, catalog, source=source, progress=progress, reject=reject)
            click.echo(f"{counts.rows} rows are fine{_rejected(counts.rejected)}. Nothing was written.")
            return
        with ExitStack() as checking:
            progress = checking.enter_context(progress_bar("Check"))
            laying = prepared(
                file, catalog, source=source, fingerprint_of=services.fingerprints.of, progress=progress, reject=reject
            )
            with laying as laid:
                checking.close()
                with progress_bar("Import", laid.rows) as progress:
                    counts = record(laid, services.database, fingerprints=services.fingerprints, progress=progress)
    click.echo(
        f"{counts.rows} rows: {counts.created} new contacts, {counts.changed} changes,"
        f" {counts.unchanged} that changed nothing (known already, or older than what counts)"
        f"{_rejected(counts.rejected)}."
    )


def _rejected(count: int) -> str:
    return f"; {count} rejected" if count else ""


def _source(tool: str, topic: str, encoding: str, mapping: tuple[str, ...]) -> Source:
    from preferences.importing import Source
    from preferences.importing.formats import Options

    pairs = [option.rpartition("=") for option in mapping]
    if not all(name and slug for name, _, slug in pairs):
        fail('--map: write it like "Weekly letter=product-news"')
    options = Options(topic=topic, mapping={name: slug for name, _, slug in pairs})
    return Source(tool.lower(), options, encoding)


@click.command("explain", cls=Command)
@click.argument("address", metavar="ADDRESS|CONTACT")
@click.option("--channel", type=choice(Channel), default=Channel.EMAIL.value, show_default=True)
@with_appcontext
def explain(address: str, channel: str) -> None:
    """Say what may be sent to ADDRESS, and every entry that led there.

    CONTACT is a contact's id, such as `flask reconcile` names: each of the contact's addresses is explained.

    \b
    Example:
      flask explain jane@example.com
      flask explain 01a20aa5-a2d8-7f70-a5ee-e27cc6126578
    """
    from preferences.sending.explain import explanation, explanation_of_contact

    with plain_errors():
        contact_id = _contact_id(address)
        if contact_id is None:
            lines = explanation(current_services(), read_address(Channel(channel), address))
        else:
            lines = explanation_of_contact(current_services(), contact_id)
        for line in lines:
            click.echo(line)


def _contact_id(text: str) -> UUID | None:
    try:
        return UUID(text) if "-" in text else None
    except ValueError:
        return None
