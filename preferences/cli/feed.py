"""`flask feed`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from preferences.cli.common import Group, fail, plain_errors
from preferences.current import current_services
from preferences.services import Services

if TYPE_CHECKING:
    from preferences.config import FeedSettings
    from preferences.store.cursors import ConnectorStatus

feed_group = Group("feed", help="Who is told of every entry of the ledger, by signed webhooks.")


def _feed(services: Services, name: str) -> FeedSettings:
    settings = services.feeds.get(name)
    if settings is None:
        known = ", ".join(services.feeds) or "none"
        fail(f"there is no feed {name} in {services.settings.config_file}; there are: {known}")
    return settings


@feed_group.command("list")
def feed_list() -> None:
    """Show each feed: state, lag, entries told, last success.

    \b
    Example:
      flask feed list
    """
    from preferences.store import cursors

    services = current_services()
    with plain_errors():
        statuses = services.database.read(cursors.statuses, datetime.now(UTC))
    for name, settings in services.feeds.items():
        click.echo(_line(name, statuses.get(settings.cursor)))
    if not services.feeds:
        click.echo(f"There are no feeds in {services.settings.config_file}.")


def _line(name: str, status: ConnectorStatus | None) -> str:
    if status is None:
        return f"{name}: never ran; start `flask worker`"
    cursor = status.cursor
    success = cursor.last_success_at.isoformat(timespec="seconds") if cursor.last_success_at else "never"
    return (
        f"{name}: {status.words}; at entry {cursor.position}, {status.entries_behind} behind,"
        f" {status.seconds_behind:.0f} s; {cursor.pushed} entries told, {cursor.failed} failures;"
        f" last success {success}"
    )


@feed_group.command("replay")
@click.argument("name")
@click.option("--after", type=click.IntRange(min=0), default=0, show_default=True, help="The last entry not to tell.")
def feed_replay(name: str, after: int) -> None:
    """Let feed NAME tell the ledger again from its beginning, or from what comes after an entry.

    The receiver knows an entry that it has already by its seq. A feed that was paused goes on.

    \b
    Example:
      flask feed replay warehouse
      flask feed replay warehouse --after 12000
    """
    from preferences.sync.feeds import replay

    services = current_services()
    settings = _feed(services, name)
    with plain_errors():
        count = replay(services.database, settings, after)
    click.echo(f"{name} will be told the {count} entries after {after}.")


@feed_group.command("resume")
@click.argument("name")
def feed_resume(name: str) -> None:
    """Start a paused feed NAME again where it stopped, after what was wrong has been mended.

    \b
    Example:
      flask feed resume warehouse
    """
    from preferences.store import cursors

    services = current_services()
    settings = _feed(services, name)
    with plain_errors():
        services.database.save(cursors.resume, settings.cursor)
    click.echo(f"{name} will go on within a second of the worker's next look.")
