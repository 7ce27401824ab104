"""A blob is sent by the application, by the server's file wrapper or by the server in front."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from wsgiref.validate import validator

import pytest
from gunicorn.http.wsgi import FileWrapper
from webtest import TestApp

from tests.support.calling import Answer, call, request, start
from wsgi_store.assembly import create_app
from wsgi_store.choices import Sendfile
from wsgi_store.config import Config
from wsgi_store.digest import Digest
from wsgi_store.errors import StoreUnavailable
from wsgi_store.store.contract import Blob
from wsgi_store.web.application import Application
from wsgi_store.web.download import IN_MEMORY
from wsgi_store.web.response_body import SEND_SIZE

LARGE = os.urandom(3 * SEND_SIZE + 5)
WAYS = ["bytes=0-", f"bytes=5-{2 * SEND_SIZE}", "bytes=0-9,600-100000,-100000", None]


def put(application: Application, data: bytes) -> str:
    """Store `data`; return its path."""
    path: str = call(application, "POST", body=data).json["url"]
    return path


def open_blobs(config: Config) -> int:
    """Count the open descriptors of blobs, without collecting garbage first."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        found += target.startswith(config.root + "/")
    return found


def send_all(file: Any, _: int) -> Iterator[bytes]:
    """A file wrapper like uWSGI's: a function that ignores the offset and sends the whole file."""
    try:
        yield os.pread(file.fileno(), 2 * len(LARGE), 0)
    finally:
        file.close()


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, SEND_SIZE, 3 * SEND_SIZE + 5])
def test_sizes(application: Application, config: Config, size: int) -> None:
    """Blobs arrive whole at each size where the way of sending changes."""
    data = LARGE[:size]
    assert call(application, path=put(application, data)).body == data
    assert not open_blobs(config)


@pytest.mark.parametrize("size", [IN_MEMORY, IN_MEMORY + 1])
def test_small_blobs_are_read_at_once(application: Application, config: Config, size: int) -> None:
    """A small blob is closed before the answer starts; a larger one is sent from its open file."""
    path = put(application, LARGE[:size])
    _, _, result = start(application, request(path=path))
    assert open_blobs(config) == (size > IN_MEMORY)
    if size > IN_MEMORY:
        result.close()
    assert not open_blobs(config)


@pytest.mark.parametrize("value", WAYS)
@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_client_goes_away(application: Application, config: Config, value: str | None, pieces: int) -> None:
    """Closing an unfinished answer closes the file."""
    path = put(application, LARGE)
    fields: dict[str, Any] = {} if value is None else {"HTTP_RANGE": value}
    _, _, result = start(application, request(path=path, **fields))
    assert open_blobs(config)
    chunks = iter(result)
    for _ in range(pieces):
        next(chunks, b"")
    result.close()
    assert not open_blobs(config)
    result.close()


def test_one_file_for_all_ranges(application: Application, config: Config) -> None:
    """An answer with many ranges opens only one file, so few requests cannot exhaust descriptors."""
    path = put(application, LARGE)
    value = "bytes=" + ",".join(f"{first}-{first + 9}" for first in range(0, 30_000, 1000))
    _, _, result = start(application, request(path=path, HTTP_RANGE=value))
    chunks = iter(result)
    for _ in range(10):
        next(chunks)
    assert open_blobs(config) == 1
    result.close()


@pytest.mark.parametrize("value", WAYS)
def test_file_is_closed_at_the_end(application: Application, config: Config, value: str | None) -> None:
    """The server's close() closes the file of a blob sent to its end."""
    path = put(application, LARGE)
    fields: dict[str, Any] = {} if value is None else {"HTTP_RANGE": value}
    assert call(application, path=path, **fields).status in (200, 206)
    assert not open_blobs(config)


def cut(config: Config, path: str, size: int) -> None:
    """Truncate the file of a blob, which is read-only even for its owner."""
    blob = Path(config.root, path[1:3], path[1:])
    blob.chmod(0o644)
    os.truncate(blob, size)


@pytest.mark.parametrize("value", WAYS)
def test_cut_while_sent(application: Application, config: Config, value: str | None) -> None:
    """A file truncated during a download breaks off the answer, so it cannot pass as complete."""
    path = put(application, LARGE)
    fields: dict[str, Any] = {} if value is None else {"HTTP_RANGE": value}
    _, _, result = start(application, request(path=path, **fields))
    chunks = iter(result)
    next(chunks)
    cut(config, path, IN_MEMORY)
    with pytest.raises(StoreUnavailable):
        list(chunks)
    with pytest.raises(StoreUnavailable):
        result.close()
    assert not open_blobs(config)


