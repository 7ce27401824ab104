"""Servers and commands without a home or user name, on machines with one writable directory."""

import hashlib
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import install
from tests.support.exchanges import DATA, HASH, SIZE, told
from tests.support.servers import DEPLOY, PROJECT, STRICT, Server, gunicorn, uwsgi
from tests.support.strangers import home
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.upkeep.plan import TUNING

# Neither user may write coverage data.
pytestmark = pytest.mark.uncounted

UNKNOWN = 12345  # no such user exists
USER = ("setpriv", f"--reuid={UNKNOWN}", f"--regid={UNKNOWN}", "--clear-groups", "--inh-caps=-all")
BARE = ("env", "-u", "HOME", "-u", "TMPDIR", "-u", "NETRC", "-u", "USER", "-u", "LOGNAME")
# Makes all but one directory read-only, and /dev/shm a read-only file system.
# Python may be in root's home, closed to others: a tmpfs covers it, with the needed directories on top.
MOUNTS = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount -t tmpfs none /mnt
number=0
for path in {kept}; do
    number=$((number + 1)); mkdir /mnt/$number; mount --bind "$path" /mnt/$number
done
for path in {closed}; do mount -t tmpfs -o mode=755 none "$path"; done
number=0
for path in {kept}; do
    number=$((number + 1)); mkdir -p "$path"; mount --bind /mnt/$number "$path"
