"""The client with servers and proxies that answer to resumable uploads in their own way."""

import hashlib
import json
from contextlib import ExitStack

import pytest

from tests.support.exchanges import DATA, HASH, SIZE
from tests.support.peers import hurried, reply, saying
from wsgi_store.client import resume, retries
from wsgi_store.errors import (
    BadRequest,
    OffsetMismatch,
    StorageFull,
    UnexpectedAnswer,
    UnexpectedDigest,
    UploadLocked,
)

INDEX = b'{"algorithm": "sha256", "names": []}'
CLOSE = {"Connection": "close"}
CREATED = reply(b"", "201 Created", Upload_Complete="?0", Upload_Offset="5", Location="/uploads/abc", **CLOSE)


def result(hash_: str = HASH, **fields: str) -> bytes:
    """The answer to a whole file."""
    told = {"hash": hash_, "size": SIZE, "created": True}
    return reply(json.dumps(told).encode(), **fields, **CLOSE)


DONE = result(Upload_Complete="?1")


def problem(code: str, status: str, **fields: str) -> bytes:
    """An error of this service."""
    told = json.dumps({"code": code, "detail": f"it is {code}"}).encode()
    return reply(told, status, Content_Type="application/problem+json", **fields, **CLOSE)


LOST = problem("upload_not_found", "404 Not Found")
LOCKED = problem("upload_locked", "423 Locked", Retry_After="0")
TAKEN = problem("upload_locked", "409 Conflict", Retry_After="0")
ELSEWHERE = problem("offset_mismatch", "409 Conflict", Upload_Offset="7")