@pytest.mark.parametrize("value", ["bytes=0-9", *WAYS])
def test_cut_before_sent(
    application: Application, config: Config, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """A file truncated between stat and open gets 503, never a shorter blob."""
    path = put(application, LARGE)
    look = application.store.stat

    def stat(digest: Digest) -> Blob:
        blob = look(digest)
        cut(config, path, 1000)
        return blob

    monkeypatch.setattr(application.store, "stat", stat)
    fields = {"HTTP_IF_MATCH": "*"} if value is None else {"HTTP_RANGE": value}
    answer = call(application, path=path, **fields)
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert not open_blobs(config)


@pytest.mark.parametrize("wrapper", [send_all, FileWrapper])
@pytest.mark.parametrize("value", WAYS)
def test_wrapper_of_the_server(
    application: Application, config: Config, wrapper: Callable[..., Any], value: str | None
) -> None:
    """A server's file wrapper may ignore offsets, so it gets whole blobs and no ranges."""
    path = put(application, LARGE)
    fields: dict[str, Any] = {} if value is None else {"HTTP_RANGE": value}
    plain = call(application, path=path, **fields)
    wrapped = []

    def spy(file: Any, size: int) -> Any:
        wrapped.append(file)
        return wrapper(file, size)

    answer = call(application, path=path, **fields, **{"wsgi.file_wrapper": spy})
    assert bool(wrapped) == (value is None)
    assert (answer.status, len(answer.body)) == (plain.status, len(plain.body))
    if value is None or "," not in value:
        assert answer.body == plain.body
    assert not open_blobs(config)


@pytest.mark.parametrize("value", [None, "bytes=0-", f"bytes=5-{IN_MEMORY + 5}"])
def test_wrapper_of_gunicorn(application: Application, config: Config, value: str | None) -> None:
    """gunicorn's wrapper gets whole blobs and single ranges, with the file at the first byte to send."""
    path = put(application, LARGE)
    fields: dict[str, Any] = {} if value is None else {"HTTP_RANGE": value}
    with socket.socket() as sock:
        server = {"wsgi.file_wrapper": FileWrapper, "gunicorn.socket": sock}
        _, headers, result = start(application, request(path=path, **fields, **server))
    assert isinstance(result, FileWrapper)
    offset = os.lseek(result.filelike.fileno(), 0, os.SEEK_CUR)
    length = int(headers["Content-Length"])
    assert os.pread(result.filelike.fileno(), length, offset) == call(application, path=path, **fields).body
    result.close()
    assert not open_blobs(config)


@pytest.mark.parametrize("sendfile", Sendfile)
@pytest.mark.parametrize("shard", [False, True])
def test_a_link_is_no_blob(config: Config, tmp_path: Path, sendfile: Sendfile, *, shard: bool) -> None:
    """The target of a symlink in a blob's place is never sent, handed over or changed."""
    api = TestApp(validator(create_app(replace(config, sendfile=sendfile))))
    hash_ = hashlib.sha256(b"secret").hexdigest()
    secret = tmp_path / hash_[:2] / hash_
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    place = Path(config.root, hash_[:2])
    if shard:
        place.symlink_to(secret.parent)
    else:
        place.mkdir()
        (place / hash_).symlink_to(secret)
    for ask in (api.get, api.head, api.delete):
        for fields in ({}, {"If-None-Match": '"0"'}, {"If-Modified-Since": "Fri, 27 Nov 2026 00:00:00 GMT"}):
            answer = ask(f"/{hash_}", headers=fields, status=404)
            assert not {"X-Sendfile", "X-Accel-Redirect"} & set(answer.headers)
    assert api.get("/files").json["files"] == []
    answer = api.post("/", b"secret", status=503).json
    assert shard or (answer["detail"], answer["hash"]) == (
        "the path of this blob is not a regular file",
        hash_,
    )
    assert secret.read_bytes() == b"secret"


@pytest.fixture(name="fronted", params=[Sendfile.X_SENDFILE, Sendfile.X_ACCEL])
def fixture_fronted(request: pytest.FixtureRequest, config: Config) -> Application:
    """A service whose front server sends the files."""
    return create_app(replace(config, sendfile=request.param))


def handed_over(application: Application, answer: Answer) -> bool:
    """Whether the answer tells the front server to send the blob."""
    names = {Sendfile.X_SENDFILE: "X-Sendfile", Sendfile.X_ACCEL: "X-Accel-Redirect"}
    name = names[application.config.sendfile]
    assert not (set(names.values()) - {name}) & set(answer.headers.keys())
    return name in answer.headers


@pytest.mark.parametrize("data", [b"", b"hello\n", LARGE])
def test_handing_over(fronted: Application, config: Config, data: bytes) -> None:
    """The front server gets the file's path and all fields of the blob, in an empty answer."""
    path = put(fronted, data)
    answer = call(fronted, path=f"{path}/a.txt")
    plain = call(create_app(config), path=f"{path}/a.txt")
    assert handed_over(fronted, answer)
    assert (answer.status, answer.body) == (200, b"")
    # Only the front server knows whether it supports ranges.
    for name in set(plain.headers.keys()) - {"Content-Length", "X-Request-ID", "Accept-Ranges"}:
        assert answer.headers[name] == plain.headers[name]
    assert "Accept-Ranges" not in answer.headers
    if fronted.config.sendfile is Sendfile.X_ACCEL:
        assert answer.headers["X-Accel-Redirect"] == f"/_blobs/{path[1:3]}{path}"
    else:
        assert Path(answer.headers["X-Sendfile"]).read_bytes() == data


@pytest.mark.parametrize(
    "method, fields, status",
    [
        ("HEAD", {}, 200),
        ("GET", {"HTTP_IF_NONE_MATCH": "*"}, 304),
        ("GET", {"HTTP_IF_MATCH": '"0"'}, 412),
        ("GET", {"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": '"0"'}, 200),
        ("GET", {"HTTP_IF_RANGE": '"0"'}, 200),
        ("GET", {"HTTP_IF_MATCH": "*"}, 200),
        ("GET", {"HTTP_RANGE": "bytes=x"}, 200),
        ("GET", {"HTTP_RANGE": "bytes=6-"}, 416),
    ],
)
def test_answered_here(fronted: Application, method: str, fields: dict[str, str], status: int) -> None:
    """Conditional requests are answered here, as the front server would apply its own validators."""
    path = put(fronted, b"hello\n")
    answer = call(fronted, method, path, **fields)
    assert answer.status == status
    assert not handed_over(fronted, answer)
    if status == 200:
        assert answer.headers["Content-Length"] == "6"
        assert answer.body == (b"hello\n" if method == "GET" else b"")


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=-1", "bytes=0-0,5-5"])
def test_ranges_are_handed_over(fronted: Application, value: str) -> None:
    """Range requests are handed to the front server, which sends the ranges itself."""
    answer = call(fronted, path=put(fronted, b"hello\n"), HTTP_RANGE=value)
    assert answer.status == 200 and handed_over(fronted, answer)


def test_absent_blob_is_not_handed_over(fronted: Application) -> None:
    """An absent blob gets 404 from this service."""
    answer = call(fronted, path=f"/{'0' * 64}")
    assert answer.status == 404 and not handed_over(fronted, answer)


def test_location_of_nginx(config: Config) -> None:
    """The internal location of nginx can be set."""
    application = create_app(replace(config, sendfile=Sendfile.X_ACCEL, accel_location="/in/ter/nal/"))
    path = call(application, "POST", body=b"hello\n").json["url"]
    answer = call(application, path=path)
    assert answer.headers["X-Accel-Redirect"] == f"/in/ter/nal/{path[1:3]}{path}"


@pytest.mark.parametrize("name", ["größe €", "100%25\n", os.fsdecode(b"\xff\xfe")])
def test_root_of_any_name(config: Config, name: str) -> None:
    """A root with characters that no header field may contain is percent-encoded."""
    root = f"{config.root}/{name}"
    application = create_app(replace(config, root=root, sendfile=Sendfile.X_SENDFILE))
    answer = call(application, path=put(application, b"hello\n"))
    value = answer.headers["X-Sendfile"]
    assert value.isascii() and value.isprintable()
    assert Path(unquote(value, errors="surrogateescape")).read_bytes() == b"hello\n"


def test_store_without_files(fronted: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without local paths is sent by this service."""
    path = put(fronted, b"hello\n")
    monkeypatch.setattr(fronted, "backend", replace(fronted.backend, paths=None))
    assert call(fronted, path=path).body == b"hello\n"
