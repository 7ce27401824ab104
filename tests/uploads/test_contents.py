"""Content is the key by which a client finds its unfinished upload, and what need not be sent at all."""

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from webtest import TestApp

from tests.support.access import Make, bearer, code, line, maker
from tests.support.kinds import EVERY_KIND, Kind, content, digest_of, put
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import DigestMismatch, TooManyUploads, UploadLocked, UploadNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.store.open import open_store
from wsgi_store.testing.helpers import COLLIDING
from wsgi_store.uploads import contents, part
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.upload import Upload
from wsgi_store.uploads.uploads import Limits, Uploads

DATA = b"the same content " * 300
SIZE = len(DATA)
MD5, SHA1, SHA256, SHA512 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA512
TUS = {"Tus-Resumable": "1.0.0"}
DRAFT = {"Upload-Complete": "?0", "Upload-Draft-Interop-Version": "8"}
KEYS = {MD5: "md5", SHA1: "sha", SHA256: "sha-256", SHA512: "sha-512"}


def field(*algorithms: Algorithm, data: bytes = DATA) -> dict[str, str]:
    """A Repr-Digest field."""
    digests = [digest_of(one, data) for one in algorithms]
    told = (f"{KEYS[one.algorithm]}=:{base64.b64encode(one.raw).decode()}:" for one in digests)
    return {"Repr-Digest": ", ".join(told)}


def digests(*algorithms: Algorithm) -> tuple[Digest, ...]:
    """Digests of the content."""
    return tuple(digest_of(one, DATA) for one in algorithms)


@pytest.fixture
def client(tmp_path: Path) -> TestApp:
    """An open service."""
    return TestApp(create_app(Config(root=str(tmp_path / "store"))))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes services with tokens."""
    return maker(Config(root=str(tmp_path / "store")), tmp_path / "tokens")


def test_a_look_before_an_upload_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another creation finds the note of an upload that appears at this moment, and leaves it alone."""
    store = open_store(str(tmp_path / "store"), SHA256, create=True)
    uploads = Uploads(Staging(store), store)
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    noted, looked, there = threading.Event(), threading.Event(), threading.Event()
    put_, discard = Uploads._put, Upload.discard  # pylint: disable=protected-access

    def put_later(self: Uploads, draft: str, path: str) -> None:
        noted.set()
        # The other creation waits for the lock of this one if it discards nothing.
        looked.wait(0.3)
        put_(self, draft, path)
        there.set()

    def discard_later(self: Upload, *why: Event) -> None:
        looked.set()
        assert there.wait(10)
        discard(self, *why)

    monkeypatch.setattr(Uploads, "_put", put_later)
    monkeypatch.setattr(Upload, "discard", discard_later)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(uploads.create, "me", announced)
        assert noted.wait(10)
        second = uploads.create("me", announced)
        assert first.result().identity == second.identity
    assert uploads.find("me", second.identity).state().offset == 0


CREATIONS = [
    ("tus, Repr-Digest", "", {**TUS, "Upload-Length": str(SIZE), **field(SHA256)}),
    ("tus, ?hash=", f"?hash={digest_of(SHA256, DATA).hex}", {**TUS, "Upload-Length": str(SIZE)}),
    ("tus, two digests", "", {**TUS, "Upload-Length": str(SIZE), **field(SHA512, SHA256)}),
    (
        "tus, another name",
        "",
        {**TUS, "Upload-Length": str(SIZE), "Upload-Metadata": "filename aGk=", **field(SHA256)},
    ),
    ("tus, length later", "", {**TUS, "Upload-Defer-Length": "1", **field(SHA256)}),
    ("draft, Repr-Digest", "", {**DRAFT, "Upload-Length": str(SIZE), **field(SHA256)}),
    (
        "draft, both",
        f"?hash={digest_of(SHA256, DATA).hex}",
        {**DRAFT, "Upload-Length": str(SIZE), **field(MD5)},
    ),
    ("draft, length later", "", {**DRAFT, **field(SHA256, MD5)}),
    (
        "draft, unknown algorithms",
        "",
        {**DRAFT, "Repr-Digest": field(SHA256)["Repr-Digest"] + ", crc32c=:AAAAAA==:"},
    ),
]


