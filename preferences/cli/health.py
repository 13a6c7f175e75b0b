"""The command that looks at everything."""

from __future__ import annotations

import sys

import click
from flask.cli import with_appcontext

from preferences.cli.common import Command
from preferences.site import current_site


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
