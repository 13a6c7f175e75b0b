"""Access to the services of a Flask application."""

from __future__ import annotations

from typing import Final, cast

from flask import Flask, current_app

from preferences.services import Services

EXTENSION: Final = "preferences"


def current_services() -> Services:
    return services_of(current_app)


def services_of(app: Flask) -> Services:
    return cast(Services, app.extensions[EXTENSION])


def own_folders(app: Flask) -> frozenset[str]:
    """The first path segments of the site's own pages, which no brand may use."""
    segments = {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}
    return frozenset(segment for segment in segments if segment and not segment.startswith("<"))