@pytest.mark.parametrize("second", CREATIONS, ids=lambda one: one[0])
@pytest.mark.parametrize("first", [CREATIONS[0], CREATIONS[2], CREATIONS[-2]], ids=lambda one: one[0])
def test_the_same_content(
    client: TestApp, first: tuple[str, str, dict[str, str]], second: tuple[str, str, dict[str, str]]
) -> None:
    """Whoever announces the same content goes on with the same upload, whatever else is announced."""
    (_, query, fields), (_, other_query, other_fields) = first, second
    url = client.post(f"/uploads{query}", headers=fields, status=201).headers["Location"]
    patch = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    client.patch(url, DATA[:1000], headers=patch, status=204)
    again = client.post(f"/uploads{other_query}", headers=other_fields, status=201)
    assert (again.headers["Location"], again.headers["Upload-Offset"]) == (url, "1000")
    length = (
        {}
        if SIZE in (int(one.get("Upload-Length", 0)) for one in (fields, other_fields))
        else {"Upload-Length": str(SIZE)}
    )
    client.patch(url, DATA[1000:], headers={**patch, "Upload-Offset": "1000", **length}, status=204)
    assert client.get(f"/{digest_of(SHA256, DATA).hex}").body == DATA


def test_other_content(uploads: Uploads) -> None:
    """Other digests and lengths, and no digest, are other files; other owners have other uploads."""
    first = uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA256, SHA512)))
    others = [
        ("me", FileInfo(length=SIZE)),
        ("me", FileInfo(length=SIZE, expected=(digest_of(SHA256, b"x"),))),
        ("me", FileInfo(length=SIZE, expected=(*digests(SHA256), digest_of(SHA512, b"x")))),
        ("me", FileInfo(length=SIZE, expected=digests(MD5))),
        ("you", FileInfo(length=SIZE, expected=digests(SHA256))),
        # The last one is found from now on.
        ("me", FileInfo(length=SIZE + 1, expected=digests(SHA256))),
    ]
    found = [uploads.create(owner, announced).identity for owner, announced in others]
    assert len({first.identity, *found}) == 1 + len(others)
    assert uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA512))).identity == first.identity


def test_digests_that_contradict_each_other(client: TestApp) -> None:
    """No file has two digests by one algorithm, so that none is created."""
    answer = client.post(f"/uploads?hash={'0' * 64}", headers={**DRAFT, **field(SHA256)}, status=422)
    assert code(answer) == "digest_mismatch"


def test_everything_that_was_announced_is_checked(uploads: Uploads) -> None:
    """A digest that only the second creation announces counts, too, although the hashing has begun."""
    upload = uploads.create("me", FileInfo(expected=digests(SHA256)))
    upload.append([DATA[:1000]], 0)
    wrong = FileInfo(length=SIZE, expected=(*digests(SHA256), digest_of(SHA512, b"something else")))
    again = uploads.create("me", wrong)
    assert again.identity == upload.identity
    with pytest.raises(DigestMismatch):
        again.append([DATA[1000:]], 1000)
    with pytest.raises(UploadNotFound):
        uploads.find("me", upload.identity)


def test_creations_at_once(store: Store) -> None:
    """Of many creations by several processes all get the same upload."""
    processes = [Uploads(Staging(store), store) for _ in range(4)]
    announced = [FileInfo(length=SIZE, expected=digests(*some)) for some in [(SHA256,), (SHA512, SHA256)]]

    def create(number: int) -> str:
        for _ in range(100):
            try:
                return processes[number % 4].create("me", announced[number % 2]).identity
            except UploadLocked:
                time.sleep(0.01)
        raise AssertionError("always locked")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create, range(16)))) == 1


def test_records_of_uploads_that_are_gone(uploads: Uploads, tmp_path: Path) -> None:
    """They are swept, and so are damaged ones; until then they lead nowhere."""
    announced = FileInfo(length=SIZE, expected=digests(SHA256, MD5))
    uploads.create("me", announced).remove()
    (own,) = (tmp_path / "store" / ".uploads").glob("[!.]*")
    names = {one.name for one in own.iterdir()}
    assert {name.partition("-")[0] + "-" for name in names} == {contents.PREFIX}
    kept = uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA512)))
    (own / f"{contents.PREFIX}sha1-{digests(SHA1)[0].hex}").write_text("../../store.json")
    uploads.sweep()
    assert {one.name for one in own.iterdir()} == {
        kept.identity,
        f"{contents.PREFIX}sha512-{digests(SHA512)[0].hex}",
    }
    (own / f"{contents.PREFIX}sha512-{digests(SHA512)[0].hex}").write_bytes(b"")
    assert uploads.create("me", FileInfo(length=SIZE, expected=digests(SHA512))).identity != kept.identity


