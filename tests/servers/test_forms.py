"""Forms with several files: every server, full disks, and kills in the middle."""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from tests.support.exchanges import DATA
from tests.support.faults import FULL, disk, fresh, full, hash_of, intact, serving
from tests.support.servers import Server, gunicorn, nginx, until, uwsgi, waitress
from tests.support.wire import Answer, Connection, chunked, message

SERVERS: dict[str, Callable[..., Server]] = {"gunicorn": gunicorn, "uwsgi": uwsgi, "waitress": waitress}
KIND = {"Content_Type": "multipart/form-data; boundary=xyz"}
MIB = 1 << 20


def body(files: Sequence[bytes]) -> bytes:
    """A form with these files, which are named by their numbers."""
    head = '--xyz\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    parts = [head.format(number).encode() + data + b"\r\n" for number, data in enumerate(files)]
    return b"".join(parts) + b"--xyz--\r\n"


def form(files: Sequence[bytes]) -> bytes:
    """The upload of a form with its length."""
    return message("POST", "/", body(files), **KIND)


def entries(answer: Answer) -> list[str]:
    """The hash of each file in the answer, or the code of its error; checks the names."""
    files = json.loads(answer.body)["files"]
    assert [entry["name"] for entry in files] == [str(number) for number in range(len(files))]
    return [entry["error"]["code"] if "error" in entry else entry["hash"] for entry in files]


