"""Downloads directly from the object store, through signed URLs."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import ceph
from tests.support.buckets import KIND, serving
from tests.support.calling import Answer, call
from wsgi_store.assembly import create_app
from wsgi_store.choices import Redirect
from wsgi_store.client import Client
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.logs import logger
from wsgi_store.store.abilities import Names
from wsgi_store.store.open import open_store
from wsgi_store.web.application import Application
from wsgi_store.web.redirects import REDIRECTED_ABOVE, SIGNED_FOR

SMALL = b"<script>alert(1)</script>"
BIG = bytes(range(256)) * (REDIRECTED_ABOVE // 256) + b"!"
NAMES = ["page.html", "größe €.txt", 'a"b;c&d=e+f g%20h.pdf', "semi;colon, comma.png"]


@pytest.fixture(name="config")
def fixture_config(tmp_path: Path) -> Config:
    """Settings for a store in the bucket that redirects every download."""
    ceph.cluster()
    root = tmp_path / "store"
    return Config(root=KIND.url(root), s3_staging=str(root), min_free=0, redirect=Redirect.ALWAYS)


def put(application: Application, data: bytes) -> str:
    """Upload bytes; returns the path of the blob."""
    path: str = call(application, "POST", body=data).json["url"]
    return path


def follow(answer: Answer, **fields: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """The object store's answer at the URL of a redirect."""
    assert (answer.status, answer.body) == (307, b"")
    request = urllib.request.Request(answer.headers["Location"], headers=fields)
    with closing(urllib.request.urlopen(request, timeout=20)) as response:
        return response.status, response.headers, response.read()


@pytest.mark.parametrize("data", [b"", SMALL, BIG], ids=["empty", "small", "big"])
def test_the_bytes_come_from_elsewhere(application: Application, data: bytes) -> None:
    """A download is redirected to a URL of the object store that returns the bytes."""
    answer = call(application, path=put(application, data))
    assert urlsplit(answer.headers["Location"]).netloc == urlsplit(ceph.cluster().endpoint).netloc
    assert follow(answer)[2] == data


def test_a_redirection_by_any_name(config: Config) -> None:
    """A download by a further name is redirected to the one object that the blob is."""
    application = create_app(replace(config, names=(Algorithm.MD5,)))
    names = call(application, "POST", body=SMALL).json["names"]
    answers = [call(application, path=f"/{hash_}") for hash_ in names.values()]
    assert [follow(answer)[2] for answer in answers] == [SMALL, SMALL]
    first, second = (urlsplit(answer.headers["Location"]).path for answer in answers)
    assert first == second
    assert first.endswith(names["sha256"])


def test_a_blob_without_a_primary_name_is_sent_from_here(config: Config) -> None:
    """It may move at any time, so it is not redirected, and the log blames nothing."""
    application = create_app(replace(config, hash=Algorithm.MD5))
    path = put(application, SMALL)
    assert call(application, path=path).status == 307
    store = open_store(config.root, remote=config.remote)
    assert isinstance(store, Names)
    store.change_marker(
        lambda marker: replace(
            marker, algorithm=Algorithm.SHA256, names=(Algorithm.MD5,), migrating=Algorithm.MD5
        )
    )
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING")
    try:
        answer = call(create_app(config), path=path)
    finally:
        logger.remove(sink)
    assert (answer.status, answer.body) == (200, SMALL)
    assert not warnings


@pytest.mark.parametrize("name", NAMES)
def test_names_and_types_survive(application: Application, config: Config, name: str) -> None:
    """The file name and content type are the same as without a redirect."""
    path = f"{put(application, SMALL)}/{name}"
    path = path.encode().decode("latin-1")
    own = call(create_app(replace(config, redirect=Redirect.NEVER)), path=path)
    _, fields, body = follow(call(application, path=path))
    assert body == own.body == SMALL
    for field in ("Content-Type", "Content-Disposition"):
        assert fields[field] == own.headers[field]


def test_a_range(application: Application) -> None:
    """A client that follows a redirect gets the range it asked for from the object store."""
    wanted = "bytes=1-8"
    answer = call(application, path=put(application, SMALL), HTTP_RANGE=wanted)
    status, fields, body = follow(answer, Range=wanted)
    assert (status, body) == (206, SMALL[1:9])
    assert fields["Content-Range"] == f"bytes 1-8/{len(SMALL)}"


