"""An engine that cannot hold a store is detected before anything is written, and nothing is damaged."""

import itertools
import os
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import obstore
import pytest

from tests.support.buckets import environ, s3, serving
from tests.support.engines import Answer, Between, Request
from tests.support.exchanges import told
from tests.support.faults import UNAVAILABLE, refused, upload
from tests.support.kinds import BucketKind, content, digest_of, put
from tests.support.servers import DEPLOY, refusal, until
from tests.support.wire import Connection, message
from wsgi_store.digest import Algorithm
from wsgi_store.errors import StoreUnavailable, WrongStore
from wsgi_store.staging import Staging
from wsgi_store.store import marker
from wsgi_store.store.bucket import engine
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.contract import Blob, Durability, Remote, Store
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.report import Result
from wsgi_store.upkeep.verify import verify

KIND = BucketKind()
GUNICORN = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code></Error>"
DATA = b"some bytes"
DIGEST = digest_of(Algorithm.SHA256, DATA)


def opened(proxy: Between, directory: Path, timeout: float = 5.0) -> Store:
    """The store of a directory, opened through the proxy."""
    remote = Remote(str(directory), endpoint=proxy.url, timeout=timeout)
    return open_store(KIND.url(directory), Algorithm.SHA256, Durability.NONE, remote)


def keys(directory: Path) -> set[str]:
    """The keys in the bucket below a directory."""
    client = Bucket(KIND.url(directory), Remote(str(directory))).client
    return {meta["path"] for page in obstore.list(client) for meta in page}


def held(directory: Path) -> Blob:
    """Add a blob to the store directly, bypassing the proxy."""
    store = KIND.open(directory, Algorithm.SHA256)
    put(Staging(store), DATA)
    return store.stat(DIGEST)


def _without_conditions(request: Request) -> Answer:
    """Behave as an engine that ignores conditions; the bytes themselves need not be kept for that."""
    return (200, b"") if {"if-match", "if-none-match"} & {*request.fields} else None


def _refusing(field: str) -> engine.Callable[[Request], Answer]:
    return lambda request: (501, NOT_IMPLEMENTED) if field in request.fields else None


def _on(method: str, *, status: int = 403, part: str = "") -> engine.Callable[[Request], Answer]:
    code = {403: b"AccessDenied", 405: b"MethodNotAllowed"}[status]

    def answer(request: Request) -> Answer:
        fits = request.method == method and part in request.path + " ".join(request.fields)
        return (status, b"<Error><Code>%s</Code></Error>" % code) if fits else None

    return answer


def _whole_for_a_range(request: Request) -> Answer:
    return (200, engine.FIRST) if "range" in request.fields and request.to("/.probes/") else None


def _nothing_listed(request: Request) -> Answer:
    nothing = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
    return (200, nothing) if "list-type=2" in request.path and "probes" in unquote(request.path) else None


def _nothing_deleted(request: Request) -> Answer:
    return (204, b"") if request.method == "DELETE" else None


def _written_though_refused(request: Request) -> Answer:
    if "if-match" not in request.fields:
        return None
    bucket, _, key = unquote(request.path)[1:].partition("/")
    s3().put_object(Bucket=bucket, Key=key, Body=engine.SECOND)
    return (412, b"<Error><Code>PreconditionFailed</Code></Error>")


# Behaviours of engines, and the faults reported for them.
UNFIT = {
    "conditions ignored": (_without_conditions, ["If-None-Match on PUT", "If-Match on PUT"]),
    "condition checked too late": (_written_though_refused, ["If-Match on PUT"]),
    "if-match unknown": (_refusing("if-match"), ["If-Match on PUT (NotImplemented)"]),
    "if-none-match unknown": (_refusing("if-none-match"), ["If-None-Match on PUT (NotImplemented)"]),
    "ranges ignored": (_whole_for_a_range, ["Range on GET"]),
    "nothing listed": (_nothing_listed, ["listings"]),
    "listing refused": (_on("GET", part="probes%2F"), ["listings (AccessDenied)"]),
    "no copies": (_on("PUT", status=405, part="x-amz-copy-source"), ["copies (MethodNotAllowed)"]),
    "no parts": (_on("POST", part="uploads"), ["uploads in parts (AccessDenied)"]),
    "nothing deleted": (_nothing_deleted, ["DELETE"]),
    "deleting refused": (_on("DELETE"), ["DELETE (AccessDenied)"]),
}


