"""The log of this package (loguru), silent until a server or a host application enables it."""

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING

from loguru import logger

from wsgi_store.choices import LogFormat, LogLevel

if TYPE_CHECKING:
    from loguru import Message

__all__ = [
    "PACKAGE",
    "Intercept",
    "Output",
    "Seldom",
    "access",
    "configure",
    "json_line",
    "logger",
    "main",
    "text_line",
    "trace",
]

# loguru's default sink writes to standard error. A library stays silent until the host application calls
# `logger.enable("wsgi_store")`.
PACKAGE = "wsgi_store"
logger.disable(PACKAGE)

# One for all: json.dumps would make an encoder for each line.
_encode = json.JSONEncoder(default=str).encode


class Output:
    """Where lines are written: standard error, or a file to which several processes append."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._owner = -1, -1
        self._fd = -1

    def open(self, path: str | None, owner: tuple[int, int] = (-1, -1)) -> None:
        """Write to a file that belongs to `owner`, a user and a group id, or to standard error for None."""
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._owner, self._fd = path, owner, -1
        if path is not None:
            self._fd = self._open(path)

    def reopen(self) -> None:
        """Open the file of this name again (logrotate(8)); raises OSError, and keeps the old file."""
        if self._path is not None:
            fd = self._open(self._path)
            # Keeps the number of the descriptor, which other threads may be writing to.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def write(self, line: str) -> None:
        """Write a line without buffering."""
        if self._fd < 0:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        data = line.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def _open(self, path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with suppress(OSError):  # only root may change the owner
            os.fchown(fd, *self._owner)
        return fd


# The log of this process, and its access log, which may be another file.
main = Output()
access = Output()


def configure(level: LogLevel, form: LogFormat) -> None:
    """Make `main` the only sink of loguru in this process.

    To be called after a fork: a sink inherited from the parent may hold a lock that nobody releases.
    """
    logger.enable(PACKAGE)
    logger.remove()
    sink = _write_json if form is LogFormat.JSON else _write_text
    # `diagnose` would print the values of variables, including secrets. The format is constant because loguru
    # would parse one that contains the request id again for each line.
    logger.add(sink, level=level.name, diagnose=False, format="{message}")


def trace(error: BaseException) -> str:
    """Format an exception and its causes, the first cause first, without their messages.

    Messages may contain values from a request, which may be secret. An OSError is shown with its errno.
    """
    found: dict[int, BaseException] = {}
    queue: list[BaseException | None] = [error]
    while queue:
        one = queue.pop(0)
        if one is not None and id(one) not in found:
            found[id(one)] = one
            queue.append(one.__cause__ or (None if one.__suppress_context__ else one.__context__))
            if isinstance(one, BaseExceptionGroup):
                queue += one.exceptions
    return "\n".join(map(_trace_of_one, reversed(found.values())))


def _trace_of_one(error: BaseException) -> str:
    lines = traceback.format_tb(error.__traceback__)
    number = error.errno if isinstance(error, OSError) else None
    said = f": {os.strerror(number)}" if isinstance(number, int) else ""
    return "".join(["Traceback (most recent call last):\n", *lines, type(error).__qualname__, said])


def text_line(time: float, level: str, message: str, extra: Mapping[str, object]) -> str:
    """Format a line for people, with the request id out of `extra`.

    `time` is in seconds since the epoch.
    """
    date, zone = _second(int(time))
    request = extra.get("request_id")
    suffix = f" id={request}" if request else ""
    stamp = f"{date}.{int(time % 1 * 1000):03}{zone.replace(':', '')}"
    return f"{stamp} {level: <7} [{os.getpid()}] {message}{suffix}\n"


def json_line(time: float, level: str, message: str, extra: Mapping[str, object]) -> str:
    """Format a line for programs: a JSON object with everything in `extra`."""
    date, zone = _second(int(time))
    line = {
        "time": f"{date}.{int(time % 1 * 1000):03}{zone}",
        "level": level.lower(),
        "message": message,
        "process": os.getpid(),
        **extra,
    }
    return _encode(line) + "\n"


# A busy server writes thousands of lines in the same second.
@lru_cache(1)
def _second(second: int) -> tuple[str, str]:
    """Return the local date and time, and the offset from UTC."""
    text = datetime.fromtimestamp(second).astimezone().isoformat()
    return text[:19], text[19:]


class Seldom:
    """Logs one warning a second, and counts the others."""

    def __init__(self) -> None:
        self._again = 0.0
        self._left_out = 0
        self._lock = threading.Lock()

    def warn(self, message: str, **extra: object) -> None:
        """Log the warning, or count it."""
        with self._lock:
            now = monotonic()
            if now < self._again:
                self._left_out += 1
                return
            self._again = now + 1
        logger.bind(**extra).warning("{}", message)

    def catch_up(self) -> None:
        """Log how many warnings were left out, if any; to be called regularly."""
        if not self._left_out:
            return
        with self._lock:
            now = monotonic()
            if now < self._again:
                return
            count, self._left_out = self._left_out, 0
            self._again = now + 1
        logger.warning("{} more warnings like this one", count)


class Intercept(logging.Handler):
    """Passes log records of the standard library to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` with its own level and the name of its logger."""
        try:
            message = record.getMessage()
        except Exception:  # pylint: disable=broad-exception-caught
            self.handleError(record)  # the arguments do not match the message
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
    main.write(line + message[len(text) + 1 :])  # the traceback


def _write_json(message: "Message") -> None:
    record = message.record
    extra = record["extra"]
    if record["exception"] is not None:
        extra = {**extra, "exception": "".join(traceback.format_exception(*record["exception"]))}
    main.write(json_line(record["time"].timestamp(), record["level"].name, record["message"], extra))
