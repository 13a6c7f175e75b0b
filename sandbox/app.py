"""The sandbox on the network: a Flask app, and a server for it.

Owns starting and stopping. Invariant: leaving `SandboxServer` leaves no thread and no open port behind.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox import pages, platform_api
from sandbox.config import Config
from sandbox.smtp import SmtpServer
from sandbox.world import Sandbox


def create_sandbox(config: Config) -> Flask:
    """The app, with its `Sandbox` in `app.extensions["sandbox"]`; its threads run from `start()` to `stop()`."""
    app = Flask(__name__)
    app.extensions["sandbox"] = Sandbox(config)
    app.register_blueprint(platform_api.blueprint)
    app.register_blueprint(pages.blueprint)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    return app


class SandboxServer:
    """A running sandbox, for `with`: pages and platform on `port`, an SMTP server too if `smtp_port` is given."""

    def __init__(self, config: Config, port: int, smtp_port: int | None = None) -> None:
        app = create_sandbox(config)
        self.sandbox: Sandbox = app.extensions["sandbox"]
        self.url = f"http://127.0.0.1:{port}"
        self._http = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
        self._smtp = SmtpServer(smtp_port, self.sandbox.mailbox.deliver) if smtp_port else None
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="sandbox", daemon=True)

    def __enter__(self) -> Self:
        self.sandbox.start()
        self._thread.start()
        if self._smtp:
            self._smtp.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sandbox.stop()
        if self._smtp:
            self._smtp.stop()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self.sandbox.close()


class _Quiet(WSGIRequestHandler):
    """Logs no requests: the pages ask twice a second, and an address may stand in a query."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