@pytest.fixture(autouse=True)
def fixture_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are sent in this way, too, and pauses are short."""
    monkeypatch.setattr(resume, "LEAST", 1 << 20)
    monkeypatch.setattr(retries, "LOOK", 0.01)


def test_what_is_sent() -> None:
    """The upload is created with its length and its hash, and the rest of the file is sent to it."""
    index = reply(INDEX, **CLOSE)
    with saying(index, CREATED, DONE) as peer, hurried(f"{peer.url}/prefix", "token") as client:
        blob = client.put(DATA)
        assert (blob.hash, blob.created, blob.continued_at) == (HASH, True, 5)
        creation, append = peer.heads[1:]
    for head in (creation, append):
        assert "Authorization: Bearer token\r\n" in head
        assert "Interop" not in head
    assert creation.startswith(f"POST /prefix/uploads?hash={HASH} HTTP/1.1\r\n")
    for field in ("Upload-Complete: ?0", f"Upload-Length: {SIZE}", "Content-Length: 0"):
        assert f"\r\n{field}\r\n" in creation
    assert append.startswith("PATCH /prefix/uploads/abc HTTP/1.1\r\n")
    for field in ("Upload-Complete: ?1", "Upload-Offset: 5", f"Content-Length: {SIZE - 5}"):
        assert f"\r\n{field}\r\n" in append
    assert "\r\nContent-Type: application/partial-upload\r\n" in append


@pytest.mark.parametrize(
    "answers",
    [
        [reply(b"", "404 Not Found", **CLOSE)],
        [problem("not_found", "404 Not Found")],
        [reply(b"", "405 Method Not Allowed", **CLOSE)],
        [problem("unsupported", "501 Not Implemented")],
        [result(hashlib.sha256().hexdigest())],
        [CREATED, reply(b"", "405 Method Not Allowed", **CLOSE)],
        [CREATED, LOST, CREATED, LOST],
    ],
)
@pytest.mark.parametrize("hash_", [None, HASH], ids=["", "hash"])
def test_a_server_that_keeps_no_uploads(answers: list[bytes], hash_: str | None) -> None:
    """The file is sent in one request, and the server is not asked again."""
    with saying(*answers, result(), index=INDEX) as peer, hurried(peer.url) as client:
        assert client.resumes
        for _ in range(2):
            blob = client.put(DATA, hash_=hash_)
            assert (blob.hash, blob.continued_at) == (HASH, 0)
        assert not client.resumes
        seen = [head.split()[:2] for head in peer.heads]
    assert seen[len(answers) + 1 :] == [["PUT", f"/{HASH}"] if hash_ else ["POST", "/"]] * 2


def test_version_0_1_0() -> None:
    """A server of version 0.1.0 is not asked at all."""
    with saying(result()) as peer, hurried(peer.url) as client:
        client.put(DATA)
        assert [head.split()[:2] for head in peer.heads[1:]] == [["POST", "/"]]


def test_too_many_uploads(caplog: pytest.LogCaptureFixture) -> None:
    """A server that keeps no more uploads gets the file in one request, and the client says so."""
    many = problem("too_many_uploads", "429 Too Many Requests", Retry_After="100")
    with saying(many, result(), DONE, index=INDEX) as peer, hurried(peer.url) as client:
        assert client.put(DATA).hash == HASH
        assert client.put(DATA).hash == HASH
        assert client.resumes
        assert [head.split()[0] for head in peer.heads[1:]] == ["POST"] * 3
    assert caplog.messages == ["it is too_many_uploads: sending this file in one request"]


@pytest.mark.parametrize(
    "answers",
    [
        [reply(b"", "201 Created", Upload_Complete="?0", Location="/uploads/a")],
        [reply(b"", "201 Created", Upload_Complete="?0", Upload_Offset="-1", Location="/uploads/a")],
        [reply(b"", "201 Created", Upload_Complete="?0", Upload_Offset=str(SIZE + 1), Location="/uploads/a")],
        *(
            [reply(b"", "201 Created", Upload_Complete="?0", Upload_Offset="5", Location=location)]
            for location in ("", "/", "/uploads/", "/uploads/..", "/uploads/a/b", "/uploads/a?b", "x y")
        ),
        [reply(b"", Upload_Complete="?1")],
        [CREATED, reply(b"", Upload_Complete="?0", **CLOSE)],
        [CREATED, result()],
        [CREATED, result("0" * 64, Upload_Complete="?1")],
        [result("0" * 64, Upload_Complete="?1")],
        [CREATED, reply(b"", "204 No Content", Upload_Complete="?0", **CLOSE)],
    ],
)
def test_answers_that_make_no_sense(answers: list[bytes]) -> None:
    """Answers that this service never gives end the upload."""
    with saying(*answers, index=INDEX) as peer, hurried(peer.url) as client:
        with pytest.raises((UnexpectedAnswer, BadRequest)):
            client.put(DATA)
        assert len(peer.seen("P")) == len(answers)


def test_a_hash_that_differs() -> None:
    """The hash of the answer is compared with that of the file."""
    with saying(result("0" * 64, Upload_Complete="?1"), index=INDEX) as peer, hurried(peer.url) as client:
        with pytest.raises(UnexpectedDigest, match=f"sha256:{'0' * 64} to an upload of sha256:{HASH}"):
            client.put(DATA)


@pytest.mark.parametrize("place", ["http://{}/uploads/abc", "//{}/uploads/abc", "http://{}/x/uploads/abc"])
def test_an_upload_at_another_host(place: str) -> None:
    """Only the id of a Location counts: no other host gets a request."""
    with ExitStack() as stack:
        other = stack.enter_context(saying(DONE))
        location = place.format(f"127.0.0.1:{other.port}")
        created = reply(
            b"", "201 Created", Upload_Complete="?0", Upload_Offset="0", Location=location, **CLOSE
        )
        peer = stack.enter_context(saying(reply(INDEX, **CLOSE), created, DONE))
        client = stack.enter_context(hurried(f"{peer.url}/mount", "secret"))
        assert client.put(DATA).hash == HASH
        assert peer.heads[-1].startswith("PATCH /mount/uploads/abc HTTP")
        assert not other.heads


@pytest.mark.parametrize("before", [[], [CREATED]], ids=["creation", "append"])
@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirection(before: list[bytes], status: str) -> None:
    """Uploads do not follow redirections."""
    with saying(DONE) as other:
        away = reply(b"", status, Location=f"{other.url}/uploads/abc", **CLOSE)
        with saying(*before, away, index=INDEX) as peer, hurried(peer.url, "secret") as client:
            with pytest.raises(UnexpectedAnswer, match="only downloads follow"):
                client.put(DATA)
        assert not other.heads


def test_a_full_disk() -> None:
    """If the disk is full, the failure says that another start continues."""
    full = problem("storage_full", "507 Insufficient Storage")
    with saying(CREATED, full, index=INDEX) as peer, hurried(peer.url) as client:
        with pytest.raises(StorageFull, match="^it is storage_full; the server keeps what has arrived"):
            client.put(DATA)
    with saying(full, index=INDEX) as peer, hurried(peer.url) as client:
        with pytest.raises(StorageFull, match="^it is storage_full$"):
            client.put(DATA)


@pytest.mark.parametrize("locked", [LOCKED, TAKEN], ids=["423", "409"])
def test_an_upload_that_is_in_use(locked: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The client waits for another request with the same file, and says so once."""
    answers = [locked] * 5 + [CREATED] + [locked] * 5 + [CREATED, DONE]
    with saying(*answers, index=INDEX) as peer, hurried(peer.url, retries=1) as client:
        assert client.put(DATA).hash == HASH
        assert len(peer.heads) == 1 + len(answers)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("it is upload_locked: trying again in ")


