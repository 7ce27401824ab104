"""POST / with an expected digest, in the query or in a field of RFC 9530."""

import base64
import hashlib
import re

import pytest
from webtest import TestApp

from tests.support.calling import Untouched, call, held
from wsgi_store.web.application import Application

pytestmark = pytest.mark.every_store
HELLO = b"hello\n"
HASH = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
RAW = "application/octet-stream"


def field(name: str, data: bytes) -> str:
    """A member of a digest field for `data`; `name` is the key of RFC 9530."""
    algorithm = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}[name]
    return f"{name}=:{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


@pytest.mark.parametrize("hash_", [HASH, HASH.upper()])
def test_expected_hash(api: TestApp, hash_: str) -> None:
    """An upload that matches the hash in its query, in either case, is stored."""
    answer = api.post(f"/?hash={hash_}", HELLO, content_type=RAW)
    assert answer.json["hash"] == HASH


@pytest.mark.parametrize(
    "query", [f"hash={'0' * 64}", f"hash={HASH}&hash={'0' * 64}", f"hash={'0' * 64}&hash={HASH}"]
)
def test_another_hash(application: Application, query: str) -> None:
    """An upload that differs from the expected hash gets 422 with both hashes."""
    answer = call(application, "POST", query=query, body=HELLO)
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    # Two contradicting hashes are reported as each other's expected and actual.
    named = re.findall("[0-9a-f]{64}", query)
    assert answer.json["expected"] == f"sha256:{named[0]}"
    assert answer.json["actual"] == f"sha256:{named[1] if len(named) > 1 else HASH}"
    assert not held(application)


@pytest.mark.parametrize(
    "query",
    ["hash=", "hash", "hash=x", f"hash={HASH}0", f"hash={'0' * 32}", f"hash={HASH}&hash=", "hash=%ff"],
)
def test_malformed_hash(application: Application, query: str) -> None:
    """A malformed expected hash gets 400 before the body is read."""
    answer = call(application, "POST", query=query, body=Untouched(), CONTENT_LENGTH="6")
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize("name", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
@pytest.mark.parametrize(
    "value",
    [
        field("md5", HELLO),
        field("sha-256", HELLO),
        f"{field('sha-512', HELLO)}, {field('sha', HELLO)},{field('md5', HELLO)}",
        f"unixsum=:AAAA:, {field('sha-256', HELLO)}",
        "other=:AAAA:",
    ],
)
def test_digest_fields(application: Application, name: str, value: str) -> None:
    """Digests of all known algorithms are checked; unknown ones are ignored."""
    assert call(application, "POST", body=HELLO, **{name: value}).json["hash"] == HASH


@pytest.mark.parametrize("name", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
@pytest.mark.parametrize("key, algorithm", [("md5", "md5"), ("sha-256", "sha256")])
def test_wrong_digest_field(application: Application, name: str, key: str, algorithm: str) -> None:
    """One wrong digest among right ones gets 422."""
    value = f"{field('sha', HELLO)}, {field(key, b'other')}"
    answer = call(application, "POST", body=HELLO, **{name: value})
    assert (answer.status, answer.json["code"]) == (422, "digest_mismatch")
    assert answer.json["expected"] == f"{algorithm}:{hashlib.new(algorithm, b'other').hexdigest()}"
    assert answer.json["actual"] == f"{algorithm}:{hashlib.new(algorithm, HELLO).hexdigest()}"
    assert not held(application)


@pytest.mark.parametrize("name", ["HTTP_REPR_DIGEST", "HTTP_CONTENT_DIGEST"])
@pytest.mark.parametrize(
    "value",
    ["md5", "md5=abc", "md5=:!:", "md5=:AAAA:", "sha-256=::", f"{field('md5', HELLO)}, ;", "\xff=:A:"],
)
def test_malformed_digest_field(application: Application, name: str, value: str) -> None:
    """A malformed digest field gets 400 before the body is read."""
    answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH="6", **{name: value})
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
