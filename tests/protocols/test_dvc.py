"""DVC 3: blobs by md5 at the paths of its cache."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.support.access import bearer, code, line
from wsgi_store.assembly import create_app
from wsgi_store.choices import Protocol
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import ConfigError
from wsgi_store.testing.helpers import COLLIDING

DATA = b"hello, world\n"
FOLDER = json.dumps([{"md5": hashlib.md5(DATA).hexdigest(), "relpath": "hello"}]).encode()
SHA256 = hashlib.sha256(DATA).hexdigest()


def url(data: bytes, end: str = "") -> str:
    """The path of a file in the cache."""
    md5 = hashlib.md5(data).hexdigest()
    return f"/dvc/files/md5/{md5[:2]}/{md5[2:]}{end}"


@pytest.fixture
def config(config: Config) -> Config:
    """Settings for blobs with names by sha256 and md5."""
    return replace(config, hash=Algorithm.SHA256, names=(Algorithm.MD5,), protocols=(Protocol.DVC,))


@pytest.fixture(name="api")
def fixture_api(config: Config) -> Iterator[TestApp]:
    """The service."""
    application = create_app(config)
    yield TestApp(application)
    assert not list(Path(application.store.staging_directory).iterdir())


def send(api: TestApp, method: str, path: str, data: bytes, **more: Any) -> Any:
    """Send a body in chunks, as DVC does."""
    return api.request(
        path,
        method=method,
        environ={
            "wsgi.input": io.BytesIO(data),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
            **more,
        },
        expect_errors=True,
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_file(api: TestApp, method: str) -> None:
    """A file is stored under its md5, is a blob with all names, and comes back by GET and HEAD."""
    assert api.get(url(DATA), expect_errors=True).status_code == 404
    assert [send(api, method, url(DATA), DATA).status_code for _ in range(2)] == [201, 200]
    answer = api.get(url(DATA))
    assert (answer.body, answer.content_type) == (DATA, "application/octet-stream")
    assert api.head(url(DATA)).headers["Content-Length"] == str(len(DATA))
    assert api.get(url(DATA), headers={"Range": "bytes=7-"}, status=206).body == b"world\n"
    assert api.get(f"/{SHA256}").body == DATA


@pytest.mark.every_store
def test_a_folder(api: TestApp) -> None:
    """The md5 of a folder's list is the name without its suffix, and both lead to the list."""
    assert send(api, "POST", url(FOLDER, ".dir"), FOLDER).status_code == 201
    assert api.get(url(FOLDER, ".dir")).body == FOLDER
    assert api.get(url(FOLDER)).body == FOLDER
    refused = send(api, "POST", url(FOLDER, ".dir"), FOLDER + b" ")
    assert (refused.status_code, code(refused)) == (422, "digest_mismatch")


def test_other_bytes(api: TestApp) -> None:
    """Bytes with another md5 are refused, and nothing is stored."""
    refused = send(api, "POST", url(DATA), b"other")
    assert (refused.status_code, code(refused)) == (422, "digest_mismatch")
    assert not list(api.app.store.iterate())


def test_limits(config: Config) -> None:
    """A file that is too large or cut short leaves nothing."""
    api = TestApp(create_app(replace(config, max_size=20)))
    large = send(api, "POST", url(DATA * 2), DATA * 2)
    assert (large.status_code, code(large)) == (413, "too_large")
    environ = {"wsgi.input": io.BytesIO(DATA), "CONTENT_LENGTH": "19"}
    cut = api.request(url(DATA), method="POST", environ=environ, expect_errors=True)
    assert (cut.status_code, code(cut)) == (400, "incomplete_body")
    assert not list(api.app.store.iterate())


