"""`flask links`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import click

from preferences.cli.common import (
    FOR_SPREADSHEETS,
    Group,
    check_output,
    choice,
    encoding_of,
    plain_errors,
    progress_bar,
)
from preferences.current import current_services
from preferences.domain.vocabulary import BLANKET, Channel
from preferences.files.atomic import atomic_write

links_group = Group("links", help="Signed links.")


@links_group.command("mint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topic", default=BLANKET, show_default=True, help="What the link stops; * is everything.")
@click.option("--brand", help="Whose mail * stops; the first brand's if not given.")
@click.option("--channel", type=choice(Channel), default=Channel.EMAIL.value, show_default=True)
@click.option("--column", help="The column of the addresses, where the header does not say.")
@click.option(
    "--encoding", default="utf-8-sig", callback=encoding_of, help="Such as latin-1; UTF-8 if nothing is said."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; else standard output.")
@click.option("--force", is_flag=True, help="Write over the file of --output.")
@click.option("--for-spreadsheets", is_flag=True, help=FOR_SPREADSHEETS)
def links_mint(
    file: Path,
    topic: str,
    brand: str | None,
    channel: str,
    column: str | None,
    encoding: str,
    output: Path | None,
    force: bool,
    for_spreadsheets: bool,
) -> None:
    """Read a CSV FILE (gzip too) of addresses, and write it with a link to unsubscribe, a link to choose, and the list
    headers added to each row.

    \b
    Example:
      flask links mint contacts.csv --topic product-news --output contacts-with-links.csv
    """
    from preferences.sending.mint import MintOptions, count_rows, mint
    from preferences.sending.scope import catalog_for, check_choosable, resolve

    if output is not None:
        check_output(output, force=force, source=file)
    options = MintOptions(column=column, encoding=encoding, for_spreadsheets=for_spreadsheets)
    services = current_services()
    with plain_errors():
        scope = resolve(catalog_for(services, topic), Channel(channel), topic=topic, brand=brand)
        check_choosable(scope.topic)
        total = count_rows(file, scope.channel, options)
        with _written(output, replace=force) as out, progress_bar("Links", total) as progress:
            mint(services, file, scope, options=options, out=out, progress=progress)
    if output is not None:
        click.echo(f"Wrote {output}.")


@contextmanager
def _written(output: Path | None, *, replace: bool) -> Iterator[TextIO]:
    """An atomically written file, or standard output."""
    if output is None:
        yield sys.stdout
        return
    with atomic_write(output, replace=replace) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()
