"""The application that a server loads: `granian --interface wsgi app:app`."""

import sys

from preferences import configure_logging, create_app
from preferences.domain.errors import Misconfigured

configure_logging()
try:
    app = create_app()
except Misconfigured as problem:
    sys.exit(str(problem))
