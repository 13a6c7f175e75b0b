"""Commands to export and restore everything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from flask.cli import with_appcontext

from preferences.cli.common import FOR_SPREADSHEETS, Command, check_output, fail, plain_errors, progress_bar
from preferences.current import current_services
from preferences.services import Services


def target(path: Path, *, force: bool) -> Path:
    """The output file; in a folder, named by date. Existing files are kept without `force`."""
    if path.is_dir():
        path = path / f"preferences-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip"
    check_output(path, force=force)
    return path


@click.command("export", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--for-spreadsheets", is_flag=True, help=f"In a .csv. {FOR_SPREADSHEETS}")
@with_appcontext
def export_command(file: Path, force: bool, for_spreadsheets: bool) -> None:
    """Write everything on record to FILE: a .zip of all, or a .csv of what holds now, which `flask import` reads.

    The .zip has contacts, choices, suppressions, topics, wordings, and the ledger with its evidence; into an empty
    install, `flask import FILE.zip` puts back exactly what it was taken from. FILE may be a folder. It holds
    addresses: only you can read it.

    \b
    Example:
      flask export everything.zip
      flask export contacts.csv
    """
    path = target(file, force=force)
    if path.suffix not in {".zip", ".csv"}:
        fail("FILE must end in .zip (everything) or .csv (what holds now), or be a folder")
    if for_spreadsheets and path.suffix != ".csv":
        fail("--for-spreadsheets is for a .csv; a .zip is put back as it was")
    with plain_errors():
        if path.suffix == ".zip":
            _archive(current_services(), path, replace=force)
        else:
            _table(current_services(), path, replace=force, for_spreadsheets=for_spreadsheets)


def _archive(services: Services, path: Path, *, replace: bool) -> None:
    from preferences.importing.export import count_rows, write_archive

    with progress_bar("Export", services.database.snapshot(count_rows)) as progress:
        manifest = services.database.snapshot(
            write_archive, path, services.fingerprints, progress=progress, replace=replace
        )
    rows = manifest.rows
    click.echo(
        f"{path}: {rows['contacts.csv']} contacts, {rows['addresses.csv']} addresses, {rows['choices.csv']} choices,"
        f" {rows['suppressions.csv']} suppressions, {manifest.head_seq} entries."
    )


def _table(services: Services, path: Path, *, replace: bool, for_spreadsheets: bool) -> None:
    from preferences.importing.export import write_csv
    from preferences.store.current_state import count_left_out, count_state_rows

    with progress_bar("Export", services.database.snapshot(count_state_rows)) as progress:
        rows = services.database.snapshot(
            write_csv, path, progress=progress, replace=replace, for_spreadsheets=for_spreadsheets
        )
    left = services.database.snapshot(count_left_out)
    click.echo(f"{path}: {rows} rows.")
    if left.choices or left.paces or left.fingerprints:
        click.echo(
            f"A CSV has no place for {left.paces} pauses and caps, {left.choices} choices about purposes or topics that"
            f" are no marketing, and {left.fingerprints} suppressed addresses known by fingerprint alone: a .zip has."
        )


def restore(file: Path, *, dry_run: bool) -> None:
    """Restore an export into an empty installation, for `flask import` of a .zip."""
    from preferences.importing import export

    services = current_services()
    with plain_errors():
        with progress_bar("Check") as progress:
            manifest = export.check(file, services.fingerprints, progress=progress)
        if dry_run:
            click.echo(f"The export is whole, with {manifest.head_seq} entries. Nothing was written.")
            return
        with progress_bar("Restore", sum(manifest.rows.values()) + manifest.head_seq) as progress:
            export.restore(file, services.database, progress=progress)
    click.echo(
        f"{manifest.rows['contacts.csv']} contacts and {manifest.head_seq} entries are back, and the ledger verifies."
    )