@pytest.mark.parametrize(("answer", "faults"), UNFIT.values(), ids=UNFIT)
def test_an_engine_that_cannot_hold_a_store(
    tmp_path: Path, proxy: Between, answer: engine.Callable[[Request], Answer], faults: list[str]
) -> None:
    """The error lists every fault of the engine; no marker is made and no write is accepted."""
    proxy.answer = answer
    store = opened(proxy, tmp_path)
    with pytest.raises(WrongStore) as caught:
        store.check()
    assert str(caught.value).isprintable()
    assert f"ignores or refuses {', '.join(faults)} (" in str(caught.value)
    with Staging(store).create() as staged:
        staged.digests[DIGEST.algorithm] = DIGEST
        for write in (lambda: store.add(staged), lambda: store.begin(staged, 1, ())):
            with pytest.raises(StoreUnavailable):
                write()
    left = {key for key in keys(tmp_path) if not key.startswith(f"{engine.PROBES}/")}
    assert not left
    if "DELETE" not in " ".join(faults):
        assert not keys(tmp_path)


def test_a_store_on_such_an_engine(tmp_path: Path, proxy: Between) -> None:
    """In a store copied to such an engine reading works, writing fails, and the marker stays unchanged."""
    held(tmp_path)
    before = keys(tmp_path)
    proxy.answer = _without_conditions
    store = opened(proxy, tmp_path)
    assert content(store, DIGEST) == DATA
    assert [blob.digest for blob in store.iterate()] == [DIGEST]
    assert store.load_note("none") is None
    assert not proxy.count("/.probes/")
    writes = [
        lambda: store.remove(DIGEST),
        lambda: store.expire(DIGEST, 0.0),
        lambda: store.quarantine(DIGEST),
        lambda: store.discard(DIGEST),
        lambda: store.update_note("note", lambda _: b""),
        lambda: put(Staging(store), b"other bytes"),
    ]
    for write in writes:
        with pytest.raises(StoreUnavailable) as caught:
            write()
        assert "If-None-Match" in str(caught.value.__cause__)
    untouched = iter([b"bytes"])
    for length in (5, None):
        with pytest.raises(StoreUnavailable):
            Staging(store).receive(untouched, length=length)
    assert list(untouched) == [b"bytes"]
    *_, report = verify(store)
    assert report.result is Result.CLEAN
    with pytest.raises(WrongStore):
        store.check()
    assert not [one for one in proxy.seen if one.method != "GET" and one.path.endswith(marker.NAME)]
    assert keys(tmp_path) == before
    assert content(KIND.open(tmp_path, Algorithm.SHA256), DIGEST) == DATA


def test_a_start_on_such_an_engine(tmp_path: Path, proxy: Between) -> None:
    """gunicorn refuses to start, gives the reason in one line and leaves nothing behind."""
    proxy.answer = _without_conditions
    status, lines = refusal(GUNICORN, tmp_path, **environ(tmp_path, proxy.url))
    assert status == 1
    assert len(lines) == 1
    assert re.fullmatch(
        r"wsgi-store: s3://\S+ cannot be written to: .* If-None-Match on PUT, If-Match on PUT .*", lines[0]
    )
    assert not keys(tmp_path / "store")


def test_keys_that_may_only_read(tmp_path: Path, proxy: Between) -> None:
    """Read-only keys or a used-up quota do not condemn the engine, and reading works."""
    held(tmp_path)
    proxy.answer = _on("PUT")
    store = opened(proxy, tmp_path)
    for write in (store.check, lambda: put(Staging(store), DATA)):
        with pytest.raises(StoreUnavailable) as caught:
            write()
        assert "AccessDenied" in str(caught.value.__cause__)
    assert content(store, DIGEST) == DATA
    proxy.answer = lambda _: None
    store.check()


def test_it_is_tried_once_in_a_process(tmp_path: Path, proxy: Between) -> None:
    """Of many concurrent writes one tries the engine; reading does not; the probes are removed."""
    held(tmp_path)
    store = opened(proxy, tmp_path)
    with closing(store.open(DIGEST)) as reader:
        assert reader.read() == DATA
    assert not proxy.count("/.probes/")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: put(Staging(store), b"%d" % number), range(8)))
    tried = proxy.count("/.probes/")
    print(tried, "requests")
    assert 0 < tried <= 32
    put(Staging(store), b"more")
    store.remove(DIGEST)
    # pylint: disable-next=unreachable  # taken for a read-only store
    assert proxy.count("/.probes/") == tried
    assert not [key for key in keys(tmp_path) if key.startswith(engine.PROBES)]


def test_a_check_writes_nothing(tmp_path: Path, proxy: Between) -> None:
    """Checking a store whose engine was tried takes two requests and does not write the marker."""
    held(tmp_path)
    store = opened(proxy, tmp_path)
    store.check()
    before = keys(tmp_path)
    proxy.seen.clear()
    store.check()
    assert [(one.method, one.to("/.probes/")) for one in proxy.seen] == [("PUT", True), ("GET", False)]
    assert keys(tmp_path) == before


