"""What this package adds to gunicorn: its log written through loguru."""

import sys
from datetime import timedelta
from typing import Any

from gunicorn import glogging
from loguru import logger

from wsgi_store import logs
from wsgi_store.config import Config


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's messages and an access line per request, in the one log."""

    def setup(self, cfg: Any) -> None:
        """Route gunicorn's loggers; called in the master and after a reload."""
        super().setup(cfg)
        config = Config.from_env()
        logs.configure(config.log_level, config.log_format)
        self.error_log.handlers = [logs.Intercept()]
        self.access_log.handlers = []

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log a request that was answered, or whose answer was cut off."""
        if not self.access_log_enabled:
            return
        status = str(resp.status).partition(" ")[0]
        sent = _bytes_sent(resp, environ)
        milliseconds = request_time.total_seconds() * 1000
        logger.bind(
            request_id=environ.get("wsgi_store.request_id"),
            client=environ.get("REMOTE_ADDR"),
            method=req.method,
            path=req.uri,
            status=int(status) if status.isdigit() else None,
            bytes=sent,
            ms=round(milliseconds, 3),
        ).info("{} {} {} {} B {:.1f} ms", req.method, req.uri, status, sent, milliseconds)


def _bytes_sent(resp: Any, environ: dict[str, Any]) -> int:
    """The bytes of the body that went out; gunicorn itself counts none of those of sendfile(2)."""
    reader = environ.get("wsgi_store.reader")
    if resp.sent or reader is None or resp.response_length is None:
        return int(resp.sent)
    if sys.exc_info()[0] is None:
        return int(resp.response_length)
    # socket.sendfile leaves the file where it stopped when it fails.
    position: int = reader.tell() - reader.start
    return position