# What the store holds already.


@pytest.fixture(params=EVERY_KIND, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of store."""
    kind: Kind = request.param
    return kind


def test_what_the_store_holds(kind: Kind, tmp_path: Path) -> None:
    """No byte is sent, and the blob counts as uploaded now."""
    root = tmp_path / "store"
    store = kind.open(root, SHA256)
    staging = kind.staging(store)
    uploads = Uploads(staging, store)
    digest = put(staging, DATA).digest
    kind.age(root, digest)
    old = store.stat(digest).modified
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    entered = []

    class Rights:
        """Looks at the blob before it is renewed."""

        def __enter__(self) -> None:
            entered.append(store.stat(digest).modified)

        def __exit__(self, *_: object) -> None: ...

    upload = uploads.create("me", announced, reads=True, publishing=Rights())
    assert entered == [old]
    assert store.stat(digest).modified > old
    for process in (uploads, Uploads(staging, store)):
        state = process.find("me", upload.identity).state()
        assert state.receipt is not None
        assert (state.offset, state.length, state.receipt.added) == (SIZE, SIZE, Added.HELD)
        assert state.receipt.names == (digest,)
        assert state.expires > time.time() + 80000
    # Without the right to read, nobody learns it.
    other = uploads.create("me", announced)
    assert other.state().offset == 0
    assert other.append([DATA], 0).receipt == state.receipt


def test_when_the_bytes_are_needed(kind: Kind, tmp_path: Path) -> None:
    """If no digest proves the content, the length differs, or the blob is absent or damaged."""
    root = tmp_path / "store"
    store = kind.open_named(root, SHA256, [MD5, SHA1])
    staging = kind.staging(store)
    uploads = Uploads(staging, store)
    digest = put(staging, DATA).digest
    weak, strong = digests(MD5, SHA1), digests(SHA256)
    needed = [
        FileInfo(length=SIZE, expected=weak),
        FileInfo(length=SIZE),
        FileInfo(length=SIZE, expected=digests(SHA512)),
        FileInfo(length=SIZE + 1, expected=strong),
        FileInfo(length=SIZE - 1, expected=strong),
        FileInfo(expected=strong),
        FileInfo(length=SIZE, expected=(*strong, digest_of(MD5, b"another"))),
        FileInfo(length=7, expected=(digest_of(SHA256, b"another"),)),
    ]
    put(staging, b"another!")
    for number, announced in enumerate(needed):
        state = uploads.create(f"user {number}", announced, reads=True).state()
        assert (state.offset, state.receipt) == (0, None), announced
    held = uploads.create("me", FileInfo(length=SIZE, expected=(*weak, *strong)), reads=True).state()
    assert held.receipt is not None
    assert held.receipt.names == (*strong, *weak)
    kind.damage(root, digest, DATA[:-1])
    upload = uploads.create("other", FileInfo(length=SIZE, expected=strong), reads=True)
    assert upload.state().offset == 0
    state = upload.append([DATA], 0)
    assert state.receipt is not None
    assert state.receipt.added is Added.HEALED
    assert content(store, digest) == DATA


def test_removed_while_it_is_renewed(store: Store, uploads: Uploads) -> None:
    """If the blob was removed meanwhile, the bytes are asked for, and a ticket stays valid."""
    digest = put(Staging(store), DATA).digest
    entered: list[object] = []

    class Ticket:
        """Removes the blob before it is renewed."""

        def __enter__(self) -> None:
            store.remove(digest)

        def __exit__(self, kind: object, *_: object) -> None:
            entered.append(kind)

    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    assert uploads.create("me", announced, reads=True, publishing=Ticket()).state().offset == 0
    assert entered != [None]


def test_an_unfinished_upload_of_what_the_store_holds_by_now(store: Store, uploads: Uploads) -> None:
    """It is finished without the rest of its bytes, unless another request is sending them."""
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    upload = uploads.create("me", announced)
    upload.append([DATA[:10]], 0)
    put(Staging(store), DATA)
    assert uploads.create("me", announced, reads=True).identity == upload.identity
    assert upload.state().receipt
    assert uploads.create("me", announced, reads=True).identity != upload.identity


def test_one_that_is_being_sent(store: Store, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends bytes of it may go on."""
    monkeypatch.setattr(part, "PATIENCE", 0.0)
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    upload = uploads.create("me", announced)
    put(Staging(store), DATA)

    def chunks() -> object:
        yield DATA[:10]
        assert uploads.create("me", announced, reads=True).state().receipt
        with pytest.raises(UploadLocked):
            uploads.create("me", announced)
        yield DATA[10:]

    state = upload.append(chunks(), 0)  # type: ignore[arg-type]
    assert state.receipt and not state.receipt.created


def test_one_that_is_stored_meanwhile(
    store: Store, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a request that sends the same file need not send it again."""
    monkeypatch.setattr(part, "PATIENCE", 20.0)
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    upload = uploads.create("me", announced)
    other = Uploads(Staging(store), store)
    with ThreadPoolExecutor(1) as pool:

        def chunks() -> Iterator[bytes]:
            yield DATA[:10]
            waiting.append(pool.submit(other.create, "me", announced, reads=True))
            with pytest.raises(TimeoutError):
                waiting[0].result(0.1)
            yield DATA[10:]

        waiting: list[Future[Upload]] = []
        assert upload.append(chunks(), 0).receipt
        state = waiting[0].result(20).state()
    assert state.receipt and not state.receipt.created


def test_a_store_that_cannot_renew(tmp_path: Path) -> None:
    """There the bytes are always needed."""
    store = open_store(str(tmp_path / "store"), SHA256, create=True)

    class Plain:
        """The store without its abilities."""

        def __getattr__(self, name: str) -> object:
            if name == "renew":
                raise AttributeError(name)
            return getattr(store, name)

    staging = Staging(Plain())  # type: ignore[arg-type]
    put(staging, DATA)
    assert staging.renew(digests(SHA256), SIZE) is None


@pytest.mark.parametrize("scopes, held", [("write", False), ("read,write", True)])
def test_only_who_may_read(make: Make, scopes: str, held: bool) -> None:
    """Only callers who may read learn from a creation that the store holds a file."""
    client = make(line("t", scopes))
    client.post("/", DATA, headers=bearer("all"))
    fields = {**TUS, **bearer("t"), "Upload-Length": str(SIZE), **field(SHA256)}
    answer = client.post("/uploads", headers=fields, status=201)
    assert answer.headers["Upload-Offset"] == (str(SIZE) if held else "0")
    public = make(line("t", scopes), public_read=True)
    answer = public.post("/uploads", headers=fields, status=201)
    assert answer.headers["Upload-Offset"] == str(SIZE)
    told = public.get(answer.headers["Location"], headers=bearer("t")).json
    assert (told["created"], told["size"], told["hash"]) == (False, SIZE, digest_of(SHA256, DATA).hex)


def test_it_is_counted_as_held(tmp_path: Path) -> None:
    """Metrics count such an upload as one that was held."""
    config = Config(root=str(tmp_path / "store"), metrics=MetricsAccess.PUBLIC)
    client = TestApp(create_app(config))

    def counted() -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(one for one in lines if 'uploads_total{outcome="held"}' in one).split()[1])

    client.post("/", DATA)
    before = counted()
    client.post("/uploads", headers={**TUS, "Upload-Length": str(SIZE), **field(SHA256)}, status=201)
    client.post("/uploads", headers={**TUS, "Upload-Length": "3", **field(SHA256, data=b"new")}, status=201)
    assert counted() == before + 1


def test_files_with_the_same_md5(uploads: Uploads) -> None:
    """The result for one file is not returned for the other."""
    first, second = COLLIDING
    announced = FileInfo(length=len(first), expected=(digest_of(MD5, first),))
    assert uploads.create("me", announced, reads=True).append([first], 0).receipt
    again = uploads.create("me", announced, reads=True)
    assert again.state().offset == 0
    state = again.append([second], 0)
    assert state.receipt and state.receipt.digest == digest_of(SHA256, second)


def test_room_is_needed_only_for_new_uploads(store: Store) -> None:
    """On a full disk and at the limit of uploads, only those that exist can be created again."""
    uploads = Uploads(Staging(store), store, Limits(count=1))
    announced = FileInfo(length=SIZE, expected=digests(SHA256))
    upload = uploads.create("me", announced)
    with pytest.raises(TooManyUploads):
        uploads.create("me", FileInfo(length=SIZE))
    assert uploads.create("me", announced).identity == upload.identity
