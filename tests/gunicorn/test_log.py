"""The access line of a request that the worker serves over a socket pair."""

import io
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config as GunicornConfig
from loguru import logger

from tests.support.calling import application_of, call
from tests.support.calling import request as environ_of
from wsgi_store.assembly import create_app
from wsgi_store.choices import LogFormat, LogLevel
from wsgi_store.config import Config
from wsgi_store.gunicorn.connection import Connection
from wsgi_store.gunicorn.log import Logger
from wsgi_store.gunicorn.request_handler import RequestHandler
from wsgi_store.gunicorn.settings import Settings
from wsgi_store.gunicorn.transfer_slots import TransferSlots
from wsgi_store.web.access_log import AccessLog
from wsgi_store.web.application import Application
from wsgi_store.web.download import IN_MEMORY

LARGE = os.urandom(4 << 20)
LOGGERS = ["gunicorn.error", "gunicorn.access", ""]
ADDRESS = ("192.0.2.1", 1234)


@pytest.fixture(name="worker")
def fixture_worker(
    application: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RequestHandler]:
    """The request handler of the worker, with the application and a JSON log."""
    monkeypatch.setenv("WSGI_STORE_LOG_FORMAT", "json")
    before = [(log, log.handlers, log.propagate) for log in map(logging.getLogger, LOGGERS)]
    settings = GunicornConfig()
    settings.set("accesslog", "-")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    worker = RequestHandler(0, os.getpid(), [], None, 30, settings, Logger(settings))
    # A new worker blocks signals until it sets its handlers, and programs started here would inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    worker.wsgi = application
    worker.slots = TransferSlots(8, 0, lambda: None)
    worker.cfg = Settings(settings, Config())
    yield worker
    worker.tmp.close()
    for log, handlers, propagate in before:
        log.handlers, log.propagate = handlers, propagate
    logger.remove()
    assert "Traceback" not in capsys.readouterr().err


def exchange(worker: RequestHandler, request: str, *, take: int | None = None) -> bytes:
    """Let the worker handle one request; read its whole answer, or disconnect after `take` bytes."""
    ours, theirs = socket.socketpair()
    connection = Connection(worker.cfg, theirs, ADDRESS, ("192.0.2.2", 80))

    def read() -> bytes:
        data = b""
        with ours:
            while take is None or len(data) < take:
                piece = ours.recv(1 << 16 if take is None else take - len(data))
                if not piece:
                    break
                data += piece
        return data

    with connection.sock, ThreadPoolExecutor(1) as pool:
        ours.sendall(
            request.replace("HTTP/1.1\n", "HTTP/1.1\nHost: localhost\n").replace("\n", "\r\n").encode()
        )
        connection.init()
        answer = pool.submit(read)
        try:
            worker.handle_request(next(connection.parser), connection)
        except OSError:
            assert take is not None
        finally:
            connection.sock.close()
        return answer.result()


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The only access line."""
    (found,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert isinstance(found, dict)
    return found


def test_access_line(worker: RequestHandler, capsys: pytest.CaptureFixture[str]) -> None:
    """The access line has the path without the query, the status, the size and the duration."""
    answer = exchange(worker, "GET /healthz?a=%20b HTTP/1.1\nX-Request-ID: one\n\n")
    found = line(capsys)
    milliseconds = found.pop("ms")
    assert 0 < milliseconds < 10_000
    del found["time"]
    assert found == {
        "level": "info",
        "message": f"GET /healthz 200 17 B {milliseconds:.1f} ms",
        "process": os.getpid(),
        "request_id": "one",
        "client": ADDRESS[0],
        "method": "GET",
        "path": "/healthz",
        "user": None,
        "status": 200,
        "bytes": 17,
    }
    assert answer.endswith(b'\r\n\r\n{"status": "ok"}\n')


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY, IN_MEMORY + 1, len(LARGE)])
@pytest.mark.parametrize("begin", [0, 1, -70_000])
def test_bytes_sent(
    worker: RequestHandler,
    application: Application,
    capsys: pytest.CaptureFixture[str],
    size: int,
    begin: int,
) -> None:
    """The access line counts the bytes of the body, including those sent by sendfile(2)."""
    path = call(application, "POST", body=LARGE[:size]).json["url"]
    span = {0: "", 1: "Range: bytes=1-\n", -70_000: "Range: bytes=-70000\n"}[begin]
    answer = exchange(worker, f"GET {path} HTTP/1.1\n{span}\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    found = line(capsys)
    assert found["bytes"] == len(body)
    assert found["status"] == int(head.split()[1])
    if found["status"] != 416:
        assert body == LARGE[:size][begin:]


def test_head(worker: RequestHandler, application: Application, capsys: pytest.CaptureFixture[str]) -> None:
    """HEAD counts as 0 bytes."""
    path = call(application, "POST", body=LARGE).json["url"]
    exchange(worker, f"HEAD {path} HTTP/1.1\n\n")
    assert (found := line(capsys))["bytes"] == 0
    assert (found["method"], found["status"]) == ("HEAD", 200)


@pytest.mark.parametrize(
    "more, whole", [("", len(LARGE)), ("Range: bytes=3000000-\n", len(LARGE) - 3_000_000)]
)
def test_bytes_of_a_download_cut_off(
    worker: RequestHandler,
    application: Application,
    capsys: pytest.CaptureFixture[str],
    more: str,
    whole: int,
) -> None:
    """An aborted download is logged without an error, with the bytes sent so far."""
    path = call(application, "POST", body=LARGE).json["url"]
    answer = exchange(worker, f"GET {path} HTTP/1.1\n{more}\n", take=200_000)
    body = answer.partition(b"\r\n\r\n")[2]
    found = line(capsys)
    assert found["level"] == "info"
    assert len(body) <= found["bytes"] < whole


def test_several_ranges_cut_off(
    worker: RequestHandler, application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    """An aborted download of several ranges is logged with the bytes sent so far."""
    path = call(application, "POST", body=LARGE).json["url"]
    answer = exchange(worker, f"GET {path} HTTP/1.1\nRange: bytes=0-9,1000-\n\n", take=200_000)
    assert 0 < line(capsys)["bytes"] < len(LARGE)
    assert len(answer) == 200_000


def test_messages_of_gunicorn(worker: RequestHandler, capsys: pytest.CaptureFixture[str]) -> None:
    """gunicorn's own messages go to the same log."""
    worker.log.warning("%s is odd", "something")
    found = line(capsys)
    assert (found["level"], found["message"]) == ("warning", "something is odd")
    assert found["logger"] == "gunicorn.error"


STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:?\d\d")


def test_access_line_is_as_any_other(worker: RequestHandler, capsys: pytest.CaptureFixture[str]) -> None:
    """Apart from the time, an access line is identical to what loguru writes for the same message."""
    exchange(worker, "GET /{0}%zz HTTP/1.1\nX-Request-ID: one\n\n")
    written = capsys.readouterr().err
    said = json.loads(written)
    extra = {name: said[name] for name in list(said)[list(said).index("process") + 1 :]}
    logger.bind(**extra).info("{}", said["message"])
    again, count = STAMP.subn("", capsys.readouterr().err)
    assert (STAMP.sub("", written), count) == (again, 1)


def test_access_line_in_text(
    worker: RequestHandler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the text format, too, an access line is identical to loguru's."""
    monkeypatch.setenv("WSGI_STORE_LOG_FORMAT", "text")
    worker.log.setup(worker.cfg)
    exchange(worker, "GET /{0}%zz HTTP/1.1\nX-Request-ID: one\n\n")
    written = capsys.readouterr().err
    message = re.sub(r".*\] | id=one\n", "", written)
    assert re.fullmatch(r"GET /\{0\}%zz 404 \d+ B \d+\.\d ms client=192\.0\.2\.1", message)
    logger.bind(request_id="one").info("{}", message)
    again, count = STAMP.subn("", capsys.readouterr().err)
    assert (STAMP.sub("", written), count) == (again, 1)


@pytest.mark.parametrize("level", LogLevel)
def test_levels(
    worker: RequestHandler,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    level: LogLevel,
) -> None:
    """Access lines have the level info, so the level warning hides them."""
    monkeypatch.setenv("WSGI_STORE_LOG_LEVEL", level.value)
    worker.log.setup(worker.cfg)
    exchange(worker, "GET /healthz HTTP/1.1\n\n")
    found = [text for text in capsys.readouterr().err.splitlines() if "/healthz" in text]
    assert len(found) == (level in (LogLevel.DEBUG, LogLevel.INFO))


def test_log_that_cannot_be_written(worker: RequestHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to write the log does not affect the answer or the connection."""
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        answer = exchange(worker, "GET /healthz HTTP/1.1\n\n")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert answer.endswith(b'\r\n\r\n{"status": "ok"}\n')


def test_lines_of_many_threads(worker: RequestHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines written by many threads, through both ways of logging, are never mixed."""
    writes: list[bytes] = []

    class Raw(io.RawIOBase):  # pylint: disable=missing-class-docstring
        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            time.sleep(0)  # let another thread run
            writes.append(bytes(data))
            return len(data)

    stream = io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="utf-8", line_buffering=True)
    monkeypatch.setattr(sys, "stderr", stream)

    def work(number: int) -> None:
        for _ in range(20):
            exchange(worker, f"GET /{number:0200} HTTP/1.1\n\n")
            logger.info("{}", f"{number:0200}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    monkeypatch.undo()
    found = [json.loads(line) for line in b"".join(writes).splitlines()]
    assert len(found) == 2 * 8 * 20
    assert all(data.endswith(b"\n") for data in writes)


def test_access_log_turned_off(worker: RequestHandler, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an access log, there is no line."""
    worker.cfg.set("accesslog", None)
    worker.log.setup(worker.cfg)
    exchange(worker, "GET /healthz HTTP/1.1\n\n")
    assert capsys.readouterr().err == ""


def test_one_line_when_the_application_has_an_access_log(
    config: Config, worker: RequestHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker logs a request at its end, so the application does not log it."""
    worker.wsgi = application_of(
        create_app(config).backend, access_log=AccessLog(LogLevel.INFO, LogFormat.JSON)
    )
    exchange(worker, "GET /healthz HTTP/1.1\n\n")
    assert line(capsys)["bytes"] == 17


def test_the_method_that_a_client_of_tus_names(
    worker: RequestHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line has the method in X-HTTP-Method-Override, where that counts."""
    fields = "Tus-Resumable: 1.0.0\nX-HTTP-Method-Override: DELETE\nContent-Length: 0"
    exchange(worker, f"POST /uploads/x HTTP/1.1\n{fields}\n\n")
    found = line(capsys)
    assert (found["method"], found["path"], found["status"]) == ("DELETE", "/uploads/x", 404)


def test_one_line_when_the_application_logs_itself(
    worker: RequestHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under another worker the application logs the request, and gunicorn's logger does not repeat it."""
    environ = environ_of(REMOTE_ADDR="192.0.2.1")
    access_log = AccessLog(LogLevel.INFO, LogFormat.JSON)
    access_log.answer(environ, "200", 17, 0.001)
    worker.log.access(SimpleNamespace(status="200 OK", sent=17), None, environ, timedelta(milliseconds=1))
    assert line(capsys)["bytes"] == 17
