"""Commands for the worker and the connectors."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import with_appcontext

from preferences.cli.common import Command, Group, fail, plain_errors, progress_bar
from preferences.connectors import make_connector, require_own_topics
from preferences.connectors.base import Connector
from preferences.current import current_services
from preferences.services import Services
from preferences.store.transactions import Read


@click.command("worker", cls=Command)
@with_appcontext
def worker() -> None:
    """Keep every connector and every feed in step until stopped. Run any number of them.

    \b
    Example:
      flask worker
    """
    from preferences.mail.outbox import OutboxWorker
    from preferences.sync.worker import make_worker

    services = current_services()
    with plain_errors():
        loop = make_worker(services, tasks=[OutboxWorker(services)])
        loop.stop_on_signals()
        loop.run()


def _connector(services: Services, name: str) -> Connector:
    settings = services.connectors.get(name)
    if settings is None:
        known = ", ".join(services.connectors) or "none"
        fail(f"there is no connector {name} in {services.settings.config_file}; there are: {known}")
    with plain_errors():
        require_own_topics(settings, services.catalog.get().topics)
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
    from preferences.store import cursors
    from preferences.sync import reconcile as comparison
    from preferences.sync.worker import owner_name

    services = current_services()
    connector = _connector(services, name)
    with plain_errors(), progress_bar("Compare") as progress:
        if dry_run:
            drift = comparison.compare(services.database, connector, progress)
            # A connector that never ran has no row for it.
            services.database.save(cursors.compared, name, drift.count, datetime.now(UTC))
        else:
            services.database.save(cursors.start, name)
            services.database.save(cursors.resume, name)
            drift = comparison.reconcile(
                services.database,
                connector,
                owner=owner_name(),
                fingerprints=services.fingerprints,
                now=datetime.now(UTC),
                progress=progress,
            )
    _show_drift(services, drift, dry_run=dry_run)


def _show_drift(services: Services, drift: Any, *, dry_run: bool) -> None:
    from preferences.store import contacts

    addresses = [row.address for row in drift.missing_here]
    with plain_errors():
        whose = services.database.read(contacts.find_addresses, addresses, services.fingerprints)
    for push in drift.missing_there:
        click.echo(f"missing there: {push.contact_id}  {push.list_ref}")
    for row in drift.missing_here:
        contact = whose[row.address].contact_id if row.address in whose else "nobody whom we know"
        click.echo(f"missing here:  {contact}  {row.list_ref}  {row.kind}")
    if drift.unmapped:
        click.echo(f"{drift.unmapped} rows are on lists that map to no topic; they were left alone.")
    if drift.count:
        click.echo("`flask explain CONTACT` says what is on record about each.")
    click.echo(f"Drift: {drift.count}. {_verdict(drift, dry_run=dry_run)}")


def _verdict(drift: Any, *, dry_run: bool) -> str:
    if not drift.count:
        return "Both sides agree."
    if dry_run:
        return "Nothing was changed."
    left = f" Left: {drift.left}, which the provider refuses or a newer opt-in outweighs here." if drift.left else ""
    return f"Both sides were mended.{left}"


@click.command("backfill", cls=Command)
@click.argument("name")
@with_appcontext
def backfill(name: str) -> None:
    """Tell the provider of connector NAME every opt-out and suppression that stands. Nobody is signed up by it.

    For a new connector, or one whose lists were lost. It may be stopped and started again at any time.

    \b
    Example:
      flask backfill sendgrid
    """
    from preferences.sync import reconcile as comparison
    from preferences.sync.worker import owner_name

    services = current_services()
    connector = _connector(services, name)
    with plain_errors(), progress_bar("Tell", unit="contacts") as progress:
        pushed = comparison.backfill(services.database, connector, owner=owner_name(), progress=progress)
    click.echo(f"{name} was told of {pushed} opt-outs and suppressions.")


@click.group("connectors", cls=Group, invoke_without_command=True)
@click.pass_context
@with_appcontext
def connectors(context: click.Context) -> None:
    """Show each connector: state, lag, contacts it refused, what it was told, last success, drift; and whether any
    worker is alive.

    \b
    Example:
      flask connectors
      flask connectors check sendgrid
    """
    from preferences.store import cursors

    if context.invoked_subcommand is not None:
        return
    services = current_services()
    with plain_errors():
        statuses = services.database.read(cursors.statuses, datetime.now(UTC))
        workers_line = services.database.read(_workers_line) if statuses else ""
    for name in services.connectors:
        click.echo(_connector_line(name, statuses.get(name)))
    if services.connectors and workers_line:
        click.echo(workers_line)
    if not services.connectors:
        click.echo(f"There are no connectors in {services.settings.config_file}.")


def _workers_line(read: Read) -> str:
    """Empty while a worker is alive."""
    from preferences.store import workers

    if workers.count_alive(read, datetime.now(UTC)):
        return ""
    seen = workers.last_seen(read)
    when = f"the last was seen at {seen.isoformat(timespec='seconds')}" if seen else "start `flask worker`"
    return f"No worker is alive; {when}."


def _connector_line(name: str, status: Any) -> str:
    if status is None:
        return f"{name}: never ran; start `flask worker`"
    cursor = status.cursor
    success = cursor.last_success_at.isoformat(timespec="seconds") if cursor.last_success_at else "never"
    return (
        f"{name}: {status.words}; {status.entries_behind} entries behind, {status.seconds_behind:.0f} s;"
        f" {status.parked} contacts refused; {cursor.pushed} pushes, {cursor.failed} failures;"
        f" last success {success}; last error {status.error_class or 'none'};"
        f" drift {_drift_words(cursor)}"
    )


def _drift_words(cursor: Any) -> str:
    words = "unknown" if cursor.drift is None else str(cursor.drift)
    if cursor.compared_at:
        words += f" at {cursor.compared_at.isoformat(timespec='seconds')}"
    if cursor.compare_failures:
        words += f", and {cursor.compare_failures} comparisons failed since ({cursor.compare_error})"
    return words


@connectors.command("check")
@click.argument("name")
@with_appcontext
def check(name: str) -> None:
    """Look at connector NAME: settings, mapping, webhook secret, and a dry call to the provider with its key.

    \b
    Example:
      flask connectors check sendgrid
    """
    from preferences.checks.doctor import examine_connector

    services = current_services()
    if name not in services.connectors:
        _connector(services, name)
    with plain_errors():
        findings = list(examine_connector(services, name))
    for finding in findings:
        click.echo(f"{finding.mark}  {finding.rule}  {finding.text}")
    if any(finding.is_wrong for finding in findings):
        sys.exit(1)


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

    services = current_services()
    _connector(services, name)
    with plain_errors():
        services.database.save(cursors.resume, name)
    click.echo(f"{name} will go on within a second of the worker's next look.")
