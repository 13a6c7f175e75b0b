"""`python -m sandbox`: serves the sandbox on 127.0.0.1 until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from sandbox.app import SandboxServer
from sandbox.config import Config, MissingSettings
from sandbox.mailer import KEY_NAME
from sandbox.offers import OUTLET_FOLDER
from sandbox.world import Sandbox

SECONDS_BETWEEN_LOOKS = 0.3


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    try:
        config = Config.from_env(os.environ)
    except MissingSettings as error:
        print(error, file=sys.stderr)
        return 1
    port = int(os.environ.get("SANDBOX_PORT", "8025"))
    smtp_port = int(os.environ.get("SANDBOX_SMTP_PORT", "0")) or None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with SandboxServer(config, port, smtp_port) as server:
        if _is_ready(server.sandbox, stop):
            server.sandbox.send_first_newsletter()
            print(_try_it(server.url, config), flush=True)
        stop.wait()
    return 0


def _is_ready(sandbox: Sandbox, stop: threading.Event) -> bool:
    """Wait for the preference center; False if we are to stop before it answers."""
    while not sandbox.center.is_ready():
        if stop.wait(SECONDS_BETWEEN_LOOKS):
            return False
    return True


def _try_it(url: str, config: Config) -> str:
    return f"""
  Everything runs. Try it:

    {url}/           the story in four steps, with buttons
    {url}/mailbox    mails of made-up people: press Unsubscribe
    {url}/platform   their platform learns of it within a second

    {config.preferences_url}/sign-up    sign up: the email arrives in the mailbox
    {config.preferences_url}/optout     unsubscribe by typing an address
    {config.preferences_url}/{OUTLET_FOLDER}/   the second brand

  Ctrl-C stops it. The data stays in instance/. To check a mail: open it, Raw source, Save as mail-1.eml, then

    .venv/bin/flask lint-eml mail-1.eml --local --dkim-key {KEY_NAME}=instance/demo-dkim.pub

  It passes. Warnings are expected here, as of links over http to this machine.
"""


if __name__ == "__main__":
    sys.exit(main())
