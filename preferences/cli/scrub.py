"""`flask scrub`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from preferences.cli.common import FOR_SPREADSHEETS, Command, check_output, choice, fail, plain_errors, progress_bar
from preferences.current import current_services
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.sending.scrub.table import Encoding

if TYPE_CHECKING:
    from preferences.sending.scrub.run import Counts, Files

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("scrub", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topic", required=True, help="What the mailing is about.")
@click.option("--channel", type=choice(Channel), required=True, help="How it travels.")
@click.option(
    "--class", "message_class", type=choice(MessageClass), help="What kind of mail; the topic's own if not given."
)
@click.option("--brand", help="Whose purpose it is, such as @tracking; the first brand's if not given.")
@click.option("--column", help="The column of the addresses, where the header does not say.")
@click.option("--kept", type=FILE, help="Where those who may be written to go; FILE.kept.csv if not given.")
@click.option("--removed", type=FILE, help="Where the others go, each with the reason; FILE.removed.csv if not given.")
@click.option("--encoding", type=choice(Encoding), default=Encoding.AUTO.value, show_default=True)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--for-spreadsheets", is_flag=True, help=FOR_SPREADSHEETS)
@with_appcontext
def scrub_command(
    file: Path,
    topic: str,
    channel: str,
    message_class: str | None,
    brand: str | None,
    column: str | None,
    kept: Path | None,
    removed: Path | None,
    encoding: str,
    force: bool,
    for_spreadsheets: bool,
) -> None:
    """Sort a CSV FILE into those who may be sent a mailing now and those who may not.

    The file may be compressed (gzip), in UTF-8, UTF-16 or Latin-1, with its columns in any order. Rows that are kept
    stay as they are; the others get two columns, `reason` and `rule`. Files of any size take the same little memory.
    Nobody's place in their week is taken. Do it again when you send: whoever leaves meanwhile is not in this file.

    \b
    Example:
      flask scrub customers.csv --topic product-news --channel email
    """
    from preferences.sending.decide import message_about
    from preferences.sending.scope import catalog_for, get_topic
    from preferences.sending.scrub.run import Files, scrub

    services = current_services()
    files = Files(
        source=file,
        kept=kept or beside(file, "kept"),
        removed=removed or beside(file, "removed"),
        column=column,
        encoding=Encoding(encoding),
        replace=force,
        for_spreadsheets=for_spreadsheets,
    )
    _check_outputs(files, force=force)
    with plain_errors(), progress_bar("Scrub", file.stat().st_size, unit="bytes") as progress:
        catalog = catalog_for(services, topic)
        about = get_topic(catalog, topic, channel=Channel(channel), brand=brand, purposes=True)
        message = message_about(
            about, Channel(channel), message_class=MessageClass(message_class) if message_class else None
        )
        counts = scrub(services, files, message, progress=progress)
    _tell(files, counts)


def _tell(files: Files, counts: Counts) -> None:
    click.echo(f"As of entry {counts.as_of}: {counts.kept:,} rows may be written to and are in {files.kept.name}.")
    end = ":" if counts.removed else "."
    click.echo(f"{counts.removed.total():,} may not and are in {files.removed.name}{end}")
    for reason, number in counts.removed.most_common():
        click.echo(f"  {reason}: {number:,}")
    if counts.translated:
        click.echo("The file is in UTF-16; what was written is in UTF-8.")
    elif counts.encodings:
        click.echo(f"Read as {' and '.join(sorted(counts.encodings))}.")


def beside(file: Path, word: str) -> Path:
    """An output's name: `customers.csv.gz` gives `customers.kept.csv.gz`."""
    compressed = ".gz" if file.suffix == ".gz" else ""
    stem = file.name.removesuffix(compressed).removesuffix(".csv")
    return file.with_name(f"{stem}.{word}.csv{compressed}")


def _check_outputs(files: Files, *, force: bool) -> None:
    outputs = [files.kept, files.removed]
    if len({files.source.resolve(), *(path.resolve() for path in outputs)}) < 3:
        fail("the file and the two that are written must be three different ones")
    for path in outputs:
        check_output(path, force=force)
