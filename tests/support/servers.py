"""Real servers for tests: started with the files of `deploy/`, watched, stopped by their id."""

import contextlib
import getpass
import glob
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
PROGRAMS = Path(sys.executable).parent
STRICT = ("-X", "dev", "-W", "error")
# What no log may contain: logged failures, and failures that bypassed the log.
TROUBLE = re.compile(
    r"\b(ERROR|CRITICAL)\b|\"(error|critical)\"|\[(crit|alert|emerg)\]|DAMN|Traceback"
    r"|Exception ignored|Warning:"
)
# The names by which tests address this machine; servers do not know them by themselves.
NAMES = {"WSGI_STORE_HOSTS": "a, b, x, example.org"}
# Variables that configure a server and must not leak into a test.
STEERING = ("WSGI_STORE_", "GUNICORN_", "WEB_CONCURRENCY", "SCRIPT_NAME")
BLOSSOM = "wsgi_store.protocols.blossom:application"
# Arguments of gunicorn with which /healthz is not answered by HTTP.
WITHOUT_HEALTH = frozenset({"uwsgi", BLOSSOM})
NGINX = """
{user}
daemon off;
pid {directory}/nginx.pid;
error_log stderr info;
events {{ worker_connections 8192; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include site.conf;
}}
"""


def matching(directory: Path, pattern: str) -> list[Path]:
    """The paths below a directory that match; a server may change the directory meanwhile."""
    # pathlib's own would raise for a directory that is removed just then.
    return [directory / name for name in glob.glob(pattern, root_dir=directory)]


def received(root: Path, url: str = "*") -> int:
    """How many bytes the unfinished uploads of a store have, or the one with this URL."""
    size = 0
    for path in matching(root, f".uploads/*/{url.rpartition('/')[2]}/[0-9]*"):
        if path.name.isdigit():
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
    return size


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait for a condition; fails when it does not hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.005)


