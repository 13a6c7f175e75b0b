"""Commands for the worker and the connectors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import with_appcontext

from preferences.cli.common import Command, fail, plain_errors, progress_bar
from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.site import Site, current_site


@click.command("worker", cls=Command)
@with_appcontext
def worker() -> None:
    """Keep every connector in step until stopped. Run any number of them.

    \b
    Example:
      flask worker
    """
    from preferences.letters import Postman
    from preferences.tidying import Tidying
    from preferences.worker import Worker

    site = current_site()
    with plain_errors():
        connectors = [make_connector(one) for one in site.connectors.values()]
        loop = Worker(site.database, connectors, site.fingerprints, errands=[Postman(site), Tidying(site.database)])
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
