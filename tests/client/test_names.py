"""The client and the algorithms of a server, which may change while the client lives."""

import base64
import hashlib
import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_transport import Unseekable
from tests.support import peers
from tests.support.exchanges import DATA, SIZE
from tests.support.peers import hurried, reply
from wsgi_store.client import RemoteBlob
from wsgi_store.digest import Algorithm
from wsgi_store.errors import (
    BlobNotFound,
    DigestMismatch,
    MalformedHash,
    MethodNotAllowed,
    UnexpectedAnswer,
    UnexpectedDigest,
    Unsupported,
)

HASH = hashlib.md5(DATA).hexdigest()
SHA1 = hashlib.sha1(DATA).hexdigest()
SHA256 = hashlib.sha256(DATA).hexdigest()
BLAKE2B = hashlib.blake2b(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
NONE = "0" * 64
OLD = b'{"algorithm": "md5"}'
MIGRATED = b'{"algorithm": "sha256", "names": ["md5"]}'
NAMES = {"sha256": SHA256, "md5": HASH}


def saying(*answers: bytes, index: bytes = OLD) -> AbstractContextManager[peers.Peer]:
    """A server whose blobs have names by md5, unless `index` says otherwise."""
    return peers.saying(*answers, index=index)


def stored(**others: object) -> bytes:
    """The answer to an upload of a store with names."""
    told = {"hash": SHA256, "algorithm": "sha256", "names": NAMES, "size": SIZE, "created": True, **others}
    return reply(json.dumps(told).encode())


def repr_digest(**digests: str) -> str:
    """A Repr-Digest field; `_` stands for `-`."""
    raw = {key.replace("_", "-"): bytes.fromhex(hash_) for key, hash_ in digests.items()}
    return ", ".join(f"{key}=:{base64.b64encode(value).decode()}:" for key, value in raw.items())


def test_a_server_that_was_migrated_meanwhile() -> None:
    """An upload hashed by the old algorithm is compared with that name, and the next one uses the new one."""
    with saying(stored()) as peer, hurried(peer.url) as client:
        assert client.algorithms == (Algorithm.MD5,)
        peer.index = MIGRATED
        blob = client.put(DATA)
        assert (blob.hash, blob.names, blob.ambiguous) == (SHA256, NAMES, ())
        assert blob.url == f"{peer.url}/{SHA256}"
        assert client.algorithms == (Algorithm.SHA256, Algorithm.MD5)
        false = {**NAMES, "md5": "0" * 32}
    with saying(stored(names=false)) as peer, hurried(peer.url) as client:
        with pytest.raises(UnexpectedDigest, match=f"answers md5:{'0' * 32} to an upload of md5:{HASH}"):
            client.put(DATA)


ANSWERS_WITHOUT_MD5 = [
    stored(names={"sha256": SHA256}, ambiguous=["md5"]),
    stored(names={"sha256": SHA256}),
    reply(json.dumps({"hash": SHA256, "algorithm": "sha256", "size": SIZE, "created": True}).encode()),
]


@pytest.mark.parametrize("answer", ANSWERS_WITHOUT_MD5, ids=["ambiguous", "dropped", "another server"])
def test_an_answer_without_the_hash_that_was_computed(answer: bytes) -> None:
    """A source that can be read again is hashed by the algorithm of the answer, and compared."""
    with saying(answer) as peer, hurried(peer.url) as client:
        assert client.algorithm is Algorithm.MD5
        peer.index = MIGRATED
        blob = client.put(DATA)
        assert (blob.hash, blob.names) == (SHA256, {"sha256": SHA256})
        assert client.algorithm is Algorithm.SHA256
        assert blob.ambiguous == (("md5",) if b"ambiguous" in answer else ())
        assert len(peer.seen("POST")) == 1
    with saying(answer) as peer, hurried(peer.url) as client:
        other = DATA[:-1] + b"?"
        with pytest.raises(
            UnexpectedDigest, match=f"answers sha256:{SHA256} to an upload of sha256:"
        ) as caught:
            client.put(other)
        assert caught.value.expected == f"sha256:{hashlib.sha256(other).hexdigest()}"


@pytest.mark.parametrize("answer", ANSWERS_WITHOUT_MD5, ids=["ambiguous", "dropped", "another server"])
def test_a_pipe_that_cannot_be_compared(answer: bytes) -> None:
    """If nothing can be compared, the upload of a pipe fails, and the error says where the file is."""
    with saying(answer) as peer, hurried(peer.url) as client:
        assert client.algorithm is Algorithm.MD5
        peer.index = MIGRATED
        with pytest.raises(UnexpectedDigest, match="names no md5 hash of it, .* send it again") as caught:
            client.put(Unseekable(DATA))
        assert caught.value.evidence == {"expected": f"md5:{HASH}", "actual": f"sha256:{SHA256}"}
        assert client.put(Unseekable(DATA)).hash == SHA256


@pytest.mark.parametrize(
    "others",
    [
        {"names": []},
        {"names": {}},
        {"names": {"md5": HASH}},
        {"names": {**NAMES, "sha256": NONE}},
        {"names": {**NAMES, "sha256": HASH}},
        {"names": {**NAMES, "sha1": 5}},
        {"names": {**NAMES, "sha1": HASH}},
        {"names": {**NAMES, "crc32": "x"}},
        {"names": {"sha1": SHA256, "md5": HASH}, "algorithm": "sha1"},
        {"names": {"crc64": SHA256}, "algorithm": "crc64"},
        {"ambiguous": "md5"},
        {"ambiguous": [1]},
    ],
)
def test_names_that_make_no_sense(others: dict[str, Any]) -> None:
    """Names that contradict the hash, or are of the wrong form, raise an error."""
    with saying(stored(**others)) as peer, hurried(peer.url) as client, pytest.raises(UnexpectedAnswer):
        client.put(DATA)


def test_a_name_by_an_algorithm_from_the_future() -> None:
    """Names by algorithms that the client does not know are passed on."""
    names = {**NAMES, "sha3-256": NONE}
    index = b'{"algorithm": "sha256", "names": ["sha3-256", "md5"]}'
    with saying(stored(names=names), index=index) as peer, hurried(peer.url) as client:
        assert client.put(DATA).names == names
        assert client.algorithms == (Algorithm.SHA256, Algorithm.MD5)


@pytest.mark.parametrize("index", [b'{"algorithm": "md5", "names": "sha1"}', b'{"algorithm": ["md5"]}'])
def test_an_index_that_makes_no_sense(index: bytes) -> None:
    """An index without a known algorithm or with malformed names raises an error."""
    with saying(b"", index=index) as peer, hurried(peer.url) as client, pytest.raises(UnexpectedAnswer):
        client.put(DATA)


def test_a_name_that_the_server_got_meanwhile() -> None:
    """Before the client refuses a hash, it asks the server again for its algorithms."""
    with saying(reply(DATA)) as peer, hurried(peer.url) as client:
        for ask in (client.get_bytes, client.stat, client.exists, client.delete):
            if ask == client.exists:
                assert not client.exists(SHA256)
                continue
            with pytest.raises(BlobNotFound, match="its hashes are of md5$") as caught:
                ask(SHA256)
            assert caught.value.evidence == {"hash": SHA256, "algorithms": ["md5"]}
        with pytest.raises(MalformedHash, match=f"^malformed hash: '{SHA256}' is not a md5 digest in hex$"):
            client.put(DATA, hash_=SHA256)
        assert not peer.seen("GET") + peer.seen("HEAD") + peer.seen("DELETE")
        peer.index = MIGRATED
        assert client.get_bytes(SHA256) == client.get_bytes(HASH) == DATA
        with pytest.raises(DigestMismatch):
            client.get_bytes(NONE)


def test_the_names_that_a_description_tells() -> None:
    """`stat` returns the names that Repr-Digest tells (RFC 9530), and ignores what is malformed there."""
    field = (
        f"{repr_digest(md5=HASH, sha=SHA1, sha_512=SHA512)}, sha-256=:AAAA:, sha-512=:A:, unixsum=:AAAA:, x"
    )
    with (
        saying(reply(b"", length=SIZE, Repr_Digest=field), index=MIGRATED) as peer,
        hurried(peer.url) as client,
    ):
        names = {"md5": HASH, "sha1": SHA1, "sha512": SHA512, "sha256": SHA256}
        assert client.stat(SHA256) == RemoteBlob(SHA256, SIZE, f"{peer.url}/{SHA256}", names)
        # The answer shows that the server has further names now.
        peer.index = b'{"algorithm": "sha256", "names": ["md5", "sha1"]}'
        assert client.algorithms == (Algorithm.SHA256, Algorithm.MD5, Algorithm.SHA1)


def test_a_listing_by_the_algorithm_of_its_cursor() -> None:
    """A listing goes on by the algorithm of its last hash, and each entry has its names."""

    def page(*entries: tuple[str, dict[str, str]], more: bool) -> bytes:
        files = [{"hash": hash_, "size": 1, "names": names} for hash_, names in entries]
        return reply(json.dumps({"files": files, "next": "/x" if more else None}).encode())

    one, two = ("1" * 32, {"sha256": NONE, "md5": "1" * 32}), ("2" * 32, {"md5": "2" * 32})
    pages = [page(one, more=True), page(two, more=False)]
    with saying(*pages, index=MIGRATED) as peer, hurried(peer.url) as client:
        assert [(blob.hash, blob.names) for blob in client.list()] == [one, two]
        assert f"after={one[0]}" in peer.seen("GET")[1]
    with saying(page((NONE, {"md5": HASH}), more=False)) as peer, hurried(peer.url) as client:
        with pytest.raises(UnexpectedAnswer):
            list(client.list())


def test_a_listing_of_version_0_1_0() -> None:
    """A listing without names is read by the algorithm of the server, also when that changed."""
    entry = b'{"files": [{"hash": "%s", "size": 1, "url": "/x"}], "next": null}'
    answers = [reply(entry % hash_.encode()) for hash_ in (HASH, SHA1)]
    with saying(*answers) as peer, hurried(peer.url) as client:
        assert [blob.names for blob in client.list()] == [{"md5": HASH}]
        peer.index = b'{"algorithm": "sha1"}'
        assert [blob.names for blob in client.list()] == [{"sha1": SHA1}]
        peer.index = b'{"algorithm": "sha256"}'
        with pytest.raises(UnexpectedAnswer):
            client._kept.forget()  # pylint: disable=protected-access
            list(client.list())


def test_another_server_with_hashes_of_the_same_length(tmp_path: Path) -> None:
    """A download is called damaged only if the server still keeps the algorithm that it was checked by."""
    with saying(reply(DATA), index=b'{"algorithm": "sha512"}') as peer, hurried(peer.url) as client:
        assert client.algorithm is Algorithm.SHA512
        peer.index = b'{"algorithm": "blake2b"}'
        with pytest.raises(UnexpectedAnswer, match="is no sha512 hash any more") as caught:
            client.get(BLAKE2B, tmp_path / "file")
        assert not isinstance(caught.value, DigestMismatch)
        client.get(BLAKE2B, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == DATA


def test_version_0_1_0() -> None:
    """A server without names gets no PUT, but a POST with the hash."""
    answer = reply(json.dumps({"hash": HASH, "size": SIZE, "created": True}).encode())
    with saying(answer) as peer, hurried(peer.url) as client:
        for source in (DATA, io.BytesIO(DATA), Unseekable(DATA)):
            assert client.put(source, hash_=HASH).names == {"md5": HASH}
        assert [head.split()[:2] for head in peer.seen("P")] == [["POST", f"/?hash={HASH}"]] * 3


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "501 Not Implemented"])
def test_a_proxy_that_refuses_put(status: str) -> None:
    """A refused PUT is repeated once as a POST with the hash, and later uploads begin with POST."""
    refused = reply(b"", status)
    with saying(refused, stored(), index=MIGRATED) as peer, hurried(peer.url) as client:
        for _ in range(2):
            assert client.put(io.BytesIO(DATA), hash_=HASH).created
        seen = [head.split()[:2] for head in peer.seen("P")]
        assert seen == [["PUT", f"/{HASH}"], *[["POST", f"/?hash={HASH}"]] * 2]
    with saying(refused, stored(), index=MIGRATED) as peer, hurried(peer.url) as client:
        with pytest.raises((MethodNotAllowed, Unsupported)):
            client.put(Unseekable(DATA), hash_=HASH)  # cannot be sent again
        assert client.put(Unseekable(DATA), hash_=HASH).created


def test_a_put() -> None:
    """A file whose hash is known is sent by PUT; 201 says that it was created."""
    answer = stored().replace(b"200 OK", b"201 Created")
    with saying(answer, index=MIGRATED) as peer, hurried(peer.url) as client:
        for hash_, source in ((SHA256, DATA), (HASH.upper(), DATA), (HASH, Unseekable(DATA))):
            assert client.put(source, hash_=hash_).hash == SHA256
        assert [head.split()[1] for head in peer.seen("PUT")] == [f"/{SHA256}", f"/{HASH}", f"/{HASH}"]
        # A server that confirms the hash that it was told, though the bytes have another one.
        with pytest.raises(UnexpectedDigest) as caught:
            client.put(DATA, hash_="0" * 32)
        assert caught.value.evidence == {"expected": f"md5:{HASH}", "actual": f"md5:{'0' * 32}"}
