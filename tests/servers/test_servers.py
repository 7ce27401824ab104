"""All servers behave alike on uploads of each form and on whole and partial downloads."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.exchanges import DATA, HASH, RANGES, SIZE, form, parts, told
from tests.support.pages import over, require_page
from tests.support.servers import Server, gunicorn, nginx, uwsgi, waitress
from tests.support.wire import Connection, chunked, message

SERVERS: dict[str, Callable[..., Server]] = {"gunicorn": gunicorn, "uwsgi": uwsgi, "waitress": waitress}


@pytest.fixture(scope="module", name="port", params=["gunicorn", "uwsgi", "waitress", "nginx", "x-accel"])
def fixture_port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a service that holds one blob."""
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param in SERVERS:
            server = stack.enter_context(SERVERS[request.param](directory))
        else:
            way = "x-accel" if request.param == "x-accel" else "off"
            backend = stack.enter_context(gunicorn(directory, WSGI_STORE_SENDFILE=way))
            server = stack.enter_context(nginx(directory, backend, direct=False))
        with Connection(server.port) as connection:
            assert told(connection.ask(upload(DATA))) == (HASH, SIZE, True)
        yield server.port
        assert server.blobs() == {HASH}
        assert not server.staged()


def upload(data: bytes) -> bytes:
    """A plain upload."""
    return message("POST", "/", data)


def test_upload(port: int) -> None:
    """Bytes already stored are not stored again."""
    with Connection(port) as connection:
        assert told(connection.ask(upload(DATA))) == (HASH, SIZE, False)


def test_chunked_upload(port: int) -> None:
    """A chunked body is received whole."""
    chunks = [DATA[start : start + 99_991] for start in range(0, SIZE, 99_991)]
    with Connection(port) as connection:
        answer = connection.ask(message("POST", "/", Transfer_Encoding="chunked"), chunked(*chunks))
    assert told(answer) == (HASH, SIZE, False)


def test_form_upload(port: int) -> None:
    """The file of a form is received, and the answer has its name."""
    with Connection(port) as connection:
        answer = connection.ask(form("rose.png", DATA))
    assert told(answer) == (HASH, SIZE, False)
    assert json.loads(answer.body)["name"] == "rose.png"


def test_whole(port: int) -> None:
    """A download has all bytes, and the hash as its ETag."""
    with Connection(port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}/rose.png"))
        assert (answer.status, answer.body == DATA) == (200, True)
        assert answer.fields["content-length"] == str(SIZE)
        assert answer.fields["etag"] == f'"{HASH}"'
        assert answer.fields["content-type"] == "image/png"
        assert connection.ask(message("GET", "/healthz")).status == 200


def test_head(port: int) -> None:
    """HEAD has the fields of GET and no body."""
    with Connection(port) as connection:
        told_by_get = connection.ask(message("GET", f"/{HASH}/rose.png")).fields
    with Connection(port) as connection:
        answer = connection.ask(message("HEAD", f"/{HASH}/rose.png"))
        assert answer.status == 200
        same = ["content-length", "content-type", "etag", "repr-digest", "last-modified", "cache-control"]
        assert [answer.fields[name] for name in same] == [told_by_get[name] for name in same]
        assert connection.ask(message("GET", "/healthz")).status == 200


def test_the_page(port: int) -> None:
    """A browser gets the page, its files, and a page for what is not there."""
    require_page(over(port), "/")


@pytest.mark.parametrize("name", RANGES)
def test_ranges(port: int, name: str) -> None:
    """A partial download has exactly the requested bytes, and the connection stays usable."""
    field, slices = RANGES[name]
    with Connection(port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}", Range=field))
        assert answer.status == 206
        assert answer.fields["etag"] == f'"{HASH}"'
        sent = list(parts(answer))
        assert [(start, stop) for start, stop, _ in sent] == slices
        assert all(body == DATA[start:stop] for start, stop, body in sent)
        assert connection.ask(message("GET", "/healthz")).body == b'{"status": "ok"}\n'


@pytest.mark.parametrize(
    "fields, status",
    [
        ({"Range": f"bytes={SIZE}-"}, 416),
        ({"Range": "bytes=5-2"}, 200),
        ({"Range": "lines=1-2"}, 200),
        ({"If_None_Match": f'"{HASH}"'}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_Match": f'"{HASH}"'}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"If_Range": f'"{HASH}"', "Range": "bytes=0-99999"}, 206),
        ({"If_Range": '"other"', "Range": "bytes=0-99999"}, 200),
        ({"If_Match": f'"{HASH}"', "Range": "bytes=0-99999"}, 206),
        ({"If_Modified_Since": "Fri, 01 Jan 2038 00:00:00 GMT"}, 304),
        ({"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
    ],
    ids=str,
)
def test_conditions(port: int, fields: dict[str, str], status: int) -> None:
    """Conditions and ranges mean the same whichever server sends the bytes."""
    with Connection(port) as connection:
        answer = connection.ask(message("GET", f"/{HASH}", **fields))
    assert answer.status == status
    if status == 200:
        assert answer.body == DATA
    elif status == 206:
        assert answer.body == DATA[:100_000]
    elif status == 416:
        assert answer.fields["content-range"] == f"bytes */{SIZE}"
        assert answer.fields["cache-control"] == "no-store"
