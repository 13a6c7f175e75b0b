"""Commands for brands and topics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click

from preferences.cli.common import Group, choice, plain_errors, slug_of
from preferences.domain.terms import Basis, Brand, Channel, MessageClass, OneClick, Topic
from preferences.site import current_site

DEFAULT_BRAND: Final = "default"

brand_group = Group("brand", help="Whose name the mail bears.")


@brand_group.command("set")
@click.argument("slug", callback=slug_of)
@click.option("--name", required=True, help="The name that recipients know.")
@click.option("--postal-address", default="", help="One line; the law wants it in every marketing mail.")
@click.option("--contact-email", default="", help="Where recipients can write to a person.")
@click.option(
    "--one-click",
    type=choice(OneClick),
    default=OneClick.EVERYTHING.value,
    show_default=True,
    help="What one click in a mail program stops.",
)
def brand_set(slug: str, name: str, postal_address: str, contact_email: str, one_click: str) -> None:
    """Add a brand, or change the one of this SLUG.

    \b
    Example:
      flask brand set default --name "Maple & Finch" --contact-email hello@example.com
    """
    from preferences.store.catalog import save_brand

    new = Brand(
        slug=slug,
        name=name,
        postal_address=postal_address,
        contact_email=contact_email,
        one_click=OneClick(one_click),
    )
    with plain_errors():
        added = current_site().database.save(save_brand, new, datetime.now(UTC))
    click.echo(f"{'Added' if added else 'Changed'} brand {slug}.")


topic_group = Group("topic", help="What people can choose.")


@topic_group.command("add")
@click.argument("slug", callback=slug_of)
@click.option("--class", "message_class", type=choice(MessageClass), required=True, help="What kind of mail it is.")
@click.option("--basis", type=choice(Basis), required=True, help="On what lawful ground it is sent.")
@click.option("--name", help="What recipients read; made from the slug if not given.")
@click.option("--description", default="", help="One plain line: what is in it.")
@click.option("--frequency", default="", help="How often, such as “about twice a month”.")
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
) -> None:
    """Add a topic under its SLUG, which never changes afterwards.

    \b
    Example:
      flask topic add product-news --class marketing --basis consent --name "Product news"
    """
    from preferences.store import queries
    from preferences.store.catalog import add_topic

    new = Topic(
        slug=slug,
        brand=brand,
        name=name or slug.replace("-", " ").capitalize(),
        description=description,
        frequency=frequency,
        message_class=MessageClass(message_class),
        basis=Basis(basis),
        channels=tuple(Channel(one) for one in channels),
    )
    database = current_site().database
    with plain_errors():
        if if_missing and slug in database.read(queries.catalog).topics:
            click.echo(f"Topic {slug} is there already.")
            return
        database.save(add_topic, new, datetime.now(UTC))
    click.echo(f"Added topic {slug}.")
