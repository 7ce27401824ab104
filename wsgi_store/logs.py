"""Logging by loguru, set up for servers that fork."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from loguru import logger

from wsgi_store.config import LogFormat, LogLevel

if TYPE_CHECKING:
    from loguru import Message

# Made once: json.dumps would make one for each line, which takes as long as the line.
_encode = json.JSONEncoder(default=str).encode


def configure(level: LogLevel, form: LogFormat) -> None:
    """Make standard error the one log of this process.

    Called after the fork: a sink with a queue or one inherited over a fork can leave a lock
    held by a process that is gone.
    """
    logger.remove()
    sink = _write_json if form is LogFormat.JSON else _write_text
    # `diagnose` would print the values of variables, secrets included. The format is constant:
    # loguru would parse one that has the request's id in it anew for each line.
    logger.add(sink, level=level.name, diagnose=False, format="{message}")


def text_line(time: float, level: str, message: str, extra: Mapping[str, object]) -> str:
    """A line for people: of what is bound to the message it has the request's id.

    `time` is in seconds since the epoch.
    """
    date, zone = _second(int(time))
    request = extra.get("request_id")
    suffix = f" id={request}" if request else ""
    stamp = f"{date}.{int(time % 1 * 1000):03}{zone.replace(':', '')}"
    return f"{stamp} {level: <7} [{os.getpid()}] {message}{suffix}\n"


def json_line(time: float, level: str, message: str, extra: Mapping[str, object]) -> str:
    """A line for programs, with all that is bound to the message."""
    date, zone = _second(int(time))
    line = {
        "time": f"{date}.{int(time % 1 * 1000):03}{zone}",
        "level": level.lower(),
        "message": message,
        "process": os.getpid(),
        **extra,
    }
    return _encode(line) + "\n"


# Thousands of lines may be of one second.
@lru_cache(1)
def _second(second: int) -> tuple[str, str]:
    """The local date and time, and the offset from UTC."""
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:19], text[19:]


def write(line: str) -> None:
    """Write to the log, at once."""
    sys.stderr.write(line)
    sys.stderr.flush()


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


def _write_text(message: "Message") -> None:
    record = message.record
    text = record["message"]
    line = text_line(record["time"].timestamp(), record["level"].name, text, record["extra"])
    write(line + message[len(text) + 1 :])  # the traceback


def _write_json(message: "Message") -> None:
    record = message.record
    extra = record["extra"]
    if record["exception"] is not None:
        extra = {**extra, "exception": "".join(traceback.format_exception(*record["exception"]))}
    write(json_line(record["time"].timestamp(), record["level"].name, record["message"], extra))
