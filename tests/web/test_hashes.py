"""How often each algorithm is asked for: the metric, and lines in the log."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from loguru import logger

from tests.support.access import KEY, Make, bearer, line, soon
from tests.support.calling import call
from tests.support.clock import stopped
from tests.support.figures import Counting
from tests.support.servers import Server, gunicorn, uwsgi, waitress
from tests.support.wire import Connection, message
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.store.abilities import Names
from wsgi_store.store.open import open_store
from wsgi_store.testing.helpers import COLLIDING
from wsgi_store.web import hashes
from wsgi_store.web.hashes import MAX_USERS, PAUSE

DATA = b"hello"
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()
ASKED = "wsgi_store_names_total"


@pytest.fixture
def config(root: Path) -> Config:
    """Settings for an empty store with a further name."""
    open_store(str(root), Algorithm.SHA256, names=[Algorithm.MD5])
    return Config(root=str(root), min_free=0, hash=Algorithm.SHA256)


@contextmanager
def logged(level: str = "INFO") -> Iterator[list[str]]:
    """The messages logged within the block."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)


def test_the_metric(counting: Counting) -> None:
    """Every way to ask by a hash counts once, by the algorithm of the hash."""
    api = counting.api
    asked = [
        lambda: api.post(f"/?hash={MD5}", DATA),
        lambda: api.put(f"/{MD5}", DATA),
        lambda: api.get(f"/{MD5}"),
        lambda: api.head(f"/{MD5}/a.txt"),
        lambda: api.get(f"/?hash={MD5}"),
        lambda: api.get(f"/files?after={MD5}"),
        lambda: api.get(f"/{'0' * 32}", status=404),
        lambda: api.delete(f"/{'0' * 32}", status=404),
    ]
    for number, ask in enumerate(asked, start=1):
        ask()
        assert counting.grown(ASKED, algorithm="md5") == number
    assert counting.grown(ASKED, algorithm="sha256") == 0
    # A condition counts if it asks for the blob by another name than the URL.
    api.get(f"/{SHA256}", headers={"If-None-Match": f'"{MD5}"'}, status=304)
    assert counting.grown(ASKED, algorithm="sha256") == 1
    assert counting.grown(ASKED, algorithm="md5") == len(asked) + 1
    api.get(f"/{SHA256}", headers={"If-None-Match": f'"{SHA256}", "{"0" * 32}"'}, status=304)
    api.get(f"/{SHA256}", headers={"If-Match": f'"{"0" * 32}"'}, status=412)
    assert counting.grown(ASKED, algorithm="md5") == len(asked) + 1
    assert counting.grown(ASKED) == len(asked) + 4
    api.get(f"/{'0' * 128}", status=404)
    assert counting.grown(ASKED) == len(asked) + 4


@pytest.fixture
def counting(config: Config) -> Counting:
    """A service with metrics."""
    return Counting(config)


def test_ambiguous_names(counting: Counting) -> None:
    """A file with the md5 of another one is counted, and the log names it."""
    first, second = COLLIDING
    counting.api.post("/", first)
    with logged("WARNING") as lines:
        hash_ = counting.api.post("/", second).json["hash"]
    assert lines == [f"another file has the md5 of the new blob {hash_}\n"]
    assert counting.grown("wsgi_store_ambiguous_names_total", algorithm="md5") == 1
    assert counting.grown("wsgi_store_ambiguous_names_total") == 1


def test_a_line_each_hour(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line comes an hour after the first hash, and tells those of the last hour."""
    clock = stopped(hashes, monkeypatch)
    application = create_app(config)
    with logged() as lines:
        for _ in range(3):
            call(application, path=f"/{MD5}")
        clock.past += PAUSE - 1
        call(application, path=f"/{SHA256}")
        assert not lines
        clock.past += 1
        call(application, path=f"/{SHA256}")
        assert lines == ["Blobs were asked for by hashes of sha256 2, md5 3\n"]
        clock.past += 2 * PAUSE
        call(application, path=f"/{SHA256}")
        assert lines[1:] == ["Blobs were asked for by hashes of sha256 1, md5 0\n"]


def test_who_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level debug tells who asked by further names, in a form that no name can break."""
    clock = stopped(hashes, monkeypatch)
    api = make(line("ci", "read,write", name="ci"), public_read=True)
    api.post("/", DATA, headers=bearer("ci"))
    for number in range(3):
        api.get(f"/{MD5}", headers=bearer("ci"))
        api.get(f"/{MD5}?link={Signer([KEY]).link(MD5, soon())}")
        api.get(f"/{(MD5, SHA256)[number // 2]}")
    clock.past += PAUSE
    with logged("DEBUG") as lines:
        api.get(f"/{SHA256}")
    assert lines == [
        "Blobs were asked for by hashes of sha256 2, md5 8\n",
        "Who asked by hashes of md5: ci 3, link 3, - 2\n",
    ]


def test_any_number_of_users(config: Config) -> None:
    """A host application may have any number of users: only so many are counted by themselves."""
    reader = hashes.Hashes(open_store(config.root))
    for number in range(MAX_USERS + 5):
        reader.digest(MD5, f"user\n{number}")
    with logged("DEBUG") as lines:
        reader.tell()
    assert lines[0] == f"Blobs were asked for by hashes of sha256 0, md5 {MAX_USERS + 5}\n"
    assert lines[1].count(", user%0A") == MAX_USERS
    assert ": - 5, " in lines[1]
    assert lines[1].count("\n") == 1


def test_a_store_without_further_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one algorithm, the log says nothing about it."""
    clock = stopped(hashes, monkeypatch)
    application = create_app(Config(root=str(root), min_free=0, hash=Algorithm.MD5))
    with logged("DEBUG") as lines:
        call(application, path=f"/{MD5}")
        clock.past += 2 * PAUSE
        call(application, path=f"/{MD5}")
        application.backend.hashes.tell()
        assert not lines
        # Nothing from before counts once it has one more.
        store = open_store(str(root))
        assert isinstance(store, Names)
        store.change_marker(lambda marker: replace(marker, names=(Algorithm.SHA1,)))
        call(application, path=f"/{'0' * 40}")
        application.backend.hashes.tell()
    assert lines[0] == "Blobs were asked for by hashes of md5 0, sha1 1\n"


@pytest.mark.parametrize("serve", [gunicorn, uwsgi, waitress])
def test_a_line_at_the_end_of_a_process(config: Config, tmp_path: Path, serve: Callable[..., Server]) -> None:
    """When a server ends, the lines of its processes add up to all requests."""
    assert config.root == str(tmp_path / "store")
    with serve(tmp_path, WSGI_STORE_HASH="sha256") as server:
        for _ in range(20):
            with Connection(server.port) as connection:
                assert connection.ask(message("GET", f"/{MD5}")).status == 404
    found = server.logged("Blobs were asked for by hashes of sha256 ([0-9]+), md5 ([0-9]+)")
    assert sum(int(match[2]) for match in found) == 20
    assert sum(int(match[1]) for match in found) == 0
