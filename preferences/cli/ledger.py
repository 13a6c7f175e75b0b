"""Commands that prove the ledger."""

from __future__ import annotations

import click

from preferences.cli.common import Group, fail, plain_errors, progress_bar
from preferences.site import current_site

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
        f"{report.entries} entries form one chain; {report.preferences} preferences, {report.paces} pauses and caps"
        f" and {report.suppressions} suppressions are what they add up to."
    )
