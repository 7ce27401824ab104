"""A download whose bytes are wrong: only its wrong pieces are downloaded again."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support.between import Fields
from tests.support.damaging import Line, damaged, flipped
from tests.support.peers import hurried
from tests.support.servers import Server, gunicorn
from wsgi_store.client import Client
from wsgi_store.errors import Busy, DigestMismatch, Unreachable, WSGIStoreError

MIB = 1 << 20
SIZE = 18 * MIB + 7000
DATA = Random(18).randbytes(SIZE)
HASH = hashlib.sha256(DATA).hexdigest()


PROBLEM = {"Content-Type": "application/problem+json"}


@contextmanager
def damaging(server: Server) -> Iterator[tuple[Line, Client]]:
    """A line to a server, and a client at its other end."""
    with damaged(server.port) as (line, url), hurried(url, retries=1) as far:
        yield line, far


@pytest.fixture(scope="module", name="stocked")
def fixture_stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has the blob."""
    with gunicorn(tmp_path_factory.mktemp("stocked"), WSGI_STORE_DURABILITY="none") as server:
        with Client(f"http://127.0.0.1:{server.port}") as client:
            client.put(DATA)
        yield server


@pytest.fixture(name="far")
def fixture_far(stocked: Server) -> Iterator[tuple[Line, Client]]:
    """A line to the service, and a client at its other end."""
    with damaging(stocked) as pair:
        yield pair


