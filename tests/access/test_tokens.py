"""The token file: when it is accepted, and which tokens count while it is incomplete or unusable."""

import errno
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.support.access import ALL, HELLO, KEY, bearer, code, line, soon
from tests.support.clock import Clock, stopped
from tests.support.servers import Server, gunicorn, until
from tests.support.wire import Connection, message
from wsgi_store.access import tokens as module
from wsgi_store.access.signing import Signer
from wsgi_store.access.tokens import SETTLED, Tokens
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.errors import ConfigError, StoreUnavailable
from wsgi_store.logs import logger

OLD = line("old", "list") + line("all", ALL)


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that moves only when told to."""
    return stopped(module, monkeypatch)


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file with two tokens, in its own directory."""
    path = tmp_path / "secrets" / "tokens"
    path.parent.mkdir()
    path.write_text(OLD)
    return path


@pytest.fixture(name="client")
def fixture_client(config: Config, path: Path) -> TestApp:
    """A service with this token file."""
    return TestApp(create_app(replace(config, tokens=str(path), signing_keys=(KEY,), public_read=True)))


def put(path: Path, text: str) -> None:
    """Replace the file atomically."""
    other = path.with_name("other")
    other.write_text(text)
    os.replace(other, path)


def known(tokens: Tokens, *names: str) -> set[str]:
    """The tokens among these that are known."""
    return {name for name in names if tokens.find(name.encode())}


@pytest.mark.parametrize("way", [put, Path.write_text])
def test_a_whole_file_counts_at_once(path: Path, way: Callable[[Path, str], object]) -> None:
    """Added tokens are accepted with the next request, and removed ones rejected."""
    tokens = Tokens(str(path))
    assert known(tokens, "old", "new") == {"old"}
    way(path, "# a comment\n\n" + line("new", "list") + "  \n")
    assert known(tokens, "old", "all", "new") == {"new"}
    way(path, line("old", "read"))
    grant = tokens.find(b"old")
    assert grant and grant.scopes == {"read"}


def test_a_changed_file_of_the_same_age_is_read(path: Path) -> None:
    """A change is noticed even if the file keeps its size and mtime."""
    tokens = Tokens(str(path))
    status = path.stat()
    path.write_text(path.read_text().replace(line("old", "list"), line("new", "list")))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known(tokens, "old", "new") == {"new"}


def test_a_file_that_is_being_written(path: Path, clock: Clock) -> None:
    """Tokens stay valid while an editor rewrites the file, and new ones count once written."""
    tokens = Tokens(str(path))
    text = line("new", "read") + line("other", "read") + line("old", "list")
    with path.open("w") as file:
        for end in range(0, len(text), 7):
            assert known(tokens, "old", "all") == {"old", "all"}
            assert tokens.check() or text[:end].strip()
            file.write(text[end : end + 7])
            file.flush()
        assert known(tokens, "new", "other", "old", "all") == {"new", "other", "old"}
    clock.past += SETTLED
    assert known(tokens, "new", "other", "old", "all") == {"new", "other", "old"}


@pytest.mark.parametrize("text", ["", line("all", ALL).rstrip("\n"), line("all", ALL) + "a typo\n"])
def test_nobody_stays_who_was_taken_out(path: Path, clock: Clock, text: str) -> None:
    """After a second, even an incomplete file removes the tokens that it lacks."""
    tokens = Tokens(str(path))
    path.write_text(text)
    assert known(tokens, "old", "all") == {"old", "all"}
    clock.past += SETTLED
    assert known(tokens, "old", "all") == ({"all"} if text else set())
    # The same if the first request after the change comes an hour later.
    tokens = Tokens(str(path)) if not text.endswith("typo\n") else tokens
    put(path, OLD)
    assert known(tokens, "old") == {"old"}
    clock.past = 0.0
    path.write_text(text)
    clock.past = 3600.0
    assert known(tokens, "old") == set()


