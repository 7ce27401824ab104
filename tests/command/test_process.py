"""The command `wsgi-store` as a process: signals, pipes, terminals, `serve`."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import environment, install, run, terminal
from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import reply, saying
from tests.support.servers import PROJECT, Server, gunicorn, until
from wsgi_store.client import Client


@pytest.fixture(name="program")
def fixture_program(tmp_path: Path) -> Path:
    """The command, in a directory of its own."""
    return install(tmp_path / "here")


@pytest.fixture(scope="module", name="url")
def fixture_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a blob."""
    with gunicorn(tmp_path_factory.mktemp("process")) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url) as client:
            client.put(DATA)
        yield url
        assert not server.staged()


def start(program: Path, *arguments: str, **streams: int) -> subprocess.Popen[bytes]:
    """Start the command."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams}
    return subprocess.Popen(  # pylint: disable=consider-using-with  # the test's to end
        [program, *arguments], cwd=program.parent, env=environment(program.parent), **options
    )


def test_interrupted_download(program: Path, url: str) -> None:
    """Ctrl-C leaves the received bytes in FILE.part and no traceback; the next run resumes."""
    arguments = ["get", HASH, "-o", "file"]
    whole = reply(DATA, ETag=f'"{HASH}"')
    part = program.parent / "file.part"
    # The answer is incomplete but its connection stays open, so that the client waits for more.
    with saying(whole[: -SIZE // 3], b"") as peer:
        with start(program, *arguments, "--url", peer.url, "--retries", "60") as process:
            until(lambda: part.exists() and part.stat().st_size > 0, "the first half")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert sorted(os.listdir(program.parent)) == ["file.part", "wsgi-store"]
    assert run(program, *arguments, "--url", url).returncode == 0
    assert (program.parent / "file").read_bytes() == DATA


def connected(pid: int) -> bool:
    """Tell whether a process has a socket."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if "socket:" in os.readlink(fd):
                return True
    return False


def test_interrupted_upload(program: Path, url: str) -> None:
    """Ctrl-C ends an upload at once, even while its threads are blocked."""
    reader, writer = os.pipe()
    with start(program, "put", "-", "--url", url, stdin=reader) as process:
        os.close(reader)
        os.write(writer, b"some")
        until(lambda: connected(process.pid), "the connection")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    os.close(writer)
    assert (process.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize("arguments", [["get", HASH, "-o", "-"], ["ls"], ["stat", HASH]])
def test_a_closed_pipe(program: Path, url: str, arguments: list[str]) -> None:
    """When the reader of the output is gone, the command ends silently."""
    reader, writer = os.pipe()
    os.close(reader)
    with start(program, *arguments, "--url", url, stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (141, b"")


def test_a_closed_pipe_while_others_upload(program: Path, url: str) -> None:
    """A closed output pipe ends the command at once, even while threads are blocked."""
    reader, writer = os.pipe()
    os.close(reader)
    waiting, never = os.pipe()
    (program.parent / "file").write_bytes(DATA)
    with start(program, "put", "file", "-", "--url", url, stdin=waiting, stdout=writer) as process:
        os.close(writer)
        try:
            _, err = process.communicate(timeout=20)
        finally:
            os.close(never)
            os.close(waiting)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("put file 2>&-", 0),
        ("put nothing 2>&-", 1),
        ("put - <&-", 1),
        ("ls >&-", 1),
        ("get {hash} -o - >&-", 1),
        ("put file <&- 2>&-", 0),
    ],
)
def test_closed_streams(program: Path, url: str, command: str, status: int) -> None:
    """A closed stream causes an error only if the command needs it."""
    (program.parent / "file").write_bytes(DATA)
    done = run(
        Path("/bin/sh"), "-c", f"cd {program.parent} && {program} {command.format(hash=HASH)} --url {url}"
    )
    assert done.returncode == status
    bad = status and "2>&-" not in command
    assert done.stderr.endswith(b"Bad file descriptor\n" if bad else b"")
    assert done.stderr.count(b"\n") == bool(bad)


@pytest.mark.uncounted  # it would limit the coverage data, too
def test_no_room_for_a_file(program: Path, url: str) -> None:
    """A file over the process's size limit gives the exit status of a full disk."""
    limited = f"cd {program.parent} && ulimit -f 100 && {program} get {HASH} --url {url}"
    done = run(Path("/bin/sh"), "-c", limited)
    assert (done.returncode, done.stderr) == (7, f"wsgi-store: {HASH}: File too large\n".encode())


def test_a_full_output(program: Path, url: str) -> None:
    """A full output device is an error."""
    with open("/dev/full", "wb") as full, start(program, "ls", "--url", url, stdout=full.fileno()) as process:
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (7, b"wsgi-store: No space left on device\n")


def test_a_terminal(program: Path, url: str) -> None:
    """On a terminal, results are tables with the same rows, and transfers show bars."""
    shown = terminal(program, "ls", "--url", url)
    assert re.search(rf"hash +size *\r\n *{HASH} +3.0 MB", shown), shown
    (program.parent / "file").write_bytes(DATA)
    shown = terminal(program, "put", "file", "--url", url)
    assert re.search(rf"{HASH} +{url}/{HASH} +file", shown), shown
    assert "3.0 MB" in shown
    (program.parent / ":heart:.txt").write_bytes(DATA)
    assert ":heart:.txt" in terminal(program, "put", ":heart:.txt", "--url", url)
    shown = terminal(program, "get", HASH, "-o", "down", "--url", url)
    assert (program.parent / "down").read_bytes() == DATA
    assert "3.0" in shown


