"""The application that a server loads: `granian --interface wsgi app:app`."""

import gc
import os
import sys

from flask import Flask

from preferences import configure_logging, create_app
from preferences.domain.errors import Misconfigured

configure_logging()
# Set by the `flask` command. A web server has no use for the commands, nor for what they load.
is_command = bool(os.environ.get("FLASK_RUN_FROM_CLI"))
try:
    app = create_app()
except Misconfigured as problem:
    if not is_command or ("--help" not in sys.argv and sys.argv[1:2] not in ([], ["init"], ["lint-eml"])):
        sys.exit(str(problem))
    # Help is for those, too, who have no settings yet, and so are the commands that write them or need none.
    app = Flask("preferences")

if is_command:
    from preferences import cli

    cli.register(app)

# What has been made by now lives as long as the process. Looked through for garbage again and again, it would hold up
# whichever request is at work just then, for as long as a tenth of a second.
gc.freeze()
