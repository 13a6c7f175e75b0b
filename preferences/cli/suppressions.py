"""`flask unsuppress`."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from preferences.address_parsing import read_address
from preferences.cli.common import Command, choice, plain_errors
from preferences.current import current_services
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Channel, SuppressionReason


@click.command("unsuppress", cls=Command)
@click.argument("address")
@click.option("--reason", required=True, type=choice(SuppressionReason), help="The suppression that ends.")
@click.option("--because", required=True, help="Why, in words: it stands in the ledger's evidence.")
@click.option("--channel", type=choice(Channel), default=Channel.EMAIL.value, show_default=True)
@with_appcontext
def unsuppress(address: str, reason: str, because: str, channel: str) -> None:
    """Let ADDRESS be written to again after a bounce, a complaint, an invalid address or a legal hold.

    Ends one suppression, and neither another one nor an opt-out. A newer report suppresses the address again. The
    worker takes it off at the platforms that allow it. What was erased, a child's, or put away by its owner is not
    lifted.

    \b
    Example:
      flask unsuppress jane@example.com --reason hard_bounce --because "Her mailbox was full; she wrote on 3 June."
    """
    from preferences.sending.suppressions import unsuppress as end_suppression

    wanted = SuppressionReason(reason)
    with plain_errors():
        who = read_address(Channel(channel), address)
        entry, left = end_suppression(current_services(), who, wanted, because=because)
    click.echo(f"Lifted {wanted} (reference {reference_of(entry.hash)}).")
    if left:
        click.echo(f"Still suppressed for {', '.join(sorted(left))}.")
