"""The log: text or JSON on standard error, including records of the standard library."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from loguru import logger

from wsgi_store import logs
from wsgi_store.choices import LogFormat, LogLevel

TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}[+-][0-9]{4}) ([A-Z]+) +\[([0-9]+)\] (.*)\n", re.DOTALL
)
# Any characters, surrogates included.
ANY = st.text(st.characters(codec=None), max_size=60)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Remove the sinks, which write to the captured stream of a test."""
    yield
    logger.remove()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines logged since the last call, parsed as JSON."""
    text = capsys.readouterr().err
    assert text.isascii() and (not text or text.endswith("\n"))
    return [json.loads(line) for line in text.split("\n")[:-1]]


def fail(message: str) -> None:
    """Raise an error with a secret in a local variable, and its length in an argument."""
    secret = "pass" + "word"
    raise ValueError(message, len(secret))


@given(message=ANY, extra=ANY)
@example(message="{", extra="{}")
@example(message="{0} %s {message}", extra="\n\r\x85\u2028\ud800\0")
def test_json(capsys: pytest.CaptureFixture[str], message: str, extra: str) -> None:
    """Any message becomes one line of JSON, with its bound values."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    logger.bind(request_id=extra, bytes=5).info("{}", message)
    (line,) = lines(capsys)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "message": message,
        "process": os.getpid(),
        "request_id": extra,
        "bytes": 5,
    }


@given(message=ANY)
def test_json_exceptions(capsys: pytest.CaptureFixture[str], message: str) -> None:
    """A traceback is part of the JSON line, without the values of variables."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    try:
        fail(message)
    except ValueError:
        logger.exception("failed")
    (line,) = lines(capsys)
    assert (line["level"], line["message"]) == ("error", "failed")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert f"ValueError: ({message!r}, 8)" in line["exception"]
    assert "password" not in line["exception"]


def test_json_of_anything(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that JSON does not support is written as text."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    logger.bind(path=os.fsdecode(b"\xff"), kind=LogLevel.INFO).info("x")
    (line,) = lines(capsys)
    assert (line["path"], line["kind"]) == ("\udcff", "LogLevel.INFO")


@pytest.mark.parametrize("message", ["plain", "{}", "{0} %s", "<red>x</red>", "größe €"])
@pytest.mark.parametrize("identity", [None, "a-B_1.2"])
def test_text(capsys: pytest.CaptureFixture[str], message: str, identity: str | None) -> None:
    """A text line has the time, level, process, message and request id."""
    logs.configure(LogLevel.INFO, LogFormat.TEXT)
    logger.bind(request_id=identity).warning("{}", message)
    match = TEXT.fullmatch(capsys.readouterr().err)
    assert match is not None
    assert datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S.%f%z").tzinfo is not None
    suffix = f" id={identity}" if identity else ""
    assert match.groups()[1:] == ("WARNING", str(os.getpid()), message + suffix)


def test_text_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback follows its text line, without the values of variables."""
    logs.configure(LogLevel.INFO, LogFormat.TEXT)
    try:
        fail("{} <x> {message}")
    except ValueError:
        logger.exception("failed")
    text = capsys.readouterr().err
    assert " failed\nTraceback (most recent call last):\n" in text
    assert "ValueError: ('{} <x> {message}', 8)" in text
    assert "password" not in text


@pytest.mark.parametrize("form", LogFormat)
@pytest.mark.parametrize("level", LogLevel)
def test_levels(capsys: pytest.CaptureFixture[str], form: LogFormat, level: LogLevel) -> None:
    """Messages below the level are hidden, and a new configuration replaces the old one."""
    for again in (LogLevel.DEBUG, level):
        logs.configure(again, form)
    names = ["debug", "info", "warning", "error"]
    for name in names:
        logger.log(name.upper(), f"a {name}")
    text = capsys.readouterr().err
    assert [name for name in names if f"a {name}" in text] == names[names.index(level.value) :]


@pytest.fixture(name="library")
def fixture_library() -> Iterator[logging.Logger]:
    """A logger of the standard library that forwards to loguru."""
    library = logging.getLogger("some.library")
    handler = logs.Intercept()
    library.handlers, library.propagate = [handler], False
    library.setLevel(1)
    yield library
    library.handlers, library.propagate = [], True
    handler.close()


@given(message=ANY)
def test_standard_library(capsys: pytest.CaptureFixture[str], library: logging.Logger, message: str) -> None:
    """A record of the standard library keeps its level, message and logger name."""
    logs.configure(LogLevel.DEBUG, LogFormat.JSON)
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(library, level)("%s {}", message)
        (line,) = lines(capsys)
        assert (line["level"], line["message"]) == (level, f"{message} {{}}")
        assert line["logger"] == "some.library"


def test_levels_of_its_own(capsys: pytest.CaptureFixture[str], library: logging.Logger) -> None:
    """A level unknown to loguru is compared by its number."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    library.log(15, "below")
    library.log(35, "above")
    (line,) = lines(capsys)
    assert (line["level"], line["message"]) == ("level 35", "above")


def test_exceptions_of_the_standard_library(
    capsys: pytest.CaptureFixture[str], library: logging.Logger
) -> None:
    """Exceptions are forwarded, even if there is no current exception."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    try:
        fail("why")
    except ValueError:
        library.exception("failed")
    library.exception("nothing failed")
    first, second = lines(capsys)
    assert "ValueError: ('why', 8)" in first["exception"]
    assert "NoneType: None" in second["exception"]


def test_record_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose arguments do not fit its message is reported as by the standard library."""
    logs.configure(LogLevel.INFO, LogFormat.JSON)
    handler = logs.Intercept()
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    handler.close()
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, value",
    [
        ("WSGI_STORE_HASH", "md6"),
        ("WSGI_STORE_MAX_SIZE", "much"),
        ("WSGI_STORE_NO_SUCH_THING", "1"),
        ("WSGI_STORE_ROOT", "ftp://nowhere"),
        ("WSGI_STORE_LOG_FORMAT", "yaml"),
    ],
)
def test_bad_setting(tmp_path: os.PathLike[str], name: str, value: str) -> None:
    """At start, the application rejects a bad setting in one line that names it."""
    environ = {key: text for key, text in os.environ.items() if not key.startswith("WSGI_STORE_")}
    done = subprocess.run(
        [sys.executable, "-c", "import wsgi_store.wsgi"],
        env={**environ, name: value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout == ""
    assert re.fullmatch(f"wsgi-store: {name}: .+\n", done.stderr)
    assert not os.listdir(tmp_path)


def test_application_of_a_server(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing wsgi_store.wsgi creates the application from the environment."""
    monkeypatch.setenv("WSGI_STORE_ROOT", f"{tmp_path}/data")
    monkeypatch.setenv("WSGI_STORE_HASH", "sha256")
    code = "from wsgi_store.wsgi import application; print(application.config)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"root='{tmp_path}/data'" in done.stdout and "SHA256" in done.stdout
    assert os.path.exists(f"{tmp_path}/data/store.json")
