"""Commands for API keys and signed links."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from preferences.cli.common import Group, choice, fail, plain_errors, progress_bar
from preferences.domain.terms import BLANKET, Channel
from preferences.site import current_site

key_group = Group("api-key", help="Keys of sending systems.")


@key_group.command("create")
@click.argument("name")
def key_create(name: str) -> None:
    """Make a key for the system NAME and print it, once, alone on a line.

    \b
    Example:
      SHOP_KEY=$(flask api-key create shop)
    """
    from preferences.store.keys import create_key

    with plain_errors():
        click.echo(current_site().database.save(create_key, name, datetime.now(UTC)))


links_group = Group("links", help="Signed links.")


@links_group.command("mint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topic", default=BLANKET, show_default=True, help="What the link stops; * is everything.")
@click.option("--brand", help="Whose mail * stops; the first brand's if not given.")
@click.option("--channel", type=choice(Channel), default=Channel.EMAIL.value, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; else standard output.")
def links_mint(file: Path, topic: str, brand: str | None, channel: str, output: Path | None) -> None:
    """Read a CSV FILE with a column `address`, and write it with `unsubscribe_url` and `manage_url` added.

    \b
    Example:
      flask links mint contacts.csv --topic product-news --output contacts-with-links.csv
    """
    from preferences.minting import mint

    if output is not None and not output.parent.is_dir():
        fail(f"there is no folder {output.parent}")
    with plain_errors(), progress_bar("Links") as progress:
        text = mint(current_site(), file, topic=topic, brand=brand, channel=Channel(channel), progress=progress)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        fail(f"{output} cannot be written ({error.strerror})")
    click.echo(f"Wrote {output}.")
