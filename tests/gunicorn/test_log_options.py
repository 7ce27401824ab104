"""gunicorn's log options: applied or rejected at start; files are reopened after a rotation."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests.support.servers import DEPLOY, Server, gunicorn, refusal, until
from tests.support.users import NOBODY, require_entry
from tests.support.wire import Connection, message

SETTINGS = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]


def provoke(server: Server, path: str) -> None:
    """Cause an access line and a warning."""
    with Connection(server.port) as connection:
        connection.ask(message("GET", path))
        connection.ask(b"BAD\r\n\r\n")


def has(path: Path, text: str) -> bool:
    """Tell whether a file contains a text."""
    return path.exists() and text in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("user", [None, NOBODY])
def test_files(user: int | None) -> None:
    """Log files follow the options and are reopened on SIGUSR1, also if workers run as another user."""
    if user:
        if os.getuid():
            pytest.skip("only root has workers of another user")
        require_entry()
    # Outside pytest's own directory, which other users cannot enter.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        access, errors = directory / "access", directory / "errors"
        options = ["--access-logfile", str(access), "--error-logfile", str(errors)]
        if user:
            os.chown(directory, user, user)
            # That user may be unable to read modules imported later.
            options += ["--user", str(user), "--group", str(user), "--preload"]
        errors.touch()
        with gunicorn(directory, *options) as server:
            provoke(server, "/first")
            until(lambda: has(access, "GET /first 404") and has(errors, "WARNING"), "lines in their files")
            assert not has(errors, "GET /first")
            for path in (access, errors):
                path.rename(path.with_suffix(".1"))
            server.process.send_signal(signal.SIGUSR1)
            until(lambda: not any(name.endswith(".1") for name in server.descriptors()), "new files")
            provoke(server, "/second")
            until(lambda: has(access, "GET /second 404") and has(errors, "WARNING"), "lines in new files")
            assert not has(access, "GET /first")
            assert (directory / "gunicorn.log").read_bytes() == b""


@pytest.mark.parametrize(
    "option",
    [
        ("--daemon",),
        ("-D",),
        ("--log-level", "debug"),
        ("--access-logformat", "%(h)s"),
        ("--log-config", "nowhere.ini"),
        ("--log-config-json", "nowhere.json"),
        ("--log-syslog",),
        ("--log-syslog-to", "udp://127.0.0.1:1"),
        ("--log-syslog-prefix", "a"),
        ("--log-syslog-facility", "daemon"),
        ("--disable-redirect-access-to-syslog",),
        ("--statsd-host", "127.0.0.1:1"),
        ("--statsd-prefix", "a"),
        ("--dogstatsd-tags", "a"),
    ],
    ids="".join,
)
def test_refused(tmp_path: Path, option: tuple[str, ...]) -> None:
    """An option without effect is rejected in one line that names it, before anything is created."""
    status, said = refusal([*SETTINGS, *option], tmp_path / "store")
    assert status == 1
    name = "--daemon" if option == ("-D",) else option[0]
    assert [line.split(": ")[:2] for line in said] == [["wsgi-store", name]]
    assert not (tmp_path / "store").exists()
    status, said = refusal(SETTINGS, tmp_path / "store", GUNICORN_CMD_ARGS=" ".join(option))
    assert (status, len(said)) == (1, 1)


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A log file in a missing directory ends the start."""
    status, said = refusal([*SETTINGS, "--access-logfile", str(tmp_path / "no" / "a")], tmp_path / "store")
    assert status != 0
    assert not any("Traceback" in line for line in said)
    assert sum(bool(line) for line in said) == 1


def test_captured_output(tmp_path: Path) -> None:
    """With --capture-output, the output of the application goes to the error log."""
    (tmp_path / "printing.py").write_text(
        "from wsgi_store.wsgi import application as app\n"
        "def application(environ, start_response):\n"
        "    print('printed', flush=True)\n"
        "    return app(environ, start_response)\n",
        encoding="ascii",
    )
    errors = tmp_path / "errors"
    options = ("--error-logfile", str(errors), "--capture-output", "--pythonpath", str(tmp_path))
    errors.touch()
    # Without strict warnings: gunicorn leaves the file to the garbage collector.
    with gunicorn(tmp_path, *options, "printing:application", python=()) as server:
        provoke(server, "/")
        until(lambda: has(errors, "printed\n"), "what was printed")
