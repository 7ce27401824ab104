"""The log of this package, by loguru: silent until a server or a host turns it on."""

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

from wsgi_store.config import LogFormat, LogLevel

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
    "write",
]

# A host that never touched loguru has a sink that writes to standard error. Libraries stay silent until
# the host says `logger.enable("wsgi_store")`.
PACKAGE = "wsgi_store"
logger.disable(PACKAGE)

# Made once: json.dumps would make one for each line, which takes as long as the line.
_encode = json.JSONEncoder(default=str).encode


class Output:
    """Where lines go: standard error, or a file to which several processes append."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._owner = -1, -1
        self._fd = -1

    def open(self, path: str | None, owner: tuple[int, int] = (-1, -1)) -> None:
        """Write to this file, for which `owner` is to be a user and a group, or to standard error."""
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._owner, self._fd = path, owner, -1
        if path is not None:
            self._fd = self._open(path)

    def reopen(self) -> None:
        """Go on in the file that has the name now (logrotate(8)); raises OSError, and the old one stays."""
        if self._path is not None:
            fd = self._open(self._path)
            # Threads that write meanwhile know the number.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def write(self, line: str) -> None:
        """Write a line, at once."""
        if self._fd < 0:
            sys.stderr.write(line)
            sys.stderr.flush()
            return
        data = line.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def _open(self, path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with suppress(OSError):  # workers that may not open it anew go on with this one
            os.fchown(fd, *self._owner)
        return fd


# The log of this process, like standard error itself, and the lines of requests where they go elsewhere.
main = Output()
access = Output()


def configure(level: LogLevel, form: LogFormat) -> None:
    """Make `main` the one log of this process.

    Called after the fork: a sink with a queue or one inherited over a fork can leave a lock
    held by a process that is gone.
    """
    logger.enable(PACKAGE)
    logger.remove()
    sink = _write_json if form is LogFormat.JSON else _write_text
    # `diagnose` would print the values of variables, secrets included. The format is constant:
    # loguru would parse one that has the request's id in it anew for each line.
    logger.add(sink, level=level.name, diagnose=False, format="{message}")


def trace(error: BaseException) -> str:
    """The traceback of an exception and of those behind it, the first one first, without any values.

    Messages are made of values, those of a request are secret: of a failed call it says what failed.
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
    main.write(line)


class Seldom:
    """Warnings of which one is logged each second; the others are counted."""

    def __init__(self) -> None:
        self._again = 0.0
        self._left_out = 0
        self._lock = threading.Lock()

    def warn(self, message: str, **extra: object) -> None:
        """Log it, or count it."""
        with self._lock:
            now = monotonic()
            if now < self._again:
                self._left_out += 1
                return
            self._again = now + 1
        logger.bind(**extra).warning("{}", message)

    def catch_up(self) -> None:
        """Say how many were left out, if any; to be called now and then."""
        if not self._left_out:
            return
        with self._lock:
            now = monotonic()
            if now < self._again:
                return
            count, self._left_out = self._left_out, 0
            self._again = now + 1
        logger.warning("{} more like that", count)


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
