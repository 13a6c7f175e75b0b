"""The application that a server loads: `granian --interface wsgi app:app`."""

import gc
import os
import signal
import sys
from multiprocessing import current_process

# What is imported here lives as long as the process; looking through it for garbage takes a tenth of the start.
gc.disable()

if current_process().name == "granian-worker":
    # granian forks a worker with its own handlers, which only set a flag there: until the worker has loaded the
    # application, which takes a second, and set others, a SIGTERM would be lost on it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C reaches the workers as well as granian, which then sends them SIGTERM. Of two signals at once, the kernel
    # may give both to a thread other than the main one, which alone acts on them, and the worker would never stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

from flask import Flask

from preferences.domain.errors import Misconfigured


def make_app() -> Flask:
    """The site, or what the `flask` command at hand needs of it."""
    if not os.environ.get("FLASK_RUN_FROM_CLI"):  # set by the `flask` command
        from preferences.factory import configure_logging, create_app

        configure_logging()
        return create_app()
    from preferences import cli

    made = _make_for_command(cli.words(sys.argv))
    cli.register(made)
    return made


def _make_for_command(words: list[str] | None) -> Flask:
    from preferences import cli

    if cli.is_help(words):
        return Flask("preferences")
    from preferences.factory import configure_logging, create_app, create_command_app

    configure_logging()
    try:
        return create_app() if cli.needs_pages(words) else create_command_app()
    except Misconfigured:
        if cli.needs_settings(words):
            raise
        return Flask("preferences")


try:
    app = make_app()
except Misconfigured as problem:
    sys.exit(str(problem))

# Garbage that is looked for among all this would hold up whichever request is at work just then, for as long as a tenth
# of a second.
gc.freeze()
gc.enable()