@pytest.mark.parametrize("at", [0, 5 * MIB + 9, SIZE - 1])
def test_damaged_on_the_way(far: tuple[Line, Client], tmp_path: Path, at: int) -> None:
    """Of a download with one wrong byte, one piece is downloaded again."""
    line, client = far
    line.damage = {0: at}
    assert client.get(HASH, tmp_path / "file").size == SIZE
    assert (tmp_path / "file").read_bytes() == DATA
    assert line.bodies == [SIZE, min(MIB, SIZE - at // MIB * MIB)]
    assert not (tmp_path / "file.part").exists()


@pytest.mark.parametrize(
    ("part", "again"),
    [
        (flipped(DATA[: 12 * MIB], 3 * MIB), SIZE - 12 * MIB + MIB),
        (flipped(flipped(DATA[: 17 * MIB], 3 * MIB), 4 * MIB - 1), SIZE - 17 * MIB + MIB),
        (flipped(flipped(DATA, 3 * MIB), 4 * MIB), 2 * MIB),
        (DATA + b"more", 0),
        (flipped(DATA, 17 * MIB) + bytes(MIB), MIB),
        (bytes(SIZE), SIZE),
    ],
    ids=["one byte", "one piece", "two pieces", "too long", "too long and damaged", "another file"],
)
def test_damaged_on_the_disk(far: tuple[Line, Client], tmp_path: Path, part: bytes, again: int) -> None:
    """What was downloaded before is kept, except for its wrong pieces."""
    line, client = far
    (tmp_path / "file.part").write_bytes(part)
    assert client.get(HASH, tmp_path / "file").size == SIZE
    assert (tmp_path / "file").read_bytes() == DATA
    assert sum(line.bodies) == again
    # Neighbouring pieces need one request.
    assert len(line.bodies) <= 2


def test_a_folder(stocked: Server, tmp_path: Path) -> None:
    """A large file of a folder is mended, too."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(DATA)
    with damaging(stocked) as (line, client):
        tree = client.put_tree(tmp_path / "folder").hash
        line.damage = {0: 5 * MIB}
        assert all(one.error is None for one in client.get_tree(tree, tmp_path / "restored"))
        assert line.bodies == [SIZE, MIB]
    assert (tmp_path / "restored" / "file").read_bytes() == DATA


def test_damaged_twice(far: tuple[Line, Client], tmp_path: Path) -> None:
    """A piece that is damaged again on its way is downloaded once more."""
    line, client = far
    line.damage = {0: 5 * MIB, 1: 17}
    client.get(HASH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert line.bodies == [SIZE, MIB, MIB]


def test_a_line_that_always_damages(far: tuple[Line, Client], tmp_path: Path) -> None:
    """After some attempts the client gives up, and leaves nothing."""
    line, client = far
    line.damage = {-1: 5}
    with pytest.raises(DigestMismatch):
        client.get(HASH, tmp_path / "file")
    assert line.bodies == [SIZE, MIB, MIB, MIB]
    assert not list(tmp_path.iterdir())


GONE: dict[type[WSGIStoreError], tuple[int, Fields, bytes]] = {
    Unreachable: (502, {}, b""),
    Busy: (503, PROBLEM, b'{"code": "busy", "detail": "hashing"}'),
}


@pytest.mark.parametrize("failure", GONE)
def test_interrupted(
    stocked: Server, far: tuple[Line, Client], tmp_path: Path, failure: type[WSGIStoreError]
) -> None:
    """If the server goes away meanwhile or takes long, the next download goes on where this one stood."""
    line, client = far
    (tmp_path / "file.part").write_bytes(flipped(DATA, 5 * MIB))
    line.answers = {".meta4": GONE[failure]}
    with pytest.raises(failure):
        client.get(HASH, tmp_path / "file")
    assert (tmp_path / "file.part").stat().st_size == SIZE
    with damaging(stocked) as (second, again):
        again.get(HASH, tmp_path / "file")
        assert (second.bodies, (tmp_path / "file").read_bytes() == DATA) == ([MIB], True)


NOTHING = b"<pieces length='5'>"
LIES = {
    "an older server": (404, {}, b"not here"),
    "no metalink": (200, {}, NOTHING),
    "no bytes": (200, {}, b"<size>0</size>" + NOTHING),
    "too few pieces": (
        200,
        {},
        b'<size>%d</size><pieces length="1048576" type="sha-256"><hash>%b</hash></pieces>'
        % (SIZE, b"0" * 64),
    ),
    "another file": (
        200,
        {},
        b'<size>1000</size><pieces length="1048576" type="sha-256"><hash>%b</hash></pieces>' % (b"0" * 64),
    ),
    "a huge file": (
        200,
        {},
        b'<size>%b</size><pieces length="%b" type="sha-256"><hash>%b</hash></pieces>'
        % (b"9" * 18, b"9" * 18, b"0" * 64),
    ),
    "endless": (200, {}, b" " * (5 * MIB)),
    "damaged": (
        503,
        PROBLEM,
        json.dumps({"code": "store_unavailable", "detail": "the blob is damaged", "hash": HASH}).encode(),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_descriptions_to_distrust(far: tuple[Line, Client], tmp_path: Path, lie: str) -> None:
    """Without a description to rely on, a download that continued another one begins again."""
    line, client = far
    line.answers = {".meta4": LIES[lie]}
    (tmp_path / "file.part").write_bytes(flipped(DATA[: 17 * MIB], 9))
    client.get(HASH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert len([path for path in line.paths if path.endswith(".meta4")]) == 1


def test_without_descriptions(far: tuple[Line, Client], tmp_path: Path) -> None:
    """A service that describes no pieces makes a damaged download fail, as before."""
    line, client = far
    line.answers = {".meta4": LIES["an older server"]}
    line.damage = {0: 9}
    with pytest.raises(DigestMismatch):
        client.get(HASH, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_small_files(server: Server, client: Client, tmp_path: Path) -> None:
    """A small file is downloaded again as a whole."""
    data = DATA[: 3 * MIB]
    hash_ = client.put(data).hash
    (tmp_path / "file.part").write_bytes(flipped(data[: 2 * MIB], 9))
    with damaging(server) as (line, far):
        far.get(hash_, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert line.bodies == [MIB, 3 * MIB]
    assert not [path for path in line.paths if "meta4" in path]


def test_a_copy_that_is_damaged(stocked: Server, far: tuple[Line, Client], tmp_path: Path) -> None:
    """If the server's own copy is damaged, the download fails, and says so."""
    line, client = far
    stocked.expected.append("damaged")
    blob = stocked.root / HASH[:2] / HASH
    blob.chmod(0o644)
    blob.write_bytes(flipped(DATA, 3 * MIB))
    with pytest.raises(DigestMismatch, match="is damaged"):
        client.get(HASH, tmp_path / "file")
    # The service may know its pieces from better days.
    assert sum(line.bodies) <= SIZE + 3 * MIB
    assert not list(tmp_path.iterdir())
    blob.write_bytes(DATA)
