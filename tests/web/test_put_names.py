"""PUT by each name of a blob, in stores that keep several."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.support.access import KEY, Make, code, soon
from tests.support.calling import Answer, Untouched, call, held
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.store.contract import Durability
from wsgi_store.store.open import open_store
from wsgi_store.testing.helpers import COLLIDING, COLLIDING_SHA1
from wsgi_store.web.application import Application

NAMES = (Algorithm.MD5, Algorithm.SHA1)
DATA = b"hello\n"
PAIRS = {"md5": COLLIDING, "sha1": COLLIDING_SHA1}


def path(data: bytes, algorithm: str) -> str:
    """The URL of data by an algorithm."""
    return f"/{hashlib.new(algorithm, data).hexdigest()}"


def put(application: Application, target: str, body: Any = DATA, **extra: Any) -> Answer:
    """Send a PUT."""
    length = len(body) if isinstance(body, bytes) else 6
    return call(application, "PUT", target, body=body, CONTENT_LENGTH=str(length), **extra)


@pytest.fixture(name="several")
def fixture_several(config: Config) -> Iterator[Application]:
    """A service on an empty store with sha256, md5 and sha1."""
    open_store(config.root, Algorithm.SHA256, Durability.NONE, names=NAMES)
    yield create_app(replace(config, hash=Algorithm.SHA256))


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1"])
def test_by_any_name(several: Application, algorithm: str) -> None:
    """A PUT by any name stores the file by all; Location and `hash` are the primary one."""
    answers = [put(several, path(DATA, algorithm)), put(several, path(DATA, "md5"))]
    assert [answer.status for answer in answers] == [201, 200]
    for answer in answers:
        assert answer.json["names"] == {name: path(DATA, name)[1:] for name in ("sha256", "md5", "sha1")}
        assert answer.headers["Location"] == answer.json["url"] == path(DATA, "sha256")
    for name in ("sha256", "md5", "sha1"):
        assert call(several, path=path(DATA, name)).body == DATA
    assert held(several) == [path(DATA, "sha256")[1:]]


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1"])
def test_other_bytes(several: Application, algorithm: str) -> None:
    """Bytes with another hash get 422, by whatever algorithm."""
    answer = put(several, path(b"other", algorithm))
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert answer.json["expected"] == f"{algorithm}:{path(b'other', algorithm)[1:]}"
    assert not held(several)


def test_a_hash_of_no_kept_length(several: Application) -> None:
    """A hash of another length gets 404 with the algorithms that the store keeps."""
    answer = put(several, f"/{'deadbeef' * 16}", Untouched())
    assert (answer.status, answer.json["code"]) == (404, "blob_not_found")
    assert answer.json["algorithms"] == ["sha256", "md5", "sha1"]


@pytest.mark.parametrize("algorithm", PAIRS)
@pytest.mark.parametrize("first_by", ["sha256", "md5", "sha1"])
def test_a_name_of_another_file(several: Application, algorithm: str, first_by: str) -> None:
    """A further name that belongs to another file gets 409, and nothing is stored."""
    first, second = PAIRS[algorithm]
    assert put(several, path(first, first_by), first).status == 201
    answer = put(several, path(second, algorithm), second)
    assert (answer.status, answer.json["code"]) == (409, "digest_collision")
    assert answer.json["hash"] == path(second, algorithm)[1:]
    assert held(several) == [path(first, "sha256")[1:]]
    assert call(several, path=path(second, "sha256")).status == 404
    assert call(several, path=path(first, algorithm)).body == first
    # By its own name it is stored, and the answer says which name it does not have.
    answer = put(several, path(second, "sha256"), second)
    assert (answer.status, answer.json["ambiguous"]) == (201, [algorithm])
    assert algorithm not in answer.json["names"]
    # Now both are there, and that name still belongs to the first.
    assert put(several, path(second, algorithm), second).status == 409
    assert put(several, path(first, algorithm), first).status == 200
    assert call(several, path=path(first, algorithm)).body == first


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "sha1"])
def test_conditions(several: Application, algorithm: str) -> None:
    """Conditions ask for the blob by the name in the URL, before the body is read."""
    target = path(DATA, algorithm)
    assert put(several, target, Untouched(), HTTP_IF_MATCH="*").status == 412
    assert put(several, target, HTTP_IF_NONE_MATCH="*").status == 201
    assert put(several, target, Untouched(), HTTP_IF_NONE_MATCH="*").status == 412
    for tag in ("sha256", "md5", "sha1"):
        etag = f'"{path(DATA, tag)[1:]}"'
        assert put(several, target, Untouched(), HTTP_IF_NONE_MATCH=etag).status == 412
        assert put(several, target, HTTP_IF_MATCH=etag).status == 200


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_race_for_a_name(several: Application, algorithm: str) -> None:
    """Of two files with one further name, sent to it at the same time, one gets it and the other 409."""
    pair = PAIRS[algorithm]
    target = path(pair[0], algorithm)
    for _ in range(100):
        barrier = threading.Barrier(2)

        def upload(data: bytes, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            return put(several, target, data).status

        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(upload, pair))
        assert sorted(statuses) == [201, 409]
        stored = pair[statuses.index(201)]
        assert held(several) == [path(stored, "sha256")[1:]]
        assert call(several, path=target).body == stored
        call(several, "DELETE", target)


def test_a_ticket_by_another_algorithm(make: Make, config: Config) -> None:
    """A ticket for one hash permits a PUT by another algorithm if the bytes have both."""
    open_store(config.root, Algorithm.SHA256, names=NAMES)
    client = make(hash=Algorithm.SHA256)
    ticket = Signer([KEY]).ticket(soon(), hash_=path(DATA, "md5")[1:])
    assert code(client.put(f"{path(b'x', 'sha256')}?ticket={ticket}", b"x", status=422)) == "digest_mismatch"
    assert code(client.put(f"{path(b'x', 'md5')}?ticket={ticket}", b"x", status=403)) == "denied"
    assert client.put(f"{path(DATA, 'sha256')}?ticket={ticket}", DATA, status=201).json["created"]
