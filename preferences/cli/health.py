"""`flask doctor`."""

from __future__ import annotations

import sys
from typing import Final

import click
from flask.cli import with_appcontext

from preferences.cli.common import Command, fail
from preferences.current import current_services

PUBLIC_MARK: Final = "pub "


@click.command("doctor", cls=Command)
@click.option("--local", is_flag=True, help="For a trial on this machine: what matters in public alone is no fault.")
@with_appcontext
def doctor(local: bool) -> None:
    """Look at everything that must be right, and say what is not. Exit code 1 if anything is wrong.

    With --local, a site at http://localhost is not held to what only matters once others can reach it.

    \b
    Example:
      flask doctor
      flask doctor --local
    """
    from preferences.checks.doctor import examine

    services = current_services()
    if local and not services.settings.is_local:
        fail("--local is for a trial at http://localhost, and PUBLIC_URL is another host; leave it out")
    findings = examine(services)
    later = [finding for finding in findings if local and finding.public_only]
    for finding in findings:
        click.echo(f"{PUBLIC_MARK if finding in later else finding.mark}  {finding.rule}  {finding.text}")
    if later:
        click.echo(f"{PUBLIC_MARK.strip()}: fix before going public; `flask doctor` alone counts it.")
    if any(finding.is_wrong and finding not in later for finding in findings):
        sys.exit(1)
