"""The application that a server loads: `granian --interface wsgi app:app`."""

from preferences import configure_logging, create_app

configure_logging()
app = create_app()
