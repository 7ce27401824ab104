"""A read-only store: the setting suffices, and nothing is written anywhere in the store."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from tests.support import ceph
from tests.support.access import ALL, KEY, line, soon
from tests.support.buckets import environ
from tests.support.calling import Untouched, call
from tests.support.commands import install, run
from tests.support.exchanges import DATA, HASH, SIZE, parts
from tests.support.faults import disk, remount
from tests.support.kinds import BucketKind, LocalKind, put
from tests.support.servers import DEPLOY, gunicorn, refusal, until, uwsgi
from tests.support.tracing import Trace
from tests.support.users import require_entry
from tests.support.wire import Connection, message
from wsgi_store.access.signing import Signer
from wsgi_store.assembly import create_app
from wsgi_store.choices import MetricsAccess, Redirect
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import ReadOnly, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Durability, Store
from wsgi_store.store.open import open_store
from wsgi_store.store.staged import StagedFile
from wsgi_store.upkeep.collect import collect
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.usage import manifest, usage
from wsgi_store.upkeep.verify import verify

SMALL = b"hello, replica"
KINDS = [LocalKind(nameless=True), BucketKind()]
WRITES = [
    ("POST", "/", {}),
    ("POST", "/", {"query": f"hash={HASH}"}),
    ("POST", "/", {"CONTENT_TYPE": "multipart/form-data; boundary=x"}),
    ("POST", "/", {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked"}),
    ("POST", "/", {"CONTENT_LENGTH": None}),
    ("DELETE", f"/{HASH}", {}),
    ("DELETE", "/", {"query": f"hash={HASH}"}),
    ("DELETE", f"/{HASH[::-1]}", {}),
]


def config(kind: LocalKind | BucketKind, root: Path, **settings: object) -> Config:
    """Settings for a read-only store."""
    if isinstance(kind, BucketKind):
        settings |= {"root": kind.url(root), "s3_staging": str(root.parent / "never-made")}
    return replace(Config(root=str(root), read_only=True), **settings)  # type: ignore[arg-type]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> LocalKind | BucketKind:
    """A directory, or a bucket."""
    assert isinstance(request.param, (LocalKind, BucketKind))
    return request.param


@pytest.fixture
def root(kind: LocalKind | BucketKind, tmp_path: Path) -> Path:
    """A store with two blobs, reduced to what a copy of it holds."""
    root = tmp_path / "store"
    staging = kind.staging(kind.open(root, Algorithm.SHA256))
    for data in (DATA, SMALL):
        put(staging, data)
    shutil.rmtree(root / ".staging")
    return root


def state(root: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a directory, with every property that a change would alter."""
    paths = [root, *root.rglob("*")]
    return {str(path): (path.stat().st_ino, path.stat().st_ctime_ns, path.stat().st_mode) for path in paths}


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Check that nothing below a directory or beside it is created or changed meanwhile."""
    before = state(root.parent)
    yield
    assert state(root.parent) == before


def test_reads_work_and_writes_are_refused(kind: LocalKind | BucketKind, root: Path) -> None:
    """Blobs, ranges and listings are sent; writes are refused with the body unread; nothing is created."""
    with unchanged(root):
        application = create_app(config(kind, root, metrics=MetricsAccess.ON))
        assert call(application, path="/readyz").status == 200
        index = call(application).json
        assert index["read_only"] is True
        assert call(application, path=f"/{HASH}").body == DATA
        assert call(application, "HEAD", f"/{HASH}/a.txt").headers["Content-Length"] == str(SIZE)
        assert call(application, path=f"/{HASH}", HTTP_RANGE="bytes=10-19").body == DATA[10:20]
        assert call(application, path=f"/{HASH}", HTTP_IF_NONE_MATCH=f'"{HASH}"').status == 304
        assert len(call(application, path="/files").json["files"]) == 2
        assert call(application, path=f"/{HASH[::-1]}").status == 404
        figures = call(application, path="/metrics").body.decode()
        assert "wsgi_store_quarantined_blobs 0" in figures
        assert "wsgi_store_free_bytes" not in figures
        for method, path, extra in WRITES:
            extra = {"CONTENT_LENGTH": "5", **extra}
            answer = call(application, method, path, body=Untouched(), **extra)
            assert (answer.status, answer.json["code"]) == (403, "read_only")
    assert call(create_app(replace(config(kind, root), read_only=False)), path="/").json["read_only"] is False


def test_tickets_and_tokens_are_refused_too(tmp_path: Path) -> None:
    """Writes are refused with any token or ticket, and nothing is recorded."""
    kind = LocalKind(nameless=True)
    root = tmp_path / "store"
    put(kind.staging(kind.open(root, Algorithm.SHA256)), DATA)
    tokens = tmp_path / "tokens"
    tokens.write_text(line("all", ALL))
    tokens.chmod(0o600)
    with unchanged(root):
        application = create_app(config(kind, root, tokens=str(tokens), signing_keys=(KEY,)))
        ticket = f"ticket={Signer([KEY]).ticket(soon())}"
        bearer = {"HTTP_AUTHORIZATION": "Bearer all"}
        for extra in ({"query": ticket}, bearer, {}, {"HTTP_AUTHORIZATION": "Bearer unknown"}):
            answer = call(application, "POST", body=Untouched(), CONTENT_LENGTH="1", **extra)
            assert (answer.status, answer.json["code"]) == (403, "read_only")
        assert call(application, path=f"/{HASH}").status == 401
        assert call(application, path=f"/{HASH}", **bearer).status == 200


def test_the_store_itself_refuses(kind: LocalKind | BucketKind, root: Path) -> None:
    """Calls that bypass the API change nothing either."""
    settings = config(kind, root)
    store: Store = open_store(
        settings.root, Algorithm.SHA256, Durability.FULL, settings.remote, read_only=True
    )
    digest = Digest(Algorithm.SHA256, bytes.fromhex(HASH))
    read, write = os.pipe()
    with unchanged(root), StagedFile(read) as staged:
        os.close(write)
        staged.digests[digest.algorithm] = digest
        for write_to in (
            lambda: Staging(store).receive([b"more"]),
            lambda: store.add(staged),
            lambda: store.remove(digest),
            lambda: store.expire(digest, 0.0),
            lambda: store.quarantine(digest),
            lambda: store.discard(digest),
            lambda: store.update_note(".note", lambda _: b""),
            lambda: list(collect(store)),
        ):
            with pytest.raises(ReadOnly, match="^this store is read-only$"):
                write_to()
        assert Staging(store).free() is None
        *_, report = verify(store)
        assert (report.result, report.checked_blobs) == (Result.CLEAN, 2)
        assert report.unnoted == "this store is read-only"
        assert not list(collect(store, older=0.0, dry_run=True)) or isinstance(kind, LocalKind)
        assert (usage(store).blobs, usage(store).staged, len(list(manifest(store)))) == (2, 0, 2)


def test_there_must_be_a_store(kind: LocalKind | BucketKind, tmp_path: Path) -> None:
    """A missing store is not created, and a store of another hash is reported."""
    settings = config(kind, tmp_path / "nothing")
    if isinstance(kind, BucketKind):
        ceph.ensure()
    store = None
    with pytest.raises(WrongStore, match="there is no store at .*nothing, and WSGI_STORE_READ_ONLY"):
        store = open_store(settings.root, remote=settings.remote, read_only=True, create=True)
        store.check()
    assert not os.listdir(tmp_path)
    root = tmp_path / "other"
    kind.open(root, Algorithm.SHA256)
    with pytest.raises(WrongStore, match="set WSGI_STORE_HASH=sha256"):
        store = open_store(
            config(kind, root).root, Algorithm.MD5, Durability.FULL, settings.remote, read_only=True
        )
        store.check()


@pytest.mark.parametrize("content", [None, b"garbled", b'{"algorithm": "md5", "layout": "ab/abcdef"}'])
def test_readiness_looks_at_the_marker(tmp_path: Path, content: bytes | None) -> None:
    """A store that disappears or is replaced by another is not ready until it is back."""
    kind = LocalKind(nameless=True)
    root = tmp_path / "store"
    kind.open(root, Algorithm.SHA256)
    application = create_app(config(kind, root, hash=Algorithm.SHA256))
    marker = root / "store.json"
    before = marker.read_bytes()
    marker.unlink()
    if content is not None:
        marker.write_bytes(content)
    answer = call(application, path="/readyz")
    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    marker.write_bytes(before)
    # The result of a check is reused for a second.
    until(lambda: call(application, path="/readyz").status == 200, "the store to be ready again")


@pytest.mark.parametrize(
    "command", [["gunicorn", "-c", "python:wsgi_store.gunicorn.conf", "--bind=127.0.0.1:0"], ["pyuwsgi"]]
)
def test_the_start_is_refused_without_a_store(tmp_path: Path, command: list[str]) -> None:
    """Without a store the server exits with one line and creates nothing."""
    if command == ["pyuwsgi"]:
        command = ["pyuwsgi", "--ini", str(DEPLOY / "uwsgi.ini")]
    root = tmp_path / "nothing"
    status, lines = refusal(command, root, WSGI_STORE_READ_ONLY="yes", BIND="127.0.0.1:0")
    assert status != 0
    said = [text for text in lines if text.startswith("wsgi-store: ")]
    assert said == [
        f"wsgi-store: there is no store at {root}, and WSGI_STORE_READ_ONLY prevents creating one"
    ]
    assert not [text for text in lines if "Traceback" in text]
    assert not root.exists()


def requests(port: int) -> None:
    """Read as clients do, and attempt writes."""
    with Connection(port) as client:
        assert client.ask(message("GET", "/readyz")).status == 200
        assert client.ask(message("GET", "/metrics")).status == 200
        assert client.ask(message("GET", f"/{HASH}")).body == DATA
        client.send(message("HEAD", f"/{HASH}"))
        assert client.receive(head=True).fields["content-length"] == str(SIZE)
        answer = client.ask(message("GET", f"/{HASH}", Range="bytes=0-0,100000-1299999,-5"))
        assert [data for _, _, data in parts(answer)] == [DATA[:1], DATA[100_000:1_300_000], DATA[-5:]]
        assert len(json.loads(client.ask(message("GET", "/files")).body)["files"]) == 1
        for request in (message("POST", "/", b"x"), message("DELETE", f"/{HASH}")):
            answer = client.ask(request)
            assert (answer.status, json.loads(answer.body)["code"]) == (403, "read_only")


def stored(root: Path) -> None:
    """Make a store with a blob, as rsync copies one."""
    kind = LocalKind(nameless=True)
    put(kind.staging(kind.open(root, Algorithm.SHA256)), DATA)
    shutil.rmtree(root / ".staging")


def test_on_a_read_only_mount(tmp_path: Path) -> None:
    """With the setting the shipped servers serve a read-only mount without attempting to write."""
    root = tmp_path / "store"
    trace = Trace(tmp_path / "trace", root)
    with disk("ext4", root, 32 << 20):
        stored(root)
        remount(root, "ro")
        settings = {"WSGI_STORE_READ_ONLY": "yes", "WSGI_STORE_METRICS": "on"}
        with gunicorn(tmp_path, before=trace.command("-D"), workers=1, **settings) as server:
            requests(server.port)
        trace.until_ended()
        assert trace.texts()
        for text in trace.texts():
            assert not [event for event, _ in trace.events(text) if event != "answer"]
            assert "EROFS" not in text
        with uwsgi(tmp_path, **settings) as server:
            requests(server.port)
        with gunicorn(tmp_path, workers=1) as server, Connection(server.port) as client:
            answer = client.ask(message("GET", "/readyz"))
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "store_unavailable")
            server.expected.append(" ERROR .*Read-only file system")
            assert client.ask(message("GET", f"/{HASH}")).body == DATA


@pytest.mark.uncounted  # the user nobody could not write coverage data
def test_in_a_directory_of_another_user(tmp_path: Path) -> None:
    """A user with read access can serve a directory that is not writable."""
    root = tmp_path / "store"
    stored(root)
    for path in (root, *root.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    others: tuple[str, ...] = ()
    if os.geteuid() == 0:
        require_entry()
        for path in tmp_path, *tmp_path.parents[:-2]:
            path.chmod(path.stat().st_mode | 0o055)
        others = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    before = state(root)
    settings = {"WSGI_STORE_READ_ONLY": "yes", "WSGI_STORE_METRICS": "on"}
    with gunicorn(tmp_path, before=others, workers=1, **settings) as server:
        requests(server.port)
    assert state(root) == before


def test_a_bucket_with_keys_that_may_only_read(tmp_path: Path) -> None:
    """Keys that may get and list suffice, and no local directory is created."""
    kind = BucketKind()
    root = tmp_path / "store"
    put(kind.staging(kind.open(root, Algorithm.SHA256)), DATA)
    keys = ceph.cluster().read_only_keys()
    env = {**environ(root), **keys, "WSGI_STORE_READ_ONLY": "yes", "WSGI_STORE_METRICS": "on"}
    env["WSGI_STORE_S3_STAGING"] = str(tmp_path / "never-made")
    env["WSGI_STORE_ROOT"] = kind.url(root)
    with gunicorn(tmp_path, workers=1, **env) as server:
        requests(server.port)
    assert not Path(env["WSGI_STORE_S3_STAGING"]).exists()
    with mock.patch.dict(os.environ, keys):
        settings = config(kind, root)
        assert call(create_app(settings), path=f"/{HASH}").body == DATA
        redirected = create_app(replace(settings, redirect=Redirect.ALWAYS))
        assert call(redirected, path=f"/{HASH}").status == 307


def test_upkeep(tmp_path: Path) -> None:
    """`verify` reports what it cannot do; `collect` is refused in one line unless it is a dry run."""
    root = tmp_path / "store"
    stored(root)
    bad = root / "00" / ("00" * 32)
    bad.parent.mkdir()
    bad.write_bytes(b"damaged")
    program = install(tmp_path / "bin")
    env = {"WSGI_STORE_ROOT": str(root), "WSGI_STORE_READ_ONLY": "yes"}
    with unchanged(root):
        done = run(program, "verify", **env)
        assert done.returncode == 5
        found, said = done.stdout.decode().splitlines()
        assert found == f"corrupt\t{bad.name}\tnot moved to quarantine: this store is read-only"
        assert said.endswith(", the next run cannot continue from here: this store is read-only")
        done = run(program, "collect", "--older", "1s", **env)
        assert (done.returncode, done.stderr.decode()) == (4, "wsgi-store: this store is read-only\n")
        for command in (("collect", "--dry-run"), ("du",), ("manifest",)):
            assert run(program, *command, **env).returncode == 0


def test_upkeep_of_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    """Without the setting an unwritable disk is still read, and skipped actions are reported."""
    root = tmp_path / "store"
    program = install(tmp_path / "bin")
    with disk("ext4", root, 32 << 20):
        stored(root)
        remount(root, "ro")
        done = run(program, "verify", "--json", WSGI_STORE_ROOT=str(root))
        report = json.loads(done.stdout)
        assert (done.returncode, report["result"], report["checked_blobs"]) == (0, "clean", 1)
        assert report["unnoted"].startswith("cannot write the note: ")
        for command in (("collect", "--dry-run"), ("collect",), ("du",), ("manifest",)):
            done = run(program, *command, WSGI_STORE_ROOT=str(root))
            assert (done.returncode, done.stderr) == (0, b"")