done
mount -t tmpfs -o ro none /dev/shm
for path in $(cut -d' ' -f5 /proc/self/mountinfo); do
    case $path in "$0"|/dev/*|/proc/*|/sys/*) continue ;; esac
    mount -o remount,bind,ro "$path" 2>/dev/null || true
done
cd "$0"
exec "$@"
"""
NOWHERE = (
    "wsgi-store: cannot create a temporary file: make /dev/shm or /tmp writable, "
    "or name a directory by TMPDIR or --worker-tmp-dir"
)


def read_only_but(directory: Path) -> tuple[str, ...]:
    """The command prefix for an unknown user who can write only to this directory."""
    kept, closed = [], set()
    for path in map(Path, (PROJECT, sys.prefix, sys.base_prefix)):
        if around := [parent for parent in path.parents if not parent.stat().st_mode & stat.S_IXOTH]:
            kept.append(shlex.quote(str(path)))
            closed.add(shlex.quote(str(around[-1])))
    script = MOUNTS.format(kept=" ".join(kept), closed=" ".join(closed))
    return ("unshare", "-m", "sh", "-c", script, str(directory), *USER)


def within(directory: Path, *command: str, at: str = "/", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command there, with only the given environment."""
    settings = [f"{name}={value}" for name, value in env.items()]
    into = ["env", "-i", f"--chdir={at}", "PATH=/usr/bin:/bin", *settings, *command]
    return subprocess.run(
        [*read_only_but(directory), *into], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(name="directory")
def _directory() -> Iterator[Path]:
    with home(UNKNOWN) as path:
        yield path


def moves(server: Server) -> None:
    """Store a file and fetch it."""
    with Connection(server.port) as connection:
        assert connection.ask(message("GET", "/readyz")).status == 200
        assert told(connection.ask(message("POST", "/", DATA))) == (HASH, SIZE, True)
        assert connection.ask(message("GET", f"/{HASH}")).body == DATA


@pytest.mark.parametrize("how", ["option", "TMPDIR"])
def test_gunicorn(directory: Path, how: str) -> None:
    """gunicorn starts if one writable directory is named, even the store's own."""
    before = ("env", "--chdir=/", *BARE)
    arguments: tuple[str, ...] = ()
    if how == "option":
        arguments = ("--worker-tmp-dir", str(directory))
    else:
        before += (f"TMPDIR={directory}",)
    before = (*read_only_but(directory), *before)
    with gunicorn(directory, *arguments, before=before, workers=1, WSGI_STORE_METRICS="on") as server:
        moves(server)
        with Connection(server.port) as connection:
            assert b"wsgi_store_received_bytes_total 3" in connection.ask(message("GET", "/metrics")).body
    assert sorted(os.listdir(directory)) == ["gunicorn.log", "store"]


def test_uwsgi(directory: Path) -> None:
    """uWSGI puts its socket into TMPDIR."""
    with uwsgi(directory, TMPDIR=str(directory)) as server:
        assert list(directory.glob("wsgi-store-*.sock"))
        moves(server)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), NOWHERE),
        (("--worker-tmp-dir", "/nowhere"), "wsgi-store: --worker-tmp-dir: cannot create a file in /nowhere"),
        (("--worker-tmp-dir", "/usr"), "wsgi-store: --worker-tmp-dir: cannot create a file in /usr"),
    ],
    ids=["none", "missing", "read-only"],
)
def test_nowhere_for_temporary_files(directory: Path, arguments: tuple[str, ...], said: str) -> None:
    """Without a temporary directory the start fails in one line, not in a traceback or endless restarts."""
    command = [sys.executable, *STRICT, "-m", "gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py")]
    command += ["--bind", "127.0.0.1:0", *arguments]
    done = within(directory, *command, WSGI_STORE_ROOT=str(directory / "store"))
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(said)
    assert done.returncode != 0


@pytest.fixture(name="served")
def _served(directory: Path) -> Iterator[Server]:
    before = (*read_only_but(directory), *BARE, f"TMPDIR={directory}")
    with gunicorn(directory, before=before, workers=1) as server:
        yield server


@pytest.fixture(name="homes")
def _homes(directory: Path) -> dict[str, dict[str, str]]:
    """Environments without HOME, and with one that is foreign, closed, missing or no directory."""
    foreign = directory / "foreign"
    foreign.mkdir()
    (foreign / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (foreign / ".netrc").chmod(0o600)
    closed = directory / "closed"
    closed.mkdir(0o700)
    homes = {"foreign": str(foreign), "closed": str(closed), "null": "/dev/null", "missing": "/nowhere"}
    return {"none": {}, **{name: {"HOME": path} for name, path in homes.items()}}


@pytest.mark.parametrize("kind", ["none", "foreign", "closed", "null", "missing"])
def test_the_client(directory: Path, served: Server, homes: dict[str, dict[str, str]], kind: str) -> None:
    """The client works without a readable home, which it needs only for ~/.netrc."""
    text = f"import wsgi_store; print(wsgi_store.Client('http://127.0.0.1:{served.port}').put(b'x').size)"
    done = within(directory, sys.executable, *STRICT, "-c", text, **homes[kind])
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_the_command(directory: Path, served: Server, homes: dict[str, dict[str, str]]) -> None:
    """The command moves files without a home, and names the file that it cannot write."""
    env = {"WSGI_STORE_URL": f"http://127.0.0.1:{served.port}", **homes["closed"]}
    (directory / "file").write_bytes(DATA)
    program = str(install(directory / "bin"))
    done = within(directory, program, "put", str(directory / "file"), **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(HASH)
    done = within(directory, program, "get", HASH, "-o", str(directory / "copy"), **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (directory / "copy").read_bytes() == DATA
    done = within(directory, program, "get", HASH, at="/", **env)
    assert (done.returncode, done.stderr) == (1, f"wsgi-store: {HASH}.part: Read-only file system\n")
    done = within(directory, program, "rm", HASH, **env)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_netrc_that_was_named(directory: Path, homes: dict[str, dict[str, str]]) -> None:
    """A file named by NETRC must be readable."""
    program = str(install(directory / "bin"))
    foreign = f"{homes['foreign']['HOME']}/.netrc"
    for path, why in ((foreign, "Permission denied"), ("~/mine", "there is no home directory")):
        done = within(directory, program, "ls", WSGI_STORE_URL="http://127.0.0.1:1", NETRC=path)
        assert (done.returncode, done.stderr) == (2, f"wsgi-store: cannot read {path}: {why}\n")


def test_upkeep(directory: Path) -> None:
    """Without /dev/shm, where processes share locks, upkeep runs in threads."""
    root = directory / "store"
    LocalStore(str(root), Algorithm.SHA256)
    for number in range(TUNING.processes_from * TUNING.batch_blobs + 1):
        data = str(number).encode()
        name = hashlib.sha256(data).hexdigest()
        (root / name[:2]).mkdir(exist_ok=True)
        (root / name[:2] / name).write_bytes(data)
    subprocess.run(["chown", "-R", f"{UNKNOWN}:{UNKNOWN}", str(root)], check=True)
    program = str(install(directory / "bin"))
    env = {"WSGI_STORE_ROOT": str(root), "WSGI_STORE_TOKENS": str(directory / "tokens")}
    done = within(directory, program, "verify", "--workers", "2", **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clean: checked 4,097 of 4,097 blobs")
    for arguments in (
        ("collect",),
        ("du",),
        ("manifest",),
        ("token", "add", "me", "--scope", "read"),
        ("token", "list"),
    ):
        done = within(directory, program, *arguments, **env)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_serve(directory: Path) -> None:
    """`wsgi-store serve` gives gunicorn's message, and reports a removed current directory."""
    program = str(install(directory / "bin"))
    env = {"WSGI_STORE_ROOT": str(directory / "store")}
    done = within(directory, program, "serve", **env)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", NOWHERE + "\n")
    gone = f'mkdir {directory}/gone && cd {directory}/gone && rmdir ../gone && exec "$@"'
    done = within(directory, "sh", "-c", gone, "sh", program, "serve", **env)
    said = "wsgi-store: the current directory: No such file or directory\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(said) and "Traceback" not in done.stderr  # the shell complains as well
