"""gunicorn's log, written to the log of the service."""

import logging
import sys
from datetime import timedelta
from typing import Any

from gunicorn import glogging

from wsgi_store import logs
from wsgi_store.config import Config
from wsgi_store.gunicorn.proxies import TrustedProxies
from wsgi_store.gunicorn.unsupported_options import unsupported
from wsgi_store.web.access_log import AccessLog, Line
from wsgi_store.web.exchange import exchange_of


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's messages and a line for each request, in the log of the service."""

    def __init__(self, cfg: Any) -> None:
        """End the process with one line if `cfg` has an option that this logger does not support."""
        if message := unsupported(cfg):
            sys.exit(f"wsgi-store: {message}")
        super().__init__(cfg)

    def setup(self, cfg: Any) -> None:
        """Configure the log, at the start and after each reload; raises RuntimeError for such an option."""
        if message := unsupported(cfg):
            raise RuntimeError(message)  # gunicorn logs it and keeps its old settings
        if self.logfile is not None:  # the file to which gunicorn sent captured output before the reload
            self.logfile.close()
        super().setup(cfg)
        config = Config.from_env()
        for output, path in ((logs.main, cfg.errorlog), (logs.access, cfg.accesslog)):
            output.open(None if path in (None, "-") else path, (cfg.uid, cfg.gid))
        logs.configure(config.log_level, config.log_format)
        self._access_log = AccessLog(config.log_level, config.log_format)
        self._proxies = TrustedProxies(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.close()
        self.error_log.handlers = [logs.Intercept()]
        self.access_log.handlers = []
        # Some of gunicorn's modules, and other libraries, log through loggers of their own.
        logging.getLogger().handlers = [logs.Intercept()]

    def reopen_files(self) -> None:
        """Write to new files after a rotation (SIGUSR1)."""
        super().reopen_files()
        for output in (logs.main, logs.access):
            try:
                output.reopen()
            except OSError as error:
                self.error("cannot reopen a log file, and keep writing to the old one: %s", error)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log a request whose response was sent, or cut off."""
        exchange = exchange_of(environ)
        if self._access_log.enabled and self.access_log_enabled and not exchange.logged:
            status = str(resp.status).partition(" ")[0]
            client = self._proxies.client_address(environ)
            seconds = request_time.total_seconds()
            line = Line(client, environ["REQUEST_METHOD"], shown_path(req), status, resp.sent, seconds)
            self._access_log.write(line, exchange)


def shown_path(req: Any) -> str:
    """Return the path of a request without anything secret."""
    # The query may hold the signature of a link or a ticket. In front of the path there may be a host (RFC
    # 9112 section 3.2.2), and a password in front of that.
    shown = str(req.uri or "").partition("?")[0]
    return shown if shown.startswith("/") else str(req.path or "")