@pytest.fixture(scope="module", name="server", params=["gunicorn", "uwsgi", "waitress", "nginx"])
def fixture_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A service that takes files up to 2 MiB."""
    directory = tmp_path_factory.mktemp(request.param)
    start = SERVERS.get(request.param, gunicorn)
    with ExitStack() as stack:
        server = stack.enter_context(start(directory, WSGI_STORE_MAX_SIZE="2MiB"))
        if request.param == "nginx":
            server.port = stack.enter_context(nginx(directory, server, direct=False)).port
        yield server
        intact(server)


SOME = [b"", b"a", fresh(1), DATA[: 2 * MIB], b"", fresh(2, 4096), DATA[: MIB + 7]]


@pytest.mark.parametrize("pieces", [0, 1, 65_537], ids=["length", "one chunk", "chunks"])
def test_several(server: Server, pieces: int) -> None:
    """All files are stored, with a length and in chunks; the second time nothing is new."""
    for number in range(2):
        # uWSGI closes a connection after a chunked body.
        with Connection(server.port) as connection:
            if pieces:
                data = body(SOME)
                size = len(data) if pieces == 1 else pieces
                chunks = [data[start : start + size] for start in range(0, len(data), size)]
                answer = connection.ask(
                    message("POST", "/", Transfer_Encoding="chunked", **KIND), chunked(*chunks)
                )
            else:
                answer = connection.ask(form(SOME))
            assert answer.status == 200, answer.body
            assert entries(answer) == [hash_of(data) for data in SOME]
            if number:
                assert not any(entry["created"] for entry in json.loads(answer.body)["files"])
    with Connection(server.port) as connection:
        for data in SOME:
            assert connection.ask(message("GET", f"/{hash_of(data)}")).body == data


def test_one_is_too_large(server: Server) -> None:
    """A file that is too large is read to its end, and the files around it are stored."""
    files = [fresh(10), DATA[: 2 * MIB + 1], fresh(11)]
    with Connection(server.port) as connection:
        answer = connection.ask(form(files))
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "files_refused")
        assert entries(answer) == [hash_of(files[0]), "too_large", hash_of(files[2])]
        assert connection.ask(message("GET", f"/{hash_of(files[2])}")).body == files[2]


@pytest.mark.parametrize("field", ["file", "file[]", "ファイル"])
def test_python_requests(server: Server, field: str) -> None:
    """The form of requests, which names files and fields as RFC 7578 says, is stored."""
    files = {"a.txt": fresh(30), "größe.bin": fresh(31, MIB), 'b "c".txt': b""}
    form_ = [(field, (name, data)) for name, data in files.items()]
    answer = requests.post(
        f"http://127.0.0.1:{server.port}/", files=form_, data={"note": "x"}, timeout=20
    ).json()
    told = {entry["name"]: entry["hash"] for entry in answer["files"]}
    assert told == {name: hash_of(data) for name, data in files.items()}


@pytest.mark.parametrize("end", [b"", b"--xyz"], ids=["in a file", "in a boundary"])
def test_broken_off(server: Server, end: bytes) -> None:
    """A form that ends too early stores nothing of a few files."""
    files = [fresh(20), fresh(21)]
    whole = form(files)
    before = server.descriptors()
    with Connection(server.port) as connection:
        connection.send(whole.partition(end + b"--\r\n")[0] if end else whole[: len(whole) // 2])
    server.until_unused(before)
    assert not server.staged()
    assert server.blobs().isdisjoint(map(hash_of, files))


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("small", [3, 300])
def test_a_disk_that_fills_on_the_way(tmp_path: Path, kind: str, small: int) -> None:
    """The file that the disk has no room for is refused, those before it are stored, the rest is not read."""
    with disk(kind, tmp_path / "store", 24 * MIB), serving(tmp_path) as server:
        files = [*(fresh(number, 5000) for number in range(small)), DATA * 9, fresh(999)]
        data = body(files)
        with Connection(server.port) as client:
            client.send(message("POST", "/", Transfer_Encoding="chunked", **KIND))
            try:
                for start in range(0, len(data), MIB):
                    client.send(chunked(data[start : start + MIB], end=b""))
                client.send(b"0\r\n\r\n")
            except ConnectionError:
                pass  # the server may answer and close before it gets everything
            answer = client.receive()
        server.expected.append(" ERROR .*space")
        assert (answer.status, json.loads(answer.body)["code"]) == (507, "files_refused")
        told = entries(answer)
        assert told == [*(hash_of(one) for one in files[:small]), "storage_full"]
        assert intact(server) == set(told[:-1])
        assert len(server.logged(f" ERROR .* id={answer.fields['x-request-id']}$")) == 1
        with Connection(server.port) as client:
            assert entries(client.ask(form([fresh(999), fresh(998)]))) == [
                hash_of(fresh(999)),
                hash_of(fresh(998)),
            ]
            with full(server.root):
                answer = client.ask(form([fresh(1000), fresh(1001)]))
                assert (answer.status, json.loads(answer.body)["code"]) == FULL
            assert client.ask(form([fresh(1000), fresh(1001)])).status == 200


def test_a_disk_without_room_for_the_form(tmp_path: Path) -> None:
    """A form that is longer than the free space gets 507 before any of its body is sent."""
    with disk("tmpfs", tmp_path / "store", 8 * MIB), serving(tmp_path) as server:
        with Connection(server.port) as client:
            client.send(message("POST", "/", Content_Length=20 * MIB, Expect="100-continue", **KIND))
            answer = client.receive()
        server.expected.append(" ERROR .*space")
        assert (answer.status, json.loads(answer.body)["code"]) == FULL


def check_whole(server: Server, files: Sequence[bytes]) -> None:
    """Check that the store has none but whole files of a form."""
    assert server.blobs() <= set(map(hash_of, files))
    for path in server.root.glob("[0-9a-f][0-9a-f]/*"):
        assert hash_of(path.read_bytes()) == path.name


@pytest.mark.races
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_while_it_arrives(tmp_path: Path, workers: int) -> None:
    """Of a form that arrived in part when the server was killed only whole files are left."""
    files = [fresh(number, 3000) for number in range(700)]
    data = form(files)
    choice = random.Random(workers)
    for cut in sorted(choice.sample(range(1, len(data)), 3)):
        server = gunicorn(tmp_path, workers=workers)
        with Connection(server.port) as client:
            client.send(data[:cut])
            time.sleep(choice.random() / 10)
            server.kill()
            with suppress(ConnectionResetError):
                assert client.rest() == b""
        check_whole(server, files)
    with gunicorn(tmp_path, workers=workers) as server, Connection(server.port) as client:
        assert entries(client.ask(data)) == [hash_of(one) for one in files]
        assert intact(server) == set(map(hash_of, files))


@pytest.mark.races
def test_killed_while_its_files_are_published(tmp_path: Path) -> None:
    """Of a form that was being published when the server was killed only whole files are left."""
    files = [fresh(number, 20_000) for number in range(1000)]
    for number in range(4):
        server = gunicorn(tmp_path, workers=1)
        with Connection(server.port) as client:
            client.send(form(files))
            until(lambda: len(server.blobs()) > 200 * number, "blobs")  # pylint: disable=cell-var-from-loop
            server.kill()
        check_whole(server, files)
        assert len(server.blobs()) < len(files)
    with gunicorn(tmp_path, workers=1) as server, Connection(server.port) as client:
        assert entries(client.ask(form(files))) == list(map(hash_of, files))
        assert intact(server) == set(map(hash_of, files))
