"""A server starts on a store of any hash, and refuses settings that contradict the store."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.buckets import KIND, environ
from tests.support.calling import call
from tests.support.commands import install
from tests.support.servers import DEPLOY, Server, gunicorn, refusal, uwsgi, waitress
from tests.support.wire import Connection, message
from wsgi_store import __version__
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import WrongStore
from wsgi_store.store.contract import Remote
from wsgi_store.store.open import open_store

CONF = str(DEPLOY / "gunicorn.conf.py")
STARTS: dict[str, Callable[..., Server]] = {
    "gunicorn": lambda directory, **env: gunicorn(directory, workers=1, **env),
    "gunicorn --preload": lambda directory, **env: gunicorn(directory, "--preload", workers=1, **env),
    "uwsgi": uwsgi,
    "waitress": waitress,
}
COMMANDS = {
    "gunicorn": ["gunicorn", "-c", CONF, "--bind", "127.0.0.1:0", "--workers", "1"],
    "gunicorn --preload": ["gunicorn", "-c", CONF, "--preload", "--bind", "127.0.0.1:0"],
    "uwsgi": ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")],
    "waitress": ["waitress-serve", "--listen=127.0.0.1:0", "wsgi_store.wsgi:application"],
}
MIGRATED = (Algorithm.SHA256, Algorithm.MD5)
HELLO = {"md5": "5d41402abc4b2a76b9719d911017c592", "sha1": "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"}


def index(server: Server) -> tuple[str, list[str]]:
    """The algorithms that a server tells."""
    with Connection(server.port) as client:
        told = json.loads(client.ask(message("GET", "/")).body)
    return told["algorithm"], told["names"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("read_only", ["no", "yes"])
def test_a_store_of_version_0_1_0(tmp_path: Path, start: str, read_only: str) -> None:
    """Without settings a server serves an md5 store as before, and does not touch its marker."""
    open_store(str(tmp_path / "store"), Algorithm.MD5)
    marker = tmp_path / "store" / "store.json"
    before = marker.stat(), marker.read_bytes()
    with STARTS[start](tmp_path, WSGI_STORE_READ_ONLY=read_only) as server:
        assert index(server) == ("md5", [])
        mode = "read-only" if read_only == "yes" else "durability full"
        assert len(server.logged(f"wsgi_store {__version__}: {tmp_path}/store, md5, {mode}")) == 1
        if read_only == "no":
            with Connection(server.port) as client:
                assert json.loads(client.ask(message("POST", "/", b"hello")).body)["hash"] == HELLO["md5"]
    status = before[0]
    assert (marker.stat().st_ino, marker.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert marker.read_bytes() == before[1] == b'{"algorithm": "md5", "layout": "ab/abcdef"}\n'


@pytest.mark.parametrize("start", STARTS)
def test_a_unit_from_before_a_migration(tmp_path: Path, start: str) -> None:
    """With the old hash in its settings a server starts after a migration, and warns once."""
    open_store(str(tmp_path / "store"), MIGRATED[0], names=MIGRATED[1:])
    with STARTS[start](tmp_path, WSGI_STORE_HASH="md5") as server:
        assert index(server) == ("sha256", ["md5"])
        assert len(server.logged(r"store, sha256 \(further names: md5\), durability full")) == 1
        assert len(server.logged("WARNING.*WSGI_STORE_HASH=md5: .*: set WSGI_STORE_HASH=sha256")) == 1


@pytest.mark.parametrize("start", STARTS)
def test_names_of_a_new_store(tmp_path: Path, start: str) -> None:
    """WSGI_STORE_NAMES makes a store that gives each blob further names."""
    with STARTS[start](tmp_path, WSGI_STORE_NAMES="md5,sha1") as server:
        assert index(server) == ("sha256", ["md5", "sha1"])
        with Connection(server.port) as client:
            told = json.loads(client.ask(message("POST", "/", b"hello")).body)
        assert {name: told["names"][name] for name in HELLO} == HELLO
    with STARTS[start](tmp_path) as server:
        assert index(server) == ("sha256", ["md5", "sha1"])


REFUSED = {
    "another hash": ({"HASH": "sha512"}, "not sha512: set WSGI_STORE_HASH=sha256.*migrate --to sha512`$"),
    "no names": (
        {"NAMES": "none"},
        "set WSGI_STORE_NAMES=md5, or run `wsgi-store migrate --drop-names md5`$",
    ),
    "more names": ({"NAMES": "md5,sha1"}, "or run `wsgi-store migrate --add-names sha1`$"),
    "two of one length": ({"HASH": "sha256", "NAMES": "blake3"}, "WSGI_STORE_NAMES: sha256 and blake3 have"),
    "one of the length of the store's": ({"NAMES": "blake3"}, "sha256 and blake3 have hashes of the same"),
}


@pytest.mark.races
@pytest.mark.parametrize("read_only", ["no", "yes"])
@pytest.mark.parametrize("server", COMMANDS)
@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_contradict_the_store(tmp_path: Path, server: str, name: str, read_only: str) -> None:
    """Every server ends with one line that says what to set and which command changes the store."""
    open_store(str(tmp_path), MIGRATED[0], names=MIGRATED[1:])
    settings, reason = REFUSED[name]
    env = {f"WSGI_STORE_{key}": value for key, value in settings.items()}
    status, lines = refusal(
        COMMANDS[server], tmp_path, BIND="127.0.0.1:0", WSGI_STORE_READ_ONLY=read_only, **env
    )
    assert status != 0
    (line,) = [line for line in lines if line.startswith("wsgi-store: ")]
    assert re.search(reason, line), line


def test_the_command_serve(tmp_path: Path) -> None:
    """`wsgi-store serve` refuses such settings with the same line."""
    open_store(str(tmp_path / "store"), Algorithm.MD5)
    command = [str(install(tmp_path / "bin")), "serve", "--", "--bind", "127.0.0.1:0"]
    status, (line,) = refusal(command, tmp_path / "store", WSGI_STORE_HASH="sha256")
    assert status == 1
    assert line.endswith("or run `wsgi-store migrate --to sha256`")


def test_files_without_a_marker(tmp_path: Path) -> None:
    """A directory with files of another hash and no marker is not made a store of the default hash."""
    path = tmp_path / "store" / HELLO["md5"][:2] / HELLO["md5"]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"hello")
    status, (line,) = refusal(COMMANDS["gunicorn"], tmp_path / "store")
    assert status == 1
    assert "which is not a sha256 digest: set WSGI_STORE_HASH to the algorithm of its files" in line
    assert [path.name for path in (tmp_path / "store").iterdir()] == [HELLO["md5"][:2]]
    with gunicorn(tmp_path, workers=1, WSGI_STORE_HASH="md5") as server:
        assert index(server) == ("md5", [])
        assert server.blobs() == {HELLO["md5"]}


def test_a_mounted_application(tmp_path: Path) -> None:
    """A host application gets the same store and the same refusals."""
    root = str(tmp_path)
    open_store(root, Algorithm.MD5)
    for config in (Config(root=root), Config(root=root, hash=Algorithm.MD5), Config(root=root, names=())):
        assert call(create_app(config)).json["algorithm"] == "md5"
    with pytest.raises(
        WrongStore, match="set WSGI_STORE_HASH=md5, .*, or run `wsgi-store migrate --to sha256`$"
    ):
        create_app(Config(root=root, hash=Algorithm.SHA256))
    with pytest.raises(WrongStore, match="migrate --add-names sha1`$"):
        create_app(Config(root=root, names=(Algorithm.SHA1,)))


def test_a_bucket(tmp_path: Path) -> None:
    """A server on a bucket without settings keeps its hash, and refuses others with the same line."""
    settings = environ(tmp_path)
    KIND.open(tmp_path / "store", Algorithm.MD5).check()
    with gunicorn(tmp_path, workers=1, **settings) as server:
        assert index(server) == ("md5", [])
        assert len(server.logged(f"wsgi_store {__version__}: s3://.*, md5, durability full")) == 1
    for more, reason in (
        ({"WSGI_STORE_HASH": "sha256"}, "or run `wsgi-store migrate --to sha256`$"),
        ({"WSGI_STORE_NAMES": "sha1"}, "or run `wsgi-store migrate --add-names sha1`$"),
    ):
        status, (line,) = refusal(COMMANDS["gunicorn"], tmp_path, **settings, **more)
        assert status == 1
        assert re.search(reason, line), line


def test_a_new_bucket(tmp_path: Path) -> None:
    """A new store in a bucket has sha256, unless another hash is given."""
    root = KIND.url(tmp_path / "store")
    open_store(root, remote=Remote(str(tmp_path)), create=True).check()
    assert open_store(root, remote=Remote(str(tmp_path))).algorithm is Algorithm.SHA256