@dataclass
class Server:
    """A server in separate processes, on a store or in front of another server.

    As a context manager it stops the server at the end, and fails if the log or the exit status is bad.
    """

    process: subprocess.Popen[bytes]
    log: Path
    root: Path
    port: int = 0
    end_signal: signal.Signals = signal.SIGTERM
    workers: set[int] = field(default_factory=set)
    # Patterns of log lines that are trouble elsewhere and expected here.
    expected: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def logged(self, pattern: str) -> list[re.Match[str]]:
        """The matches of a pattern in the log, line by line."""
        return [match for line in self.text().splitlines() if (match := re.search(pattern, line))]

    def await_log(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """Wait until a pattern was logged this many times."""
        ended = self.process.poll
        until(lambda: len(self.logged(pattern)) >= count or ended() is not None, f"{pattern!r} in the log")
        found = self.logged(pattern)
        assert len(found) >= count, self.text()
        return found

    def await_answer(self) -> None:
        """Wait until the service answers through this server."""

        def answers() -> bool:
            assert self.process.poll() is None, self.text()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            return False

        until(answers, "an answer")

    def processes(self) -> set[int]:
        """The ids of the children of the first process."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return {int(child) for child in children.split()}

    def descriptors(self) -> Counter[str]:
        """The open files of the processes; sockets and pipes by kind only."""
        found: Counter[str] = Counter()
        for pid in self.processes() or {self.process.pid}:
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    found[os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")[0]] += 1
        return found

    def until_staged(self) -> None:
        """Wait until a file is being received."""
        until(lambda: any("/.staging" in name for name in self.descriptors()), "a staged file")

    def until_unused(self, before: Counter[str]) -> None:
        """Wait until no more files are open than before."""

        def surplus() -> Counter[str]:
            # uWSGI creates the pollers of its threads on demand.
            return self.descriptors() - before - Counter(anon_inode=1000)

        left: Counter[str] = Counter()

        def unused() -> bool:
            nonlocal left
            left = surplus()
            return not left

        try:
            # The server closes a connection that its client has closed when it next looks at it.
            until(unused, "descriptors to be closed")
        except AssertionError as failure:
            raise AssertionError(f"still open: {left}") from failure

    def blobs(self) -> set[str]:
        """The hashes of the files in the store."""
        return {path.name for path in self.root.glob("[0-9a-f][0-9a-f]/*") if not path.is_symlink()}

    def staged(self) -> list[str]:
        """Staged files that have a name."""
        return os.listdir(self.root / ".staging")

    def stop(self) -> None:
        """Stop the server; fails if a worker crashed or the log contains anything unexpected."""
        # A worker that crashed has been replaced by now, or is missing.
        crashed = self.process.poll() is None and self.workers - self.processes()
        if self.process.poll() is None:
            self.process.send_signal(self.end_signal)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert not crashed, self.text()
        trouble = [
            line
            for line in self.text().splitlines()
            if TROUBLE.search(line) and not any(re.search(known, line) for known in self.expected)
        ]
        assert not trouble, self.text()
        assert status == 0, self.text()

    def kill(self) -> None:
        """Kill the server and its workers."""
        below = self.processes() if self.process.poll() is None else set()
        self.process.kill()
        self.process.wait()
        for pid in below:
            # Some workers exit when they become orphans; nginx's do not.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def gunicorn(  # pylint: disable=too-many-arguments
    directory: Path,
    *arguments: str,
    workers: int = 2,
    python: tuple[str, ...] = STRICT,
    before: tuple[str, ...] = (),
    whole: bool = True,
    address: str = "127.0.0.1",
    **env: str,
) -> Server:
    """Start gunicorn with the shipped settings, which the arguments override.

    `before` is a command that executes the rest of the command line. With `whole` all workers have
    to be up, otherwise the first one is enough.
    """
    command = [*before, sys.executable, *python, "-m", "gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py")]
    command += ["--bind", f"{address}:0", "--workers", str(workers), *arguments]
    server = _start(command, directory / "store", directory / "gunicorn.log", env)
    if "--error-logfile" in arguments:
        server.log = Path(arguments[arguments.index("--error-logfile") + 1])
    with _killed_on_failure(server):
        listening = server.await_log(r"Listening at: (https?)://[\d.]+:(\d+)")[0]
        server.port = int(listening[2])
        if listening[1] == "http" and not WITHOUT_HEALTH.intersection(arguments):
            server.await_answer()
        if whole:
            until(lambda: sum(map(_accepts, server.processes())) == workers, "all workers")
        server.workers = server.processes()
    return server


def uwsgi(
    directory: Path, address: str = "127.0.0.1", ini: Path = DEPLOY / "uwsgi.ini", **env: str
) -> Server:
    """Start uWSGI with the shipped settings."""
    command = [str(PROGRAMS / "pyuwsgi"), "--ini", str(ini)]
    env = {"BIND": f"{address}:0", **env}
    server = _start(command, directory / "store", directory / "uwsgi.log", env)
    with _killed_on_failure(server):
        fd = server.await_log(r"uWSGI http bound on [\d.]+:0 fd (\d+)")[0][1]
        server.port = _port_of(Path(f"/proc/{server.process.pid}/fd/{fd}"))
        server.await_log(r"\(master-start\)")  # before that SIGTERM has another meaning
        server.await_answer()
        server.workers = server.processes()
    return server


def waitress(directory: Path, address: str = "127.0.0.1", **env: str) -> Server:
    """Start waitress with nothing but an address."""
    # Without -W error, because waitress leaves sockets to the garbage collector.
    command = [sys.executable, "-m", "waitress", f"--listen={address}:0", "wsgi_store.wsgi:application"]
    server = _start(command, directory / "store", directory / "waitress.log", env)
    server.end_signal = signal.SIGINT
    with _killed_on_failure(server):
        server.port = int(server.await_log(r"Serving on http://[\d.]+:(\d+)")[0][1])
        server.await_answer()
    return server


def nginx(
    directory: Path,
    backend: Server,
    *,
    direct: bool,
    locations: str = "",
    changes: Mapping[str, str] | None = None,
) -> Server:
    """Start nginx with the shipped settings in front of a server; `direct` adds those for public reading.

    `changes` replace directives.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    if direct:
        locations += (DEPLOY / "nginx-public-read.conf").read_text(encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for shipped, here in {
            # First, because it has some of the others in it.
            "#include /etc/nginx/snippets/wsgi-store-public-read.conf;": locations,
            "listen 80;": f"listen 127.0.0.1:{port};",
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{backend.port};",
            "/var/lib/wsgi-store": str(backend.root),
            "/var/log/nginx": str(directory),
            **(changes or {}),
        }.items():
            assert shipped in text
            text = text.replace(shipped, here)
        (directory / "site.conf").write_text(text, encoding="utf-8")
        # Only root may name another user, and has to, because nobody cannot read a test's files.
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        (directory / "nginx.conf").write_text(NGINX.format(user=user, directory=directory), encoding="utf-8")
        command = [program, "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]
        # nginx inherits the listening socket as in an upgrade, so no other process can take the port.
        env = {"NGINX": f"{listener.fileno()};"}
        server = _start(command, backend.root, directory / "nginx.log", env, (listener.fileno(),))
    server.end_signal = signal.SIGQUIT
    server.port = port
    with _killed_on_failure(server):
        server.await_answer()
    return server


def refusal(command: list[str], root: Path, **env: str) -> tuple[int, list[str]]:
    """Run a server that should refuse to start; returns its exit status and its output lines."""
    command = [str(PROGRAMS / command[0]), *command[1:]]
    environ = _environment(root, env)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def _environment(root: Path, env: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    return {**inherited, "WSGI_STORE_ROOT": str(root), "WSGI_STORE_MIN_FREE": "0", **NAMES, **env}


def start(command: list[str], root: Path, log: Path, env: dict[str, str], *, port: int) -> Server:
    """Start a server on a port given on its command line."""
    server = _start(command, root, log, env)
    server.port = port
    return server


def _start(
    command: list[str], root: Path, log: Path, env: dict[str, str], pass_fds: tuple[int, ...] = ()
) -> Server:
    with log.open("wb") as output:
        process = subprocess.Popen(  # pylint: disable=consider-using-with  # ended by the server
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(root, env),
            cwd=log.parent,
            pass_fds=pass_fds,
        )
    return Server(process, log, root)


@contextlib.contextmanager
def _killed_on_failure(server: Server) -> Iterator[None]:
    try:
        yield
    except BaseException:
        server.kill()
        raise


def _accepts(pid: int) -> bool:
    """Whether a worker of gunicorn polls its listening socket, after the two pipes it polls first."""
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        with contextlib.suppress(OSError):
            if path.read_text(encoding="ascii").count("tfd:") > 2:
                return True
    return False


def _port_of(link: Path) -> int:
    """The port of a listening socket, for a program that does not report it."""
    inode = os.readlink(link).removeprefix("socket:[").removesuffix("]")
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[9] == inode:
            return int(fields[1].partition(":")[2], 16)
    raise AssertionError(f"{link} is no TCP socket")
