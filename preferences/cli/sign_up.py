"""The command that prints a sign-up form."""

from __future__ import annotations

from collections.abc import Sequence

import click
from flask.cli import with_appcontext

from preferences.cli.catalog import DEFAULT_BRAND
from preferences.cli.common import Command, fail, plain_errors
from preferences.current import current_services
from preferences.domain.vocabulary import LANGUAGES
from preferences.i18n import Spoken


@click.command("sign-up-form", cls=Command)
@click.option("--brand", "brand_slug", default=DEFAULT_BRAND, show_default=True, help="Whose form it is.")
@click.option("--language", type=click.Choice(LANGUAGES), help="What it speaks; else the brand's language.")
@click.option("--topic", "slugs", multiple=True, help="What it offers; again for each further one; else everything.")
@with_appcontext
def sign_up_form(brand_slug: str, language: str | None, slugs: Sequence[str]) -> None:
    """Print the sign-up form as plain HTML, to be pasted into a page of your own.

    It has no script and no style, works from any place, and takes the look of the page around it.

    \b
    Example:
      flask sign-up-form --topic product-news > sign-up.html
    """
    from preferences.people.sign_up import embeddable, offers_of
    from preferences.sending.scope import get_brand

    services = current_services()
    with plain_errors():
        brand = get_brand(services.catalog.get(), brand_slug)
        spoken = Spoken(language or brand.language)
        offers = offers_of(services, brand, spoken)
        known = {offer.topic.slug for offer in offers}
        for slug in slugs:
            if slug not in known:
                fail(f"{slug} is not a marketing topic of brand {brand_slug} by email")
        chosen = [offer for offer in offers if not slugs or offer.topic.slug in slugs]
        if not chosen:
            fail(f"brand {brand_slug} has no marketing topic by email; `flask topic add` makes one")
        click.echo(embeddable(services, brand, spoken, offers=chosen), nl=False)