@pytest.mark.every_store
def test_a_collision(api: TestApp) -> None:
    """A file whose md5 leads to another one is refused, whoever stored that and by whichever name."""
    first, second = COLLIDING
    assert url(first) == url(second)
    api.put(f"/{hashlib.sha256(first).hexdigest()}", first)
    refused = send(api, "POST", url(second), second)
    assert (refused.status_code, code(refused)) == (409, "digest_collision")
    assert api.get(url(second)).body == first
    # By its other name it is stored, which makes the md5 ambiguous: it goes on leading to the first file.
    api.put(f"/{hashlib.sha256(second).hexdigest()}", second, status=201)
    assert send(api, "POST", url(second), second).status_code == 409
    assert send(api, "POST", url(first), first).status_code == 200
    assert api.get(url(second)).body == first


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        f"/dvc{url(DATA)[14:]}",
        f"/dvc/{hashlib.md5(DATA).hexdigest()}",
        "/dvc/files/md5",
        url(DATA)[:-1],
        url(DATA) + "0",
        url(DATA, ".DIR"),
        url(DATA, "/name"),
        url(DATA).upper().replace("/DVC/FILES/MD5", "/dvc/files/md5"),
        f"/dvc/runs/{url(DATA)[15:]}",
    ],
)
def test_other_paths(api: TestApp, method: str, path: str) -> None:
    """Other paths, such as those of DVC 2, are not found, and the answer says what is needed."""
    refused = api.get(path, expect_errors=True) if method == "GET" else send(api, method, path, DATA)
    assert (refused.status_code, code(refused)) == (404, "not_found")
    assert "DVC 3" in refused.json["detail"]
    assert not list(api.app.store.iterate())


def test_credentials(config: Config, tmp_path: Path) -> None:
    """A token is taken from Basic and from a header field of its own; its scopes and links hold here."""
    tokens = tmp_path / "tokens"
    tokens.write_text(line("all", "read,write") + line("reading", "read"))
    api = TestApp(create_app(replace(config, tokens=str(tokens))))
    basic = f"Basic {base64.b64encode(b'me:all').decode()}"
    assert send(api, "POST", url(DATA), DATA).status_code == 401
    assert send(api, "POST", url(DATA), DATA, HTTP_AUTHORIZATION="Bearer reading").status_code == 403
    assert send(api, "POST", url(DATA), DATA, HTTP_AUTHORIZATION=basic).status_code == 201
    assert send(api, "POST", url(FOLDER, ".dir"), FOLDER, HTTP_AUTHORIZATION="Bearer all").status_code == 201
    assert api.get(url(DATA), expect_errors=True).status_code == 401
    assert api.get(url(DATA), headers={"Authorization": basic}).body == DATA
    assert api.get(url(DATA), headers=bearer("reading")).body == DATA


def test_a_store_that_is_read_only(api: TestApp, config: Config) -> None:
    """A store that is read-only is a remote to pull from."""
    send(api, "POST", url(DATA), DATA)
    api = TestApp(create_app(replace(config, read_only=True)))
    assert api.get(url(DATA)).body == DATA
    refused = send(api, "POST", url(FOLDER), FOLDER)
    assert (refused.status_code, code(refused)) == (403, "read_only")


def test_a_store_of_md5(config: Config, tmp_path: Path) -> None:
    """A store whose blobs have md5 as their primary name will do, one without md5 does not start."""
    api = TestApp(create_app(replace(config, root=str(tmp_path / "md5"), hash=Algorithm.MD5, names=())))
    assert send(api, "PUT", url(DATA), DATA).status_code == 201
    assert api.get(url(DATA)).body == DATA
    without = replace(config, root=str(tmp_path / "sha256"), names=())
    with pytest.raises(ConfigError, match="WSGI_STORE_PROTOCOLS: dvc: the store has no names by md5"):
        create_app(without)


def test_when_it_is_off(config: Config) -> None:
    """Without the protocol its paths are names of files like any other."""
    api = TestApp(create_app(replace(config, protocols=())))
    assert "DVC" not in api.get(url(DATA), status=404).text
    assert send(api, "POST", url(DATA), DATA).status_code == 404
