"""gunicorn with the shipped settings as a process: start, reload, killed workers, stop."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exchanges import DATA, HASH, SIZE, told
from tests.support.servers import DEPLOY, Server, gunicorn, refusal, until
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.store.disk.store import LocalStore

pytestmark = pytest.mark.long(42)
NOBODY = 65534
SETTINGS = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]


@contextmanager
def transfers(server: Server) -> Iterator[Callable[[], None]]:
    """An upload and a download, each half done; yields a function that completes them."""
    with Connection(server.port) as connection:
        connection.ask(message("POST", "/", DATA))
    with Connection(server.port) as upload, Connection(server.port, receive_buffer=4096) as download:
        upload.send(message("POST", "/", Content_Length=SIZE - 1), DATA[: SIZE // 2])
        download.send(message("GET", f"/{HASH}"))
        server.until_staged()
        until(lambda: any(name.endswith(HASH) for name in server.descriptors()), "the download")

        def finish() -> None:
            upload.send(DATA[SIZE // 2 : -1])
            assert told(upload.receive())[1:] == (SIZE - 1, True)
            assert download.receive().body == DATA

        yield finish


def test_stop(tmp_path: Path) -> None:
    """On a stop, running transfers are completed."""
    with gunicorn(tmp_path) as server:
        with transfers(server) as finish:
            server.process.send_signal(signal.SIGTERM)
            server.await_log("Handling signal: term")
            finish()
        assert server.process.wait(10) == 0
    assert len(server.blobs()) == 2


@pytest.mark.parametrize("stop", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_stop_at_the_start(tmp_path: Path, stop: str) -> None:
    """A stop during the start of workers does not wait for transfers."""
    hurry = tmp_path / "hurry.conf.py"
    shipped = DEPLOY / "gunicorn.conf.py"
    hurry.write_text(
        f"""
import os, runpy, signal, time
globals().update(runpy.run_path({str(shipped)!r}))
def post_fork(server, worker):
    os.kill(worker.ppid, signal.{stop})
    time.sleep(1)
"""
    )
    status, log = refusal([SETTINGS[0], "-c", str(hurry), *SETTINGS[3:]], tmp_path / "store")
    assert status == 0, log
    assert "Shutting down: Master" in log[-1]


def test_reload(tmp_path: Path) -> None:
    """On SIGHUP every worker is replaced, and the old ones complete their transfers."""
    with gunicorn(tmp_path) as server:
        old = server.workers
        with transfers(server) as finish:
            server.process.send_signal(signal.SIGHUP)
            until(lambda: len(server.processes() - old) == len(old), "the new workers")
            finish()
        until(lambda: not server.processes() & old, "the end of the old workers")
        server.await_answer()
        server.workers = server.processes()


def test_killed_worker(tmp_path: Path) -> None:
    """A worker killed during an upload leaves no staged file, and is replaced."""
    with gunicorn(tmp_path, workers=1) as server:
        server.expected += ["was sent SIGKILL"]
        (worker,) = server.workers
        with transfers(server):
            os.kill(worker, signal.SIGKILL)
            until(lambda: server.processes() and worker not in server.processes(), "a new worker")
        server.await_answer()
        assert server.blobs() == {HASH}
        assert not server.staged()
        server.workers = server.processes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.uncounted  # that user may not write coverage data
def test_another_user(tmp_path: Path) -> None:
    """If root starts gunicorn with workers of another user, everything it creates belongs to that user."""
    conf = tmp_path / "user.conf.py"
    # That user may be unable to read modules imported later.
    conf.write_text(
        f"""
