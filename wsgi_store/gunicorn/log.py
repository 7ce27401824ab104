"""The log of gunicorn, written by the log of the service."""

import logging
import re
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from gunicorn import glogging
from gunicorn.http import message

from wsgi_store import logs
from wsgi_store.config import Config
from wsgi_store.gunicorn.unsupported_options import unheeded
from wsgi_store.web.access_log import AccessLog, Line
from wsgi_store.web.exchange import exchange_of

# An address in X-Forwarded-For, to which some proxies add the port.
FORWARDED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's messages and an access line per request, in the one log."""

    def setup(self, cfg: Any) -> None:
        """Route gunicorn's loggers; called in the master and after a reload."""
        if refusal := unheeded(cfg):
            raise RuntimeError(refusal)  # on a reload gunicorn logs it, and goes on as before
        if self.logfile is not None:  # what gunicorn captured the output with before the reload
            self.logfile.close()
        super().setup(cfg)
        config = Config.from_env()
        for output, path in ((logs.main, cfg.errorlog), (logs.access, cfg.accesslog)):
            output.open(None if path in (None, "-") else path, (cfg.uid, cfg.gid))
        logs.configure(config.log_level, config.log_format)
        self._access_log = AccessLog(config.log_level, config.log_format)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.close()
        self.error_log.handlers = [logs.Intercept()]
        self.access_log.handlers = []
        # Some of gunicorn's modules, and libraries, have loggers of their own.
        logging.getLogger().handlers = [logs.Intercept()]

    def reopen_files(self) -> None:
        """Go on in new files after a rotation (SIGUSR1)."""
        super().reopen_files()
        for output in (logs.main, logs.access):
            try:
                output.reopen()
            except OSError as error:
                self.error("cannot open a log file anew, and go on with the old one: %s", error)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log a request that was answered, or whose answer was cut off."""
        exchange = exchange_of(environ)
        if self._access_log.enabled and self.access_log_enabled and not exchange.logged:
            status = str(resp.status).partition(" ")[0]
            client = client_address(environ, self.cfg)
            seconds = request_time.total_seconds()
            line = Line(client, req.method, shown_path(req), status, resp.sent, seconds)
            self._access_log.write(line, exchange)


def shown_path(req: Any) -> str:
    """The path of a request as a log may show it."""
    # The query is not shown: it may hold the signature of a link or a ticket. Before a path there may be
    # a host (RFC 9112 section 3.2.2), and before that a password.
    shown = str(req.uri or "").partition("?")[0]
    return shown if shown.startswith("/") else str(req.path or "")


@lru_cache(1024)
def is_trusted(settings: Any, address: str) -> bool:
    """Whether a proxy at this address may say for whom it asks: gunicorn's `forwarded_allow_ips`.

    gunicorn reads the address anew for each request, which takes as long as reading its head.
    """
    allowed, networks = settings.forwarded_allow_ips, settings.forwarded_allow_networks()
    return bool(message._ip_in_allow_list(address, allowed, networks))  # pylint: disable=protected-access


def client_address(environ: dict[str, Any], settings: Any) -> str:
    """Who asks: the last on the way that is no trusted proxy; what is told of those before may be a lie."""
    address = str(environ.get("REMOTE_ADDR", ""))
    for told in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        # Behind a Unix socket, which has no address, is a proxy.
        trusted = not address or is_trusted(settings, address)
        if not trusted or (match := FORWARDED.fullmatch(told.strip())) is None:
            break
        try:
            address = str(ip_address(match[1] or match[2] or match[3]))
        except ValueError:
            break
        if "*" in settings.forwarded_allow_ips:
            break  # how many proxies there are nobody said: the nearest one is believed
    return address
