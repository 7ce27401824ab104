"""Digests that a client announces while it sends, because it hashes meanwhile."""

import errno
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.access import code
from tests.support.kinds import digest_of
from tests.uploads.test_contents import DATA, DRAFT, SHA1, SHA256, SHA512, SIZE, TUS, digests, field
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BadRequest, ChecksumMismatch, StoreError, UploadNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Store
from wsgi_store.uploads import contents, records
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.uploads import Uploads

TUS_PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}
DRAFT_PATCH = {**DRAFT, "Content-Type": "application/partial-upload"}
DIALECTS = {"tus": (TUS, TUS_PATCH), "draft": (DRAFT, DRAFT_PATCH)}


@pytest.fixture
def client(tmp_path: Path) -> TestApp:
    """An open service."""
    return TestApp(create_app(Config(root=str(tmp_path / "store"))))


@pytest.fixture(name="dialect", params=DIALECTS)
def fixture_dialect(request: pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of a creation and of a PATCH in each dialect."""
    return DIALECTS[request.param]


def begun(client: TestApp, creation: dict[str, str], **more: str) -> str:
    """The URL of a new upload."""
    fields = {**creation, "Upload-Length": str(SIZE), **more}
    return str(client.post("/uploads", headers=fields, status=201).headers["Location"])


@pytest.mark.parametrize("sent", [0, 1000])
def test_found_by_its_content_from_then_on(
    client: TestApp, dialect: tuple[dict[str, str], dict[str, str]], sent: int
) -> None:
    """Also a PATCH without bytes announces; clients of both protocols find the upload, and finish it."""
    creation, patch = dialect
    url = begun(client, creation)
    client.patch(url, DATA[:500], headers={**patch, "Upload-Offset": "0"}, status="2*")
    fields = {**patch, "Upload-Offset": "500", **field(SHA256, SHA1)}
    client.patch(url, DATA[500 : 500 + sent], headers=fields, status="2*")
    for one in (SHA256, SHA1):
        for other, _ in DIALECTS.values():
            assert begun(client, other, **field(one)) == url
    offset = 500 + sent
    last = {**TUS_PATCH, "Upload-Offset": str(offset)}
    assert client.patch(url, DATA[offset:], headers=last, status=204).headers["Content-Location"]


def test_in_the_query(tmp_path: Path, dialect: tuple[dict[str, str], dict[str, str]]) -> None:
    """Header fields have no key for some algorithms, so `?hash=` announces as well."""
    client = TestApp(create_app(Config(root=str(tmp_path / "store"), hash=Algorithm.BLAKE2B)))
    creation, patch = dialect
    url = begun(client, creation)
    digest = digest_of(Algorithm.BLAKE2B, DATA)
    fields = {**patch, "Upload-Offset": "0"}
    client.patch(f"{url}?hash={digest.hex}", DATA[:10], headers=fields, status="2*")
    fields["Upload-Offset"] = "10"
    other = digest_of(Algorithm.BLAKE2B, b"something else")
    for text, status in ((other.hex, 400), ("xyz", 400)):
        client.patch(f"{url}?hash={text}", DATA[10:20], headers=fields, status=status)
    query = f"?hash={digest.hex}"
    again = client.post(f"/uploads{query}", headers={**TUS, "Upload-Length": str(SIZE)}, status=201)
    assert (again.headers["Location"], again.headers["Upload-Offset"]) == (url, "10")


@pytest.mark.parametrize("told", ["sha-256=:AAAA:", "sha-256=abc", ";", "sha-256=:====:"])
def test_malformed(client: TestApp, dialect: tuple[dict[str, str], dict[str, str]], told: str) -> None:
    """A malformed field is refused before a byte is taken."""
    creation, patch = dialect
    url = begun(client, creation)
    fields = {**patch, "Upload-Offset": "0", "Repr-Digest": told}
    assert code(client.patch(url, DATA, headers=fields, status=400)) == "bad_request"
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "0"


def test_unknown_algorithms(client: TestApp, dialect: tuple[dict[str, str], dict[str, str]]) -> None:
    """They are ignored, as RFC 9530 allows."""
    creation, patch = dialect
    url = begun(client, creation)
    fields = {**patch, "Upload-Offset": "0", "Repr-Digest": "crc32c=:AAAAAA==:"}
    client.patch(url, DATA[:10], headers=fields, status="2*")
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "10"


def test_one_that_contradicts(client: TestApp, dialect: tuple[dict[str, str], dict[str, str]]) -> None:
    """It changes nothing: neither bytes nor digests of the request count, and the upload goes on."""
    creation, patch = dialect
    url = begun(client, creation, **field(SHA256))
    wrong = {**patch, "Upload-Offset": "0", **field(SHA256, SHA512, data=b"something else")}
    answer = client.patch(url, DATA[:10], headers=wrong, status=400)
    assert code(answer) == "bad_request"
    assert answer.json["expected"] == str(digests(SHA256)[0])
    assert answer.json["provided"] == str(digest_of(SHA256, b"something else"))
    assert begun(client, creation, **field(SHA512, data=b"something else")) != url
    right = {**patch, "Upload-Offset": "0", **field(SHA256)}
    client.patch(url, DATA[:10], headers=right, status="2*")
    last = {**TUS_PATCH, "Upload-Offset": "10", **field(SHA256)}
    client.patch(url, DATA[10:], headers=last, status=204)
    # The upload is done, and it still contradicts.
    fields = {**patch, "Upload-Offset": str(SIZE), **field(SHA256, data=b"something else")}
    assert code(client.patch(url, b"", headers=fields, status=400)) == "bad_request"
    client.patch(url, b"", headers={**fields, **field(SHA256)}, status="2*")


def test_checked_at_the_end(client: TestApp, dialect: tuple[dict[str, str], dict[str, str]]) -> None:
    """A file without the announced digest is not stored, and its upload is removed."""
    creation, patch = dialect
    url = begun(client, creation)
    client.patch(url, DATA[:10], headers={**patch, "Upload-Offset": "0", **field(SHA512)}, status="2*")
    last = {**TUS_PATCH, "Upload-Offset": "10"}
    answer = client.patch(url, bytes(SIZE - 10), headers=last, status=422)
    assert code(answer) == "digest_mismatch"
    client.head(url, headers=TUS, status=404)
    assert client.get("/files").json["files"] == []


def test_with_bytes_that_do_not_count(uploads: Uploads) -> None:
    """A request whose bytes lack their own digest announces nothing."""
    upload = uploads.create("me", FileInfo(length=SIZE))
    with pytest.raises(ChecksumMismatch):
        upload.append([DATA[:10]], 0, expected=[digest_of(SHA1, b"x")], digests=digests(SHA256))
    assert uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA256))).identity != upload.identity
    with pytest.raises(BadRequest):
        uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA512))).append(
            [], 0, digests=[digest_of(SHA512, b"x")]
        )


def test_after_a_failure_of_the_disk(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever record cannot be written: the upload goes on, and may be announced again."""
    for number, (module, name) in enumerate([(contents, "note"), (records, "write")]):
        upload = uploads.create(f"user {number}", FileInfo(length=SIZE))
        upload.append([DATA[:10]], 0)

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "broken")

        with monkeypatch.context() as patched, pytest.raises(StoreError):
            patched.setattr(module, name, fail)
            upload.append([DATA[10:20]], 10, digests=digests(SHA256))
        assert upload.state().offset == 10
        upload.append([DATA[10:20]], 10, digests=digests(SHA256))
        again = uploads.create(f"user {number}", FileInfo(length=SIZE, expected=digests(SHA256)))
        assert again.identity == upload.identity
        assert again.append([DATA[20:]], 20).receipt


def test_in_another_process(store: Store, uploads: Uploads) -> None:
    """Each process checks what any of them was told."""
    upload = uploads.create("me", FileInfo(length=SIZE))
    other = Uploads(Staging(store), store).find("me", upload.identity)
    upload.append([DATA[:10]], 0, digests=digests(SHA256))
    with pytest.raises(BadRequest):
        other.append([DATA[10:]], 10, digests=[digest_of(SHA256, b"x")])
    assert other.append([DATA[10:]], 10, digests=digests(SHA512)).receipt


def test_what_joins_is_found_by_all_of_its_digests(uploads: Uploads) -> None:
    """A second creation that knows more digests makes the upload found by them, too."""
    upload = uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA256)))
    uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA256, SHA512)))
    assert uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA512))).identity == upload.identity
    upload.remove()
    with pytest.raises(UploadNotFound):
        upload.append([], 0, digests=digests(SHA1))
