"""The application that a server loads: `granian --interface wsgi app:app`."""

import gc
import os
import signal
import sys
from multiprocessing import current_process

if current_process().name == "granian-worker":
    # granian forks a worker with its own handlers, which only set a flag there: until the worker has loaded the
    # application, which takes a second, and set others, a SIGTERM would be lost on it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C reaches the workers as well as granian, which then sends them SIGTERM. Of two signals at once, the kernel
    # may give both to a thread other than the main one, which alone acts on them, and the worker would never stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

from flask import Flask

from preferences.domain.errors import Misconfigured
from preferences.factory import configure_logging, create_app

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