def test_a_redirection_is_kept_no_longer_than_its_url(application: Application) -> None:
    """Private caches may keep a redirect until its URL expires; shared caches may not keep it."""
    answer = call(application, path=put(application, SMALL))
    private, age = answer.headers["Cache-Control"].split(", ")
    (seconds,) = parse_qs(urlsplit(answer.headers["Location"]).query)["X-Amz-Expires"]
    assert private == "private"
    assert 0 < int(age.removeprefix("max-age=")) < int(seconds) == SIGNED_FOR


def test_a_url_expires(application: Application) -> None:
    """A URL is valid for the requested time, and only for the request that was signed."""
    digest = application.store.algorithm.parse(put(application, SMALL)[1:])
    url = application.store.url(digest, 4, "text/plain", "attachment")
    assert url is not None
    with closing(urllib.request.urlopen(url, timeout=20)) as response:
        assert response.read() == SMALL
    for wrong in (url.replace("text%2Fplain", "text%2Fhtml"), url):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            with urllib.request.urlopen(wrong, timeout=20):
                pass
        time.sleep(4.1)


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("HEAD", {}, 200),
        ("GET", {"HTTP_IF_NONE_MATCH": "*"}, 304),
        ("GET", {"HTTP_IF_MATCH": '"0"'}, 412),
        ("GET", {"HTTP_IF_MATCH": "*"}, 200),
        ("GET", {"HTTP_RANGE": "bytes=0-0", "HTTP_IF_RANGE": '"0"'}, 200),
        ("GET", {"HTTP_RANGE": "bytes=2000-"}, 416),
        ("GET", {"HTTP_RANGE": "bytes=0-0,1000-"}, 206),
    ],
)
def test_answered_here(application: Application, method: str, fields: dict[str, str], status: int) -> None:
    """Requests that the object store would answer differently are answered here, without a redirect."""
    answer = call(application, method, put(application, BIG[:2000]), **fields)
    assert answer.status == status
    assert "Location" not in answer.headers


def test_an_absent_blob(application: Application) -> None:
    """A request for an absent blob is not redirected."""
    answer = call(application, path=f"/{'0' * 64}")
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")


def test_large_only(config: Config) -> None:
    """Small blobs are sent from here when so configured."""
    application = create_app(replace(config, redirect=Redirect.LARGE))
    assert call(application, path=put(application, BIG[:-1])).body == BIG[:-1]
    assert follow(call(application, path=put(application, BIG)))[2] == BIG


def test_the_client(tmp_path: Path) -> None:
    """The Python client follows the redirect, and resumes a partial download."""
    with serving(tmp_path, WSGI_STORE_REDIRECT="always") as server:
        with Client(f"http://127.0.0.1:{server.port}", "all") as client:
            for data in (b"", SMALL, BIG):
                hash_ = client.put(data).hash
                with client.open(hash_) as download:
                    assert download.read() == data
                assert server.await_log(f"GET /{hash_} 307 ")
                (tmp_path / "file.part").write_bytes(data[:1000])
                client.get(hash_, tmp_path / "file", force=True)
                assert (tmp_path / "file").read_bytes() == data


def test_keys_of_a_role(application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs can be signed with keys that the machine provides instead of the environment."""
    path = put(application, SMALL)
    keys = {
        "AccessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
        "Token": None,
        "Expiration": "2100-01-01T00:00:00Z",
    }
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    hand_out = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), hand_out) as machine:
        Thread(target=machine.serve_forever).start()
        url = f"http://127.0.0.1:{machine.server_port}/keys.json"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        try:
            assert follow(call(application, path=path))[2] == SMALL
        finally:
            machine.shutdown()


def test_without_a_key_to_sign_with(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys this server sends the blob, and says why."""
    path = put(application, SMALL)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")  # type: ignore[arg-type]
    try:
        assert call(application, path=path).body == SMALL
    finally:
        logger.remove(sink)
    assert lines == [f"No keys to sign URLs with: {path[1:]} is downloaded from this server\n"]
