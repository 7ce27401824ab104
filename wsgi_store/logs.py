"""Logging by loguru, set up for servers that fork."""

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING

from loguru import logger

from wsgi_store.config import LogFormat, LogLevel

if TYPE_CHECKING:
    from loguru import Message, Record


def configure(level: LogLevel, form: LogFormat) -> None:
    """Make standard error the one log of this process.

    Called after the fork: a sink with a queue or one inherited over a fork can leave a lock
    held by a process that is gone.
    """
    logger.remove()
    # `diagnose` would print the values of variables, secrets included.
    if form is LogFormat.JSON:
        logger.add(_write_json, level=level.name, diagnose=False, format="{message}")
    else:
        logger.add(sys.stderr, level=level.name, diagnose=False, format=_format_text)


class Intercept(logging.Handler):
    """Passes the standard library's log records on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` under its own level and origin."""
        try:
            message = record.getMessage()
        except Exception:  # pylint: disable=broad-exception-caught
            self.handleError(record)  # the arguments do not fit the message: no reason to fail
            return
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(logger=record.name).log(level, "{}", message)


def _format_text(record: "Record") -> str:
    request = record["extra"].get("request_id")
    # Braces in what is returned are read as fields once more; the id has none.
    suffix = f" id={request}" if request else ""
    return "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} [{process}] {message}" + suffix + "\n{exception}"


def _write_json(message: "Message") -> None:
    record = message.record
    line = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "message": record["message"],
        "process": record["process"].id,
        **record["extra"],
    }
    if record["exception"] is not None:
        line["exception"] = "".join(traceback.format_exception(*record["exception"]))
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()
