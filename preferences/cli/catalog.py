"""Commands for brands and topics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from flask import current_app

from preferences.address_parsing import is_contact_address
from preferences.cli.common import SLUG, Group, choice, fail, plain_errors, slug_of
from preferences.current import current_services, own_folders
from preferences.domain.plain_text import is_one_line
from preferences.domain.records import Brand, Topic
from preferences.domain.vocabulary import LANGUAGES, SHORTEST_FOLDER, Basis, Channel, Default, MessageClass, OneClick

DEFAULT_BRAND: Final = "default"
COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")


def _folder(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if not value:
        return value
    folder = value.strip("/")
    if not SLUG.fullmatch(folder) or len(folder) < SHORTEST_FOLDER:
        raise click.BadParameter("use two or more small letters, digits and hyphens, such as acme", param=parameter)
    return folder


def _host(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if not value:
        return value
    host = value.lower().rstrip(".")
    if not HOST.fullmatch(host):
        raise click.BadParameter(
            "give a host name alone, such as preferences.acme.example: no https://, no port", param=parameter
        )
    return host


def _colour(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value and not COLOUR.fullmatch(value.lower()):
        raise click.BadParameter("write it like #0b57d0", param=parameter)
    return value and value.lower()


def _line(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value and not is_one_line(value):
        raise click.BadParameter("must be one line of plain text, without control characters", param=parameter)
    return value


def _contact(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value and not is_contact_address(value):
        raise click.BadParameter(
            "give an e-mail address alone, such as help@acme.example: no name, no subject, no other recipients",
            param=parameter,
        )
    return value


brand_group = Group("brand", help="Whose name the mail bears.")


@brand_group.command("set")
@click.argument("slug", callback=slug_of)
@click.option("--name", callback=_line, help="The name that recipients know. A new brand needs one.")
@click.option("--postal-address", callback=_line, help="One line; the law wants it in every marketing mail.")
@click.option("--contact-email", callback=_contact, help="Where recipients can write to a person.")
@click.option(
    "--one-click",
    type=choice(OneClick),
    help="What one click in a mail program stops; a new brand begins with everything.",
)
@click.option("--host", callback=_host, help="The host of its own that its pages stand at; its DNS must lead here.")
@click.option("--path", callback=_folder, help="The folder that its pages stand in, such as acme.")
@click.option("--colour", callback=_colour, help="What its pages are painted in, such as #0b57d0.")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES, case_sensitive=False),
    help="What its pages speak to who asks for no language that we have; a new brand begins with en.",
)
def brand_set(slug: str, **options: str | None) -> None:
    """Add a brand, or change what is given of the one of this SLUG; "" empties it.

    \b
    Example:
      flask brand set acme --name "Acme" --path acme --colour "#0b57d0" --language es
    """
    from preferences.store.catalog import change_brand

    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if "one_click" in given:
        given["one_click"] = OneClick(given["one_click"])
    if not given:
        fail(f"nothing to set of {slug}: give --name or another option")
    if given.get("name") == "":
        fail("--name must not be empty: recipients must know whose mail it is")
    if given.get("path") in own_folders(current_app):
        fail(f"--path {given['path']} is a part of the site itself; take another name")
    services = current_services()
    if given.get("host") == services.settings.host:
        fail("--host is the host of PUBLIC_URL; brands that share it have a folder each (--path)")
    with plain_errors():
        made = services.database.save(change_brand, slug, given, datetime.now(UTC))
    click.echo(f"{'Made' if made else 'Changed'} brand {slug}.")


@brand_group.command("list")
def brand_list() -> None:
    """Show every brand: where its pages are, and what it has.

    \b
    Example:
      flask brand list
    """
    from preferences.store.catalog import read_catalog

    services = current_services()
    with plain_errors():
        catalog = services.database.read(read_catalog)
    rows = [_brand_row(services.url_of(brand), brand, catalog.topics.values()) for brand in catalog.brands.values()]
    _show(("SLUG", "NAME", "PAGES AT", "COLOUR", "LANGUAGE", "ONE CLICK STOPS", "TOPICS", "LACKS"), rows)


def _brand_row(url: str, brand: Brand, topics: Iterable[Topic]) -> tuple[str, ...]:
    lacks = [name for name in ("postal_address", "contact_email") if not getattr(brand, name)]
    return (
        brand.slug,
        brand.name,
        url,
        brand.colour,
        brand.language,
        brand.one_click.value,
        str(sum(topic.brand == brand.slug for topic in topics)),
        ", ".join(lacks).replace("_", " "),
    )


def _flag(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value and not SLUG.fullmatch(value):
        raise click.BadParameter("use small letters, digits and hyphens, such as wholesale", param=parameter)
    return value


def _arrangement(command: Callable[..., None]) -> Callable[..., None]:
    """Options on how and where a topic is offered."""
    for option in (
        click.option("--visible-to", callback=_flag, metavar="FLAG", help="Show it only to contacts with this flag."),
        click.option("--hidden/--offered", default=None, help="Offer it on no public page; links and decisions stay."),
        click.option("--default", type=choice(Default), help="What holds until a person says something about it."),
        click.option(
            "--section", callback=_line, help="The heading that it stands under, with others of the same section."
        ),
    ):
        command = option(command)
    return command


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    return given | ({"default": Default(given["default"])} if "default" in given else {})


topic_group = Group("topic", help="What people can choose.")


@topic_group.command("add")
@click.argument("slug", callback=slug_of)
@click.option("--class", "message_class", type=choice(MessageClass), required=True, help="What kind of mail it is.")
@click.option("--basis", type=choice(Basis), required=True, help="On what lawful ground it is sent.")
@click.option("--name", callback=_line, help="What recipients read; made from the slug if not given.")
@click.option("--description", callback=_line, default="", help="One plain line: what is in it.")
@click.option("--frequency", callback=_line, default="", help="How often, such as “about twice a month”.")
@click.option("--brand", default=DEFAULT_BRAND, show_default=True, help="Whose topic it is.")
@click.option(
    "--channel",
    "channels",
    type=choice(Channel),
    multiple=True,
    default=[Channel.EMAIL.value],
    show_default=True,
    help="How it travels; give it again for each further channel.",
)
@_arrangement
@click.option("--if-missing", is_flag=True, help="Do nothing, and succeed, when the topic is there already.")
def topic_add(
    slug: str,
    message_class: str,
    basis: str,
    name: str | None,
    description: str,
    frequency: str,
    brand: str,
    channels: Sequence[str],
    if_missing: bool,
    **options: Any,
) -> None:
    """Add a topic under its SLUG, which never changes afterwards.

    Its --default is on or off for marketing (off where the basis is consent, else on), and required for everything
    else: a topic that is always sent, for which the page offers no switch. `flask topic set` changes the last four.

    \b
    Example:
      flask topic add product-news --class marketing --basis consent --name "Product news" --section "From the shop"
    """
    from preferences.domain.topics import arranged, checked
    from preferences.store.catalog import add_topic, read_catalog

    new = Topic(
        slug=slug,
        brand=brand,
        name=name or slug.replace("-", " ").capitalize(),
        description=description,
        frequency=frequency,
        message_class=MessageClass(message_class),
        basis=Basis(basis),
        channels=tuple(map(Channel, channels)),
    )
    database = current_services().database
    with plain_errors():
        if if_missing and slug in database.read(read_catalog).topics:
            click.echo(f"Topic {slug} is there already.")
            return
        given = _given(options)
        database.save(add_topic, checked(arranged(new, given), given.get("default")), datetime.now(UTC))
    click.echo(f"Added topic {slug}.")


@topic_group.command("set")
@click.argument("slug", callback=slug_of)
@_arrangement
def topic_set(slug: str, **options: Any) -> None:
    """Change how the topic SLUG is offered: only what is given. "" takes a section or a flag away.

    None of it lets more through: a topic that was off by default can only be asked for.

    \b
    Example:
      flask topic set trade-prices --section "For shops" --default off --visible-to wholesale
      flask topic set workshop-news --hidden
    """
    from preferences.domain.topics import default_of
    from preferences.store.catalog import change_topic

    given = _given(options)
    if not given:
        fail(f"nothing to set of {slug}: give --section, --default, --visible-to, --hidden or --offered")
    with plain_errors():
        topic = current_services().database.save(change_topic, slug, given)
    click.echo(f"Changed topic {slug}: {_state(topic)}, {default_of(topic)} by default.")


@topic_group.command("order")
@click.argument("slugs", nargs=-1, required=True)
def topic_order(slugs: tuple[str, ...]) -> None:
    """Put the topics SLUGS first on every page, in this order. The others stay behind them as they are.

    \b
    Example:
      flask topic order product-news offers
    """
    from preferences.store.catalog import order_topics

    with plain_errors():
        ordered = current_services().database.save(order_topics, slugs)
    click.echo(f"The order is: {', '.join(ordered)}.")


@topic_group.command("translate")
@click.argument("slug", callback=slug_of)
@click.option(
    "--language", type=click.Choice(LANGUAGES, case_sensitive=False), required=True, help="What it is written in."
)
@click.option("--name", callback=_line, help="What recipients read.")
@click.option("--description", callback=_line, help="One plain line: what is in it.")
@click.option("--frequency", callback=_line, help="How often.")
@click.option("--section", callback=_line, help="The heading that it stands under.")
def topic_translate(slug: str, language: str, **options: str | None) -> None:
    """Write the words of the topic SLUG in a language, or change what is given of them.

    Whoever reads a language without words reads the English ones.

    \b
    Example:
      flask topic translate product-news --language es --name "Novedades"
    """
    from preferences.store.catalog import save_topic_text

    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        fail(f"nothing to write about {slug}: give --name, --description, --frequency or --section")
    with plain_errors():
        text = current_services().database.save(save_topic_text, slug, language, given=given)
    click.echo(f"Topic {slug} is called “{text.name}” in {language}.")


@topic_group.command("retire")
@click.argument("slug", callback=slug_of)
def topic_retire(slug: str) -> None:
    """Send nothing more about the topic SLUG, and offer it no more. `flask topic restore` brings it back.

    Links in old mails keep working, and what people chose about it is kept. Decisions refuse its marketing.

    \b
    Example:
      flask topic retire product-news
    """
    from preferences.store.catalog import retire_topic

    services = current_services()
    with plain_errors():
        changed = services.database.save(retire_topic, slug, datetime.now(UTC))
    click.echo(f"Retired topic {slug}." if changed else f"Topic {slug} is retired already.")
    for name in [name for name, settings in services.connectors.items() if slug in settings.topics]:
        click.echo(
            f"Warning: connector {name} still maps {slug}. Opt-outs of it are told there until you take it out of "
            f"{services.settings.config_file}; stop mailings to that list there.",
            err=True,
        )


@topic_group.command("restore")
@click.argument("slug", callback=slug_of)
def topic_restore(slug: str) -> None:
    """Bring the retired topic SLUG back. What people chose about it holds as before, opt-outs from meanwhile too.

    \b
    Example:
      flask topic restore product-news
    """
    from preferences.store.catalog import restore_topic

    with plain_errors():
        changed = current_services().database.save(restore_topic, slug)
    click.echo(f"Restored topic {slug}." if changed else f"Topic {slug} is not retired.")


@topic_group.command("list")
def topic_list() -> None:
    """Show every topic in its order: how it is offered, and the languages that it has no words in.

    \b
    Example:
      flask topic list
    """
    from preferences.store.catalog import read_catalog

    with plain_errors():
        catalog = current_services().database.read(read_catalog)
    rows = [_topic_row(topic) for topic in catalog.topics.values()]
    names = ("SLUG", "BRAND", "NAME", "CLASS", "BASIS", "CHANNELS", "DEFAULT", "STATE", "SECTION", "NO WORDS IN")
    _show(names, rows)


def _topic_row(topic: Topic) -> tuple[str, ...]:
    from preferences.domain.topics import default_of

    written: Mapping[str, Any] = dict(topic.texts)
    missing = [language for language in LANGUAGES[1:] if language not in written]
    known = (topic.slug, topic.brand, topic.name, topic.message_class, topic.basis, ", ".join(topic.channels))
    return (*known, default_of(topic), _state(topic), topic.section, ", ".join(missing))


def _state(topic: Topic) -> str:
    if topic.retired_at is not None:
        return "retired"
    seen = f"shown to {topic.visible_to}" if topic.visible_to else "offered"
    return "hidden" if topic.hidden else seen


def _show(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain text table, two spaces between columns, a dash for empty cells."""
    table = [list(names), *([value or "-" for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (value.ljust(width) for value, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