import runpy, wsgi_store.metrics.prometheus, wsgi_store.store.disk.store
globals().update(runpy.run_path({str(DEPLOY / "gunicorn.conf.py")!r}))
user = group = {NOBODY}
preload_app = True
"""
    )
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        with gunicorn(Path(name), "-c", str(conf), workers=1, WSGI_STORE_METRICS="on") as server:
            with Connection(server.port) as connection:
                assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
                assert b"wsgi_store_received_bytes_total 3" in connection.ask(message("GET", "/metrics")).body
            owners = {path.stat().st_uid for path in (server.root, *server.root.rglob("*"))}
        assert owners == {NOBODY}


@pytest.mark.parametrize(
    "env, reason",
    [
        ({"WSGI_STORE_HAHS": "md5"}, "WSGI_STORE_HAHS: unknown setting"),
        ({"WSGI_STORE_MAX_SIZE": "big"}, "WSGI_STORE_MAX_SIZE: "),
        ({"WSGI_STORE_HASH": "md5"}, "set WSGI_STORE_HASH=sha256"),
        ({"WSGI_STORE_ROOT": "/dev/null/store"}, "cannot open the store"),
        ({"WSGI_STORE_ROOT": "gopher://bucket"}, "WSGI_STORE_ROOT: "),
        ({"WSGI_STORE_ROOT": "/dev/null/\udcff"}, "cannot open the store"),
    ],
)
def test_refusal(tmp_path: Path, env: dict[str, str], reason: str) -> None:
    """If the service cannot start, gunicorn exits at once with status 1 and one line that says why."""
    LocalStore(str(tmp_path), Algorithm.SHA256)
    status, log = refusal(SETTINGS, tmp_path, **env)
    assert status == 1
    assert len(log) == 1
    assert log[0].startswith("wsgi-store: ") and reason in log[0]


def test_refusal_without_the_settings(tmp_path: Path) -> None:
    """Without the shipped settings, too, gunicorn exits instead of restarting workers forever."""
    command = ["gunicorn", "--no-control-socket", "--bind", "127.0.0.1:0", "wsgi_store.wsgi:application"]
    status, log = refusal(command, tmp_path, WSGI_STORE_HAHS="md5")
    assert status != 0
    assert log.count("wsgi-store: WSGI_STORE_HAHS: unknown setting") == 1


@pytest.mark.parametrize(
    "arguments, env, workers",
    [
        ([], {"WEB_CONCURRENCY": "7"}, 7),
        (["--workers", "3"], {"WEB_CONCURRENCY": "7"}, 3),
        ([], {"GUNICORN_CMD_ARGS": "--workers 5"}, 5),
        ([], {}, max(2, len(os.sched_getaffinity(0)))),
    ],
)
def test_worker_count(tmp_path: Path, arguments: list[str], env: dict[str, str], workers: int) -> None:
    """For the number of workers, the command line overrides the environment, which overrides the settings."""
    status, printed = refusal([*SETTINGS, "--print-config", *arguments], tmp_path, **env)
    assert status == 0, printed
    (line,) = (line for line in printed if re.match(r"workers +=", line))
    count = int(line.partition("=")[2])
    # By default, a CPU quota may lower the number.
    assert count == workers if arguments or env else 2 <= count <= workers


def test_affinity(tmp_path: Path) -> None:
    """On one processor there are two workers, because one may wait for the disk."""
    pin = "import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    command = [str(Path(sys.executable).parent / "gunicorn"), *SETTINGS[1:], "--print-config"]
    run = f"{pin}os.execv(sys.argv[1], sys.argv[1:])"
    environ = {"WSGI_STORE_ROOT": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", run, *command], env=environ, capture_output=True, text=True, check=True
    )
    assert re.search(r"^workers += 2$", done.stdout, re.MULTILINE)


def test_no_shared_memory(tmp_path: Path) -> None:
    """gunicorn starts without a writable /dev/shm."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("unshare(1) may not make a mount namespace here")
    hide = "mount -t tmpfs -o ro none /dev/shm && exec " + '"$@"'
    command = [*unshare, "sh", "-c", hide, "sh", sys.executable, "-m", *SETTINGS]
    log = tmp_path / "log"
    environ = {"WSGI_STORE_ROOT": str(tmp_path / "store"), "PATH": os.environ["PATH"]}
    with log.open("wb") as output, subprocess.Popen(command, env=environ, stderr=output) as process:
        server = Server(process, log, tmp_path / "store")
        with server:
            server.port = int(server.await_log(r"Listening at: http://127\.0\.0\.1:(\d+)")[0][1])
            server.await_answer()
            assert not any("/dev/shm" in name for name in server.descriptors())
