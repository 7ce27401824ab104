"""Clients see a refusal that arrives while they send a body, directly and through nginx."""

import asyncio
import http.client
import io
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import httpx
import pytest
import requests

from tests.support.access import bearer, line
from tests.support.servers import gunicorn, nginx

SIZE = 50 << 20
PIECE = bytes(1 << 20)


class Upload(NamedTuple):
    """A request with a large body, and its expected status."""

    status: int
    method: str
    path: str
    fields: dict[str, str]
    chunked: bool = False


TOKEN = bearer("writer")
HASH = "0" * 64
OTHER = {"Repr-Digest": f"sha-256=:{'/' * 42}8=:"}
REFUSED = {
    "no token": Upload(401, "POST", "/", {}),
    "too large": Upload(413, "POST", "/", TOKEN),
    # Known only after 10 MiB.
    "too large, chunked": Upload(413, "POST", "/", TOKEN, chunked=True),
    "contradiction": Upload(422, "POST", f"/?hash={HASH}", TOKEN | OTHER, chunked=True),
    "malformed digest": Upload(400, "POST", "/", TOKEN | {"Repr-Digest": "md5=:AAAA:"}),
    "method": Upload(405, "PATCH", "/", TOKEN),
    "upload": Upload(415, "POST", "/uploads", TOKEN | {"Tus-Resumable": "1.0.0", "Upload-Length": f"{SIZE}"}),
}


def pieces() -> Iterator[bytes]:
    """The body in pieces."""
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


def by_curl(url: str, upload: Upload) -> int:
    """The status that curl sees."""
    # Without Expect: the body is being sent when the answer comes.
    fields = ["Expect:"] + [f"{name}: {value}" for name, value in upload.fields.items()]
    command = ["curl", "-sS", "-X", upload.method, "-o", "/dev/null", "-w", "%{http_code}"]
    command += ["-T", "-"] if upload.chunked else ["--data-binary", "@-"]
    command += [option for field in fields for option in ("-H", field)]
    done = subprocess.run(
        [*command, url + upload.path], input=bytes(SIZE), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def by_http_client(url: str, upload: Upload) -> int:
    """The status that http.client sees, which sends the whole body before reading."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        length = {} if upload.chunked else {"Content-Length": str(SIZE)}
        connection.request(upload.method, upload.path, pieces(), upload.fields | length)
        with connection.getresponse() as answer:
            return answer.status
    finally:
        connection.close()


def by_requests(url: str, upload: Upload) -> int:
    """The status that requests sees."""
    body = pieces() if upload.chunked else bytes(SIZE)
    with requests.Session() as session:
        return session.request(
            upload.method, url + upload.path, data=body, headers=upload.fields, timeout=60
        ).status_code


def by_httpx(url: str, upload: Upload) -> int:
    """The status that httpx sees."""
    length = {} if upload.chunked else {"Content-Length": str(SIZE)}
    with httpx.Client(timeout=60) as client:
        return client.request(
            upload.method, url + upload.path, content=pieces(), headers=upload.fields | length
        ).status_code


def by_aiohttp(url: str, upload: Upload) -> int:
    """The status that aiohttp sees."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    async def ask() -> int:
        opened: list[socket.socket] = []

        def make(address: tuple[Any, ...]) -> socket.socket:
            opened.append(socket.socket(*address[:3]))
            return opened[-1]

        data = body() if upload.chunked else io.BytesIO(bytes(SIZE))
        connector = aiohttp.TCPConnector(socket_factory=make)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(upload.method, url + upload.path, data=data, headers=upload.fields) as answer,
        ):
            status = answer.status
        # aiohttp closes its connections in the background.
        async with asyncio.timeout(20):
            while any(one.fileno() >= 0 for one in opened):
                await asyncio.sleep(0.001)
        return status

    return asyncio.run(ask())


CLIENTS: dict[str, Callable[[str, Upload], int]] = {
    "curl": by_curl,
    "http.client": by_http_client,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
}


@pytest.fixture(scope="module", name="urls")
def fixture_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of gunicorn and of nginx, which does not buffer uploads."""
    directory = tmp_path_factory.mktemp("service")
    tokens = directory / "tokens"
    tokens.write_text(line("writer", "write"), encoding="ascii")
    with (
        gunicorn(directory, WSGI_STORE_TOKENS=str(tokens), WSGI_STORE_MAX_SIZE="10MiB") as backend,
        nginx(directory, backend, direct=False) as proxy,
    ):
        yield {"gunicorn": f"http://127.0.0.1:{backend.port}", "nginx": f"http://127.0.0.1:{proxy.port}"}
        assert not backend.blobs()


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.races)])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", ["gunicorn", "nginx"])
@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_seen(urls: dict[str, str], client: str, server: str, case: str, times: int) -> None:
    """A client that is still sending sees the refusal, every time."""
    upload = REFUSED[case]
    seen = [CLIENTS[client](urls[server], upload) for _ in range(times)]
    assert seen == [upload.status] * times


@pytest.mark.parametrize("case", [name for name in REFUSED if name != "too large, chunked"])
def test_refused_before_the_body(urls: dict[str, str], case: str) -> None:
    """With Expect curl sends no body if the head alone gets the request refused."""
    upload = REFUSED[case]
    fields = ["Expect: 100-continue", *(f"{name}: {value}" for name, value in upload.fields.items())]
    fields += ["Transfer-Encoding: chunked"] if upload.chunked else []
    command = ["curl", "-sS", "-X", upload.method, "-o", "/dev/null", "-w", "%{http_code} %{size_upload}"]
    command += ["--expect100-timeout", "60", "--data-binary", "@-", urls["gunicorn"] + upload.path]
    command += [option for field in fields for option in ("-H", field)]
    done = subprocess.run(command, input=bytes(SIZE), capture_output=True, timeout=60, check=True)
    assert done.stdout.split() == [b"%d" % upload.status, b"0"]


def test_asked_for_the_body(urls: dict[str, str]) -> None:
    """With Expect an acceptable body gets 100 Continue and is sent."""
    command = ["curl", "-sS", "-H", "Expect: 100-continue", "-H", f"Authorization: {TOKEN['Authorization']}"]
    command += ["--expect100-timeout", "60", "--data-binary", "@-", "-w", "%{http_code} %{size_upload}"]
    command += ["-o", "/dev/null", f"{urls['gunicorn']}/?hash={HASH}"]
    done = subprocess.run(command, input=PIECE, capture_output=True, timeout=60, check=True)
    assert done.stdout.split() == [b"422", b"%d" % len(PIECE)]