def test_many_retries_are_told(program: Path) -> None:
    """Each retry is reported with its reason."""
    done = run(program, "ls", "--url", "http://127.0.0.1:1", "--retries", "1")
    first, second = done.stderr.decode().splitlines()
    failure = "wsgi-store: cannot reach http://127.0.0.1:1: Connection refused"
    assert re.fullmatch(rf"{failure}: trying again in 0.\d s", first)
    assert second == failure
    assert done.returncode == 6
    done = run(program, "ls", "--json", "--url", "http://127.0.0.1:1", "--retries", "1")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["code"] == "unreachable"


def test_what_a_server_says_is_shown_as_text(program: Path) -> None:
    """Text from a server cannot control the terminal, neither in errors nor in reasons for a retry."""
    told = rb'{"code": "store_unavailable", "detail": "\u001b[31m\u0007 no\ndisk"}'
    with saying(reply(told, "503 No", Content_Type="application/problem+json")) as peer:
        done = run(program, "ls", "--url", peer.url, "--retries", "1")
    assert done.returncode == 6
    lines = done.stderr.decode().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_help_is_quick(program: Path) -> None:
    """Help loads no command module, nor urllib3 or rich."""
    code = PROBE.format(path=str(program.parent.parent))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Exit status" in done.stdout
    assert done.stderr.split() == [
        "click",
        "wsgi_store",
        "wsgi_store.cli",
        "wsgi_store.cli.main",
        "wsgi_store.cli.output",
        "wsgi_store.cli.progress",
        "wsgi_store.errors",
        "wsgi_store.version",
    ]


PROBE = """
import atexit, sys
from wsgi_store.cli.main import main
names = ("wsgi_store", "click", "rich", "urllib3", "loguru", "gunicorn", "werkzeug")
def tell():
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    print(*sorted(name for name in found if not name.startswith("click.")), file=sys.stderr)
atexit.register(tell)
main(["--help"])
"""


def test_without_what_it_needs() -> None:
    """Without the extra, the command says in one line how to install it."""
    code = "import sys; sys.modules['click'] = None; import wsgi_store.cli.main"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.endswith("install the extra cli (docs/deployment.md)")


def test_completion(program: Path) -> None:
    """A shell can complete commands and options."""
    env = {"_WSGI_STORE_COMPLETE": "bash_complete", "COMP_WORDS": "wsgi-store p", "COMP_CWORD": "1"}
    assert run(program, **env).stdout == b"plain,put\n"
    options = ("get x -o ", "link --keys-file ", "ticket --keys-file ", "ls --token-file ", "verify --root ")
    for words in ("put ", *options, "put a "):
        count = str(words.count(" ") + 1)
        env = {
            "_WSGI_STORE_COMPLETE": "bash_complete",
            "COMP_WORDS": f"wsgi-store {words}",
            "COMP_CWORD": count,
        }
        assert run(program, **env).stdout == b"file,\n", words
    assert b"complete" in run(program, _WSGI_STORE_COMPLETE="bash_source").stdout


def served(program: Path) -> Server:
    """Start `wsgi-store serve`."""
    with (program.parent / "log").open("wb") as log:
        process = subprocess.Popen(  # pylint: disable=consider-using-with  # the server's to end
            [program, "serve", "--", "--bind", "127.0.0.1:0", "--workers", "1"],
            cwd=program.parent,
            env=environment(program.parent, PYTHONPATH=str(PROJECT)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Server(process, program.parent / "log", program.parent / "store")


LISTENING = r"Listening at: http://127\.0\.0\.1:(\d+) \((\d+)\)"


def test_serve(program: Path) -> None:
    """`serve` runs gunicorn with the shipped settings and the options after --."""
    with served(program) as server:
        server.port = int(server.await_log(LISTENING)[0][1])
        server.await_answer()
        with Client(f"http://127.0.0.1:{server.port}") as client:
            assert client.put(b"hello").hash == hashlib.sha256(b"hello").hexdigest()
        assert "wsgi_store" in server.text() or server.logged("Booting worker")
    assert (server.root / "store.json").exists()


def test_serve_is_upgraded(program: Path) -> None:
    """SIGUSR2 starts a second server on the same port, which stays when the first one ends."""
    with served(program) as server:
        port, pid = server.await_log(LISTENING)[0].groups()
        os.kill(int(pid), signal.SIGUSR2)
        upgraded = int(server.await_log(LISTENING, 2)[1][2])
        try:
            os.kill(int(pid), signal.SIGTERM)
            assert server.process.wait(30) == 0
            with Client(f"http://127.0.0.1:{port}") as client:
                assert client.put(b"hello").hash == hashlib.sha256(b"hello").hexdigest()
        finally:
            os.kill(upgraded, signal.SIGTERM)
        # The new master is not a child of this process.
        until(lambda: len(server.logged("Shutting down: Master")) == 2, "the end of the other one")


def test_serve_refuses_in_a_line(program: Path) -> None:
    """A server that cannot start ends with one line that says why."""
    done = run(program, "serve", WSGI_STORE_HAHS="md5", PYTHONPATH=str(PROJECT))
    assert done.returncode == 1
    assert done.stderr + done.stdout == b"wsgi-store: WSGI_STORE_HAHS: unknown setting\n"