def test_an_engine_that_is_exchanged(tmp_path: Path, proxy: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check notices that another engine answers, and that the right one is back."""
    held(tmp_path)
    store = opened(proxy, tmp_path)
    store.check()
    proxy.answer = _without_conditions
    with pytest.raises(WrongStore):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.remove(DIGEST)
    proxy.answer = lambda _: None
    tried = proxy.count("/.probes/")
    with pytest.raises(StoreUnavailable):
        store.remove(DIGEST)
    assert proxy.count("/.probes/") == tried
    monkeypatch.setattr(engine, "RETRY_INTERVAL", 0.0)
    store.check()
    store.remove(DIGEST)


def test_a_trial_that_breaks(tmp_path: Path, proxy: Between) -> None:
    """An interrupted trial says nothing about the engine, so the next write tries it again."""
    held(tmp_path)
    store = opened(proxy, tmp_path)
    for part in ("copy-source", "uploads", "range"):
        proxy.answer = lambda one, part=part: (
            (500, b"") if part in one.path + " ".join(one.fields) else None  # type: ignore[misc]
        )
        with pytest.raises(StoreUnavailable, match="cannot test the object store"):
            put(Staging(store), b"new bytes")
    proxy.answer = lambda _: None
    assert put(Staging(store), b"new bytes").created
    assert not [key for key in keys(tmp_path) if key.startswith(engine.PROBES)]


def test_a_trial_with_one_failure(tmp_path: Path, proxy: Between) -> None:
    """Whichever request of a trial fails once, the first upload of a process succeeds."""
    held(tmp_path)
    failing, numbers = 0, itertools.count()

    def fail_one(request: Request) -> Answer:
        fails = request.to("/.probes/") and next(numbers) == failing
        return (500, b"") if fails else None

    for failing in range(100):
        numbers = itertools.count()
        proxy.answer = fail_one
        assert put(Staging(opened(proxy, tmp_path)), b"%d" % failing).created
        if next(numbers) <= failing:
            break
    assert 10 < failing < 99
    assert not [key for key in keys(tmp_path) if key.startswith(engine.PROBES)]


def test_a_trial_that_is_interrupted(tmp_path: Path, proxy: Between) -> None:
    """When a signal ends a trial, who waits for it gets an error, and the next write tries the engine."""
    held(tmp_path)
    store = opened(proxy, tmp_path)
    store.stat(DIGEST)
    told: list[str] = []

    class Told(BaseException):
        """The process is told to end, as by a supervisor whose patience has run out."""

    def end(*_: object) -> None:
        raise Told

    def remove() -> None:
        with pytest.raises(StoreUnavailable, match="the test of the object store was interrupted"):
            store.remove(DIGEST)
        told.append("interrupted")

    other = threading.Thread(target=remove)

    def interrupt(request: Request) -> None:
        if request.to("/.probes/") and other.ident is None:
            other.start()
            until(lambda: "result" in _calls(other), "the other one to wait")
            os.kill(os.getpid(), signal.SIGUSR1)

    proxy.answer = interrupt
    before = signal.signal(signal.SIGUSR1, end)
    try:
        with pytest.raises(Told):
            put(Staging(store), b"new bytes")
    finally:
        signal.signal(signal.SIGUSR1, before)
        other.join(20)
    assert told == ["interrupted"]
    assert put(Staging(store), b"new bytes").created


def _calls(thread: threading.Thread) -> list[str]:
    """The names of the functions that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)  # pylint: disable=protected-access
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def test_an_engine_that_comes_back_as_another(tmp_path: Path, proxy: Between) -> None:
    """A server that started while the engine was away tries the engine before it accepts a write."""
    directory = tmp_path / "store"
    held(directory)
    marked = keys(directory)
    proxy.answer = lambda _: (503, b"")
    env = {"WSGI_STORE_HASH": "sha256"}
    with serving(tmp_path, endpoint=proxy.url, **env) as server:
        server.await_log("wsgi-store: starting anyway: ")
        proxy.answer = _without_conditions
        with Connection(server.port) as client:
            refused(server, client.ask(upload(b"new")), UNAVAILABLE, cause="If-None-Match")
            assert client.ask(message("GET", f"/{DIGEST.hex}")).body == DATA
            refused(server, client.ask(message("GET", "/readyz")), UNAVAILABLE, cause="If-None-Match")
        assert keys(directory) == marked
        proxy.answer = lambda _: None
    with serving(tmp_path, endpoint=proxy.url, **env) as server, Connection(server.port) as client:
        assert told(client.ask(upload(b"new")))[2]