def unreadable(path: Path) -> None:
    """Replace it with a directory, which can be opened but not read."""
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    """Replace it with a FIFO, whose opening would block."""
    path.unlink()
    os.mkfifo(path)


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "No such file or directory"),
    "its directory gone": (lambda path: path.parent.rename(path.parent.parent / "away"), "No such file"),
    "a directory": (unreadable, "Is a directory|is not a regular file"),
    "a pipe": (fifo, "is not a regular file"),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("nothing")), "No such file"),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path.name)), "symbolic links"),
    "written by all": (lambda path: path.chmod(0o646), "chmod go-w"),
    "written by a group": (lambda path: path.chmod(0o660), "chmod go-w"),
    "a stranger's": (lambda path: os.chown(path, 12345, -1), "belongs to the user 12345"),
    "a stranger's directory": (
        lambda path: (os.chown(path.parent, 12345, -1), path.chmod(0o600)),
        "lies in a directory that belongs to the user 12345",
    ),
    "in a directory of all": (
        lambda path: (path.parent.chmod(0o777), path.chmod(0o600)),
        "everybody can replace it: chmod o-w",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_file_that_cannot_be_relied_on(client: TestApp, path: Path, clock: Clock, name: str) -> None:
    """An unsafe or missing file is refused at start; later it blocks all tokens after a second."""
    change, reason = UNFIT[name]
    if "stranger" in name and os.geteuid() != 0:
        pytest.skip("giving a file away takes root")
    told: list[Any] = []
    sink = logger.add(told.append, level="ERROR", format="{message}")
    try:
        client.get("/files", headers=bearer("old"))
        change(path)
        with pytest.raises(ConfigError, match=f"^WSGI_STORE_TOKENS: .*{path}.*({reason})"):
            Tokens(str(path))
        if path.parent.exists():
            client.get("/files", headers=bearer("old"))
            client.get("/readyz")
        else:  # nothing dates the loss
            client.get("/files", headers=bearer("old"), status=503)
        clock.past += SETTLED
        assert "invalid token file" in told[0]
        assert re.search(reason, told[0])
        for token in ("old", "unknown"):
            answer = client.get("/files", headers=bearer(token), status=503)
            assert code(answer) == "store_unavailable"
            assert str(path.parent) not in answer.text
        assert code(client.get("/readyz", status=503)) == "store_unavailable"
        client.get("/healthz")
        client.get("/files", status=401)
        client.get(f"/{HELLO}", status=404)
        client.get(f"/{HELLO}?link={Signer([KEY]).link(HELLO, soon() + 3600)}", status=404)
        for other in (path, path.parent):
            if other.is_dir() and other == path:
                other.rmdir()
            elif other == path and os.path.lexists(other):
                other.unlink()
            elif other == path.parent and other.exists():
                os.chown(other, os.geteuid(), -1)
                other.chmod(0o700)
        path.parent.mkdir(exist_ok=True)
        path.write_text(line("new", "list"))
        client.get("/files", headers=bearer("new"))
        client.get("/files", headers=bearer("old"), status=401)
        assert client.get("/readyz").json == {"status": "ok"}
        assert len([text for text in told if "invalid token file" in text]) == 1
    finally:
        logger.remove(sink)


def test_a_line_that_cannot_be_read(client: TestApp, path: Path, clock: Clock) -> None:
    """A malformed line disables only itself; /readyz reports `degraded`, and the log has one error."""
    told: list[Any] = []
    sink = logger.add(told.append, level="ERROR", format="{message}")
    try:
        path.write_text(OLD.replace("list ", "lost ", 1) + line("new", "list"))
        clock.past += SETTLED
        for _ in range(3):
            client.get("/files", headers=bearer("old"), status=401)
            client.get("/files", headers=bearer("new"))
            client.get("/files", headers=bearer("all"))
            ready = client.get("/readyz").json
        assert ready["status"] == "degraded"
        assert "token file" in ready["reason"]
        assert len(told) == 1
        assert f"{path}, line 1: expected a name" in told[0]
        path.write_text(OLD)
        assert client.get("/readyz").json == {"status": "ok"}
        client.get("/files", headers=bearer("old"))
    finally:
        logger.remove(sink)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_process_that_is_short_of_something(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A shortage of descriptors or memory keeps the old tokens until the file can be read."""
    tokens = Tokens(str(path))
    real = os.open

    def fail(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    put(path, line("new", "list"))
    assert known(tokens, "old", "new") == {"old"}
    monkeypatch.setattr(os, "open", real)
    assert known(tokens, "old", "new") == {"new"}


def test_a_disk_that_fails(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file that gives EIO blocks all tokens after a second, and each request retries."""
    tokens = Tokens(str(path))
    real = os.open

    def fail(*_: Any, **__: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    put(path, line("new", "list"))
    monkeypatch.setattr(os, "open", fail)
    assert known(tokens, "old") == {"old"}
    for _ in range(2):
        clock.past += SETTLED
        with pytest.raises(StoreUnavailable) as error:
            tokens.find(b"old")
        assert "Input/output error" in str(error.value.__cause__)
    monkeypatch.setattr(os, "open", real)
    assert known(tokens, "old", "new") == {"new"}


def test_threads(path: Path) -> None:
    """A token in both the old and the new file stays valid during every replacement."""
    tokens = Tokens(str(path))
    ended = threading.Event()
    failures: list[object] = []

    def ask() -> None:
        while not ended.is_set():
            if known(tokens, "all", "never") != {"all"}:
                failures.append("not known")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        put(path, line("all", ALL) + line(str(number), "read"))
    ended.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert known(tokens, "199", "198") == {"199"}


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name read",
        "name read zz",
        f"name reed {'0' * 64}",
        f"name read {'0' * 63}",
        f"name read {'0' * 64} x",
        "name read \udcff\udcfe",
    ],
)
def test_bad_lines(path: Path, text: str) -> None:
    """A malformed line is refused at start by its number, without its contents."""
    path.write_text("\n" + text + "\n", errors="surrogateescape")
    with pytest.raises(ConfigError, match="WSGI_STORE_TOKENS: .*line 2") as error:
        Tokens(str(path))
    assert "0" * 60 not in str(error.value)
    path.write_text("\n" + text + "\n" + text + "\n", errors="surrogateescape")
    with pytest.raises(ConfigError, match="; 1 more malformed"):
        Tokens(str(path))


def test_as_kubernetes_mounts_secrets(tmp_path: Path) -> None:
    """A Kubernetes secret's symlinks work in a sticky, world-writable directory, and are followed anew."""
    tmp_path.chmod(0o1777)
    data = tmp_path / "..data-1"
    data.mkdir()
    (data / "tokens").write_text(OLD)
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "tokens").symlink_to("..data/tokens")
    tokens = Tokens(str(tmp_path / "tokens"))
    assert known(tokens, "old") == {"old"}
    other = tmp_path / "..data-2"
    other.mkdir()
    (other / "tokens").write_text(line("new", "list"))
    (tmp_path / "..next").symlink_to(other.name)
    os.replace(tmp_path / "..next", tmp_path / "..data")
    assert known(tokens, "old", "new") == {"new"}


def statuses(server: Server, token: str, path: str = "/files") -> set[int]:
    """The statuses of several requests with a token, from any worker."""
    found = set()
    for _ in range(8):
        with Connection(server.port) as client:
            found.add(client.ask(message("GET", path, Authorization=f"Bearer {token}")).status)
    return found


def test_a_server(tmp_path: Path, path: Path) -> None:
    """gunicorn tolerates a typo, answers 503 to a missing or world-writable file, and recovers."""
    with gunicorn(tmp_path, workers=2, WSGI_STORE_TOKENS=str(path)) as server:
        server.expected.append("token file")
        assert statuses(server, "old") == {200}
        put(path, OLD + "typo\n")
        assert statuses(server, "old") == {200} and statuses(server, "old", "/readyz") == {200}
        with Connection(server.port) as client:
            assert b'"degraded"' in client.ask(message("GET", "/readyz")).body
        for change in (path.unlink, lambda: (put(path, OLD), path.chmod(0o666))):
            change()
            until(lambda: statuses(server, "old") == {503}, "tokens that do not count any more")
            assert statuses(server, "old", "/readyz") == {503}
        put(path, OLD)
        assert statuses(server, "old") == {200} and statuses(server, "old", "/readyz") == {200}
