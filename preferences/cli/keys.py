"""`flask api-key`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from preferences.cli.common import Group, choice, plain_errors
from preferences.current import current_services
from preferences.domain.vocabulary import DEFAULT_SCOPES, KeyScope

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

key_group = Group("api-key", help="Keys of sending systems.")


def name_of(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check a key's name, which its entries in the ledger bear."""
    if not NAME.fullmatch(value):
        raise click.BadParameter("use letters, digits, dots, hyphens and underscores, such as shop", param=parameter)
    return value


@key_group.command("create")
@click.argument("name", callback=name_of)
@click.option(
    "--scope",
    "scopes",
    type=choice(KeyScope),
    multiple=True,
    help="What it may do; give it again for each. All but `returns`, `hand-offs` and `unsuppress` if not given.",
)
def key_create(name: str, scopes: Sequence[str]) -> None:
    """Make a key for the system NAME and print it, once, alone on a line.

    With the scope `returns`, a yes that the system tells may turn a no into a yes: only for a system at which people
    say so themselves, such as a signed-in account page. With `hand-offs`, it can sign in as anybody here: only for the
    system that has signed them in already. Who comes by it opts in at once only if the key has `returns`, too. With
    `unsuppress` it may lift suppressions.

    \b
    Example:
      SHOP_KEY=$(flask api-key create shop --scope decisions --scope links)
    """
    from preferences.store.api_keys import create_key

    wanted = frozenset(map(KeyScope, scopes)) or DEFAULT_SCOPES
    with plain_errors():
        click.echo(current_services().database.save(create_key, name, datetime.now(UTC), wanted))


@key_group.command("list")
def key_list() -> None:
    """Show every key: its name, what it may do, and whether it is valid. A key itself is never shown again.

    \b
    Example:
      flask api-key list
    """
    from preferences.store.api_keys import list_keys

    with plain_errors():
        keys = current_services().database.read(list_keys)
    now = datetime.now(UTC)
    for key in keys:
        state = "revoked" if key.revoked_at else "valid"
        if key.old_until and key.old_until > now and not key.revoked_at:
            state += f", and the one before until {key.old_until:%Y-%m-%d %H:%M} UTC"
        click.echo(f"{key.name}: {state}; made {key.created_at:%Y-%m-%d}; may {', '.join(sorted(key.scopes))}")
    if not keys:
        click.echo("There is no key yet; `flask api-key create NAME` makes one.")


@key_group.command("rotate")
@click.argument("name", callback=name_of)
@click.option(
    "--overlap", type=click.IntRange(0, 90), default=7, show_default=True, help="Days that the old key works on."
)
def key_rotate(name: str, overlap: int) -> None:
    """Make a new key in the place of NAME's and print it alone. The old one works on for a while.

    Watch `preferences_api_calls_total` with old_key="true" until it stands still: then nobody uses the old one.

    \b
    Example:
      flask api-key rotate shop --overlap 14
    """
    from preferences.store.api_keys import rotate_key

    with plain_errors():
        click.echo(current_services().database.save(rotate_key, name, datetime.now(UTC), timedelta(days=overlap)))


@key_group.command("revoke")
@click.argument("name", callback=name_of)
def key_revoke(name: str) -> None:
    """End the key NAME at once and for good, and the one that it took the place of.

    \b
    Example:
      flask api-key revoke shop
    """
    from preferences.store.api_keys import revoke_key

    with plain_errors():
        current_services().database.save(revoke_key, name, datetime.now(UTC))
    click.echo(f"Key {name} is revoked.")
