"""`flask ledger`."""

from __future__ import annotations

from pathlib import Path

import click

from preferences.cli.common import Group, fail, plain_errors, progress_bar
from preferences.current import current_services

ledger_group = Group("ledger", help="The record of every act.")


@ledger_group.command("verify")
def ledger_verify() -> None:
    """Recompute every hash and the whole projection. Exit code 1, and the entry, if anything differs.

    The wordings that people were shown and the evidence of each act are held against the entries that name them.
    Evidence that was erased is counted and is no error: its entry still proves that there was some.

    \b
    Example:
      flask ledger verify
    """
    from preferences.ledger.verify import verify

    with plain_errors(), progress_bar("Verify", unit="entries") as progress:
        report = current_services().database.snapshot(verify, progress)
    for problem in report.problems:
        click.echo(problem, err=True)
    if report.problems:
        fail("the ledger does not verify; see above")
    click.echo(
        f"{report.entries} entries form one chain; {report.preferences} preferences, {report.limits} pauses and caps"
        f" and {report.suppressions} suppressions are what they add up to."
    )
    click.echo(
        f"{report.wordings} wordings and the evidence of {report.evidence} entries are as they were recorded; the"
        f" evidence of {report.erased} is erased, and of {report.unsealed} is from before entries sealed it."
    )


@ledger_group.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def ledger_export(file: Path, force: bool) -> None:
    """Write every entry to FILE, a line of JSON each, with the hash that chains it to the one before.

    It holds no address: docs/feed.md says how anybody can check it without this program. FILE.gz is packed.

    \b
    Example:
      flask ledger export ledger.jsonl
    """
    from preferences.cli.export import target
    from preferences.importing.export import write_ledger
    from preferences.store.feed import head_seq

    path, database = target(file, force=force), current_services().database
    with plain_errors(), progress_bar("Export", database.read(head_seq), unit="entries") as progress:
        entries = database.snapshot(write_ledger, path, progress=progress, replace=force)
    click.echo(f"{path}: {entries} entries.")