def test_an_upload_that_stays_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not wait for ever, and without retries not at all."""
    monkeypatch.setattr(retries, "OTHERS", 0.05)
    for count in (0, 2):
        with saying(LOCKED, index=INDEX) as peer, hurried(peer.url, retries=count) as client:
            with pytest.raises(UploadLocked):
                client.put(DATA)
            assert len(peer.heads) > 1 + count


@pytest.mark.parametrize("again", [1, 9])
def test_an_offset_that_has_changed(again: int) -> None:
    """If more has arrived than the server said, the client asks again, a limited number of times."""
    answers = [CREATED, ELSEWHERE] * again + [CREATED, DONE]
    with saying(*answers, index=INDEX) as peer, hurried(peer.url, retries=3) as client:
        if again == 1:
            assert client.put(DATA).hash == HASH
        else:
            with pytest.raises(OffsetMismatch):
                client.put(DATA)
            # One attempt more, because the first offset was progress.
            assert len(peer.heads) == 1 + 2 * 4


def test_a_server_that_is_migrated() -> None:
    """A file that was hashed by an algorithm that the server has dropped is hashed again."""
    gone = problem("bad_request", "400 Bad Request")
    new = hashlib.sha512(DATA).hexdigest()
    answers = [gone, CREATED, result(new, Upload_Complete="?1")]
    with saying(*answers, index=INDEX) as peer, hurried(peer.url) as client:
        assert client.algorithm.value == "sha256"
        peer.index = b'{"algorithm": "sha512", "names": []}'
        assert client.put(DATA).hash == new
    for hash_ in (None, HASH):
        with saying(gone, index=INDEX) as peer, hurried(peer.url) as client, pytest.raises(BadRequest):
            client.put(DATA, hash_=hash_)
        assert len(peer.seen("POST")) == 1


def test_a_migration_meanwhile() -> None:
    """If the answer has only a name by another algorithm, the file is compared by that one."""
    new = hashlib.sha512(DATA).hexdigest()
    with saying(CREATED, result(new, Upload_Complete="?1"), index=INDEX) as peer:
        with hurried(peer.url) as client:
            assert client.algorithm.value == "sha256"
            peer.index = b'{"algorithm": "sha512", "names": []}'
            assert client.put(DATA).hash == new
