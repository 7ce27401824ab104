"""An object store that fails below a running server: answers in time, and work again without a restart."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ceph
import pytest
from buckets import KIND, TIMEOUT, environ, held, serving
from exchanges import told
from faults import UNAVAILABLE, fresh, md5, ready, refused, stored, upload
from relay import Break, Relay, Way
from servers import DEPLOY, Server, gunicorn, refusal
from wire import Answer, Connection, message

SMALL, LARGE = 100_000, 20 << 20
# An upload in parts ends its parts too, which the engine may leave unanswered as well.
LIMITS = {SMALL: TIMEOUT + 1, LARGE: 2 * TIMEOUT + 2}


@pytest.fixture(name="relay")
def fixture_relay() -> Iterator[Relay]:
    """A way to the gateway that can be broken."""
    with Relay(ceph.cluster().port) as relay:
        yield relay


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Fail when it takes longer; told to who runs the test with -rP."""
    begin = time.monotonic()
    yield
    taken = time.monotonic() - begin
    print(f"{what}: {taken:.2f} s")
    assert taken <= seconds, what


def ask(server: Server, request: bytes) -> Answer:
    """Send a request on a connection of its own."""
    with Connection(server.port) as client:
        return client.ask(request)


def all_refused(server: Server, hash_: str, what: str) -> None:
    """Check that everything that needs the object store is answered 503 in time, and what does not is not."""
    for size, limit in LIMITS.items():
        with within(limit, f"{what}, upload of {size} bytes"):
            refused(server, ask(server, upload(fresh(7, size))), UNAVAILABLE)
    for method, target in (
        ("GET", f"/{hash_}"),
        ("HEAD", f"/{hash_}"),
        ("DELETE", f"/{hash_}"),
        ("GET", "/files"),
    ):
        with within(TIMEOUT + 1, f"{what}, {method} {target[:6]}"):
            answer = ask(server, message(method, target))
        if method == "HEAD":
            assert answer.status == 503
            server.expected.append(rf"ERROR.* id={answer.fields['x-request-id']}$")
        else:
            refused(server, answer, UNAVAILABLE)
    with within(TIMEOUT + 1, f"{what}, /readyz"), Connection(server.port) as client:
        ready(server, client, whether=False)
    assert not server.staged()


def works(server: Server, directory: Path, number: int) -> None:
    """Check that uploads, downloads, deletions and the listing work."""
    with Connection(server.port) as client:
        ready(server, client, whether=True)
        for size in LIMITS:
            hash_ = stored(client, fresh(number, size))
            assert hash_ in held(directory)
            assert client.ask(message("DELETE", f"/{hash_}")).status == 200
            assert hash_ not in held(directory)
        assert client.ask(message("GET", "/files")).status == 200
    assert not server.staged()


def test_no_gateway(tmp_path: Path) -> None:
    """While nobody listens at the object store's address the answer is 503."""
    cluster = ceph.cluster()
    with serving(tmp_path) as server:
        hash_ = told(ask(server, upload(fresh(1))))[0]
        cluster.stop_gateway()
        try:
            all_refused(server, hash_, "refused connections")
        finally:
            cluster.start_gateway()
        assert held(tmp_path) == {hash_}
        works(server, tmp_path, 2)


def test_a_gateway_that_hangs(tmp_path: Path) -> None:
    """While the object store takes connections and says nothing the answer is 503, in time."""
    cluster = ceph.cluster()
    with serving(tmp_path) as server:
        hash_ = told(ask(server, upload(fresh(1))))[0]
        with cluster.hung():
            all_refused(server, hash_, "hung")
        works(server, tmp_path, 2)


@pytest.mark.parametrize(
    ("kind", "size"), [(Break.CUT, SMALL), (Break.CUT, LARGE), (Break.STALL, LARGE)], ids=str
)
@pytest.mark.parametrize("way", Way)
def test_an_upload_broken_every_time(tmp_path: Path, relay: Relay, kind: Break, way: Way, size: int) -> None:
    """An upload whose way to the object store breaks is answered 503, and nothing of it is seen."""
    data = fresh(1, size)
    with serving(tmp_path, endpoint=relay.url) as server:
        works(server, tmp_path, 2)
        # Less than a part of a large one, so that none gets through.
        relay.break_after(kind, way, min(size // 2, 4 << 20) if way is Way.UP else 100)
        with within(LIMITS[size] + 1, f"{kind.value} {way.value}, {size} bytes"):
            refused(server, ask(server, upload(data)), UNAVAILABLE)
        assert relay.breaks
        relay.mend()
        # The engine may have had all of it, and only the answer was lost.
        assert held(tmp_path) <= {md5(data)}
        assert ask(server, upload(data)).status == 200
        assert held(tmp_path) == {md5(data)}
        works(server, tmp_path, 3)


@pytest.mark.parametrize(
    ("way", "size", "count"), [(Way.UP, SMALL, SMALL // 2), (Way.DOWN, 1000, 50)], ids=["sent", "answered"]
)
def test_an_upload_broken_once(tmp_path: Path, relay: Relay, way: Way, size: int, count: int) -> None:
    """An upload is sent again by itself, and is one that creates, also when only the answer was lost."""
    data = fresh(1, size)
    with serving(tmp_path, endpoint=relay.url) as server:
        hash_ = told(ask(server, upload(fresh(2))))[0]
        assert ask(server, message("GET", f"/{hash_}")).status == 200
        relay.break_after(Break.CUT, way, count, times=1)
        assert told(ask(server, upload(data))) == (md5(data), size, True)
        assert relay.breaks
        assert held(tmp_path) == {hash_, md5(data)}


@pytest.mark.parametrize("kind", Break)
def test_a_download_broken(tmp_path: Path, relay: Relay, kind: Break) -> None:
    """A download that breaks ends its connection before the announced length, in time."""
    data = fresh(1, LARGE)
    with serving(tmp_path, endpoint=relay.url) as server:
        hash_ = told(ask(server, upload(data)))[0]
        # obstore goes on where it broke, a few times.
        relay.break_after(kind, Way.DOWN, LARGE // 20)
        server.expected += [r"ERROR", r"Traceback", "obstore", "StoreUnavailable"]
        with Connection(server.port) as client:
            client.send(message("GET", f"/{hash_}"))
            head = client.receive_head()
            with within(2 * TIMEOUT + 2, f"{kind.value} in a download"):
                body = client.rest()
        assert head.status == 200
        assert int(head.fields["content-length"]) == LARGE
        assert len(body) < LARGE
        assert data.startswith(body)
        relay.mend()
        assert ask(server, message("GET", f"/{hash_}")).body == data
        works(server, tmp_path, 3)


def test_a_download_broken_once(tmp_path: Path, relay: Relay) -> None:
    """A download goes on where it broke."""
    data = fresh(1, LARGE)
    with serving(tmp_path, endpoint=relay.url) as server:
        hash_ = told(ask(server, upload(data)))[0]
        relay.break_after(Break.CUT, Way.DOWN, LARGE // 2, times=1)
        assert ask(server, message("GET", f"/{hash_}")).body == data
        assert relay.breaks


def test_keys_that_are_refused_at_start(tmp_path: Path) -> None:
    """With keys that nobody knows the start ends with one line that says so."""
    wrong = {"AWS_ACCESS_KEY_ID": "nobody"}
    with within(20, "wrong keys at start"):
        status, lines = refusal(SETTINGS, tmp_path, **environ(tmp_path), **wrong)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"wsgi-store: {KIND.url(tmp_path / 'store')} cannot be opened: ")
    assert "InvalidAccessKeyId" in lines[0]


def test_a_bucket_that_is_missing_at_start(tmp_path: Path) -> None:
    """Without its bucket the start ends with one line that says so."""
    status, lines = refusal(SETTINGS, tmp_path, **environ(tmp_path) | {"WSGI_STORE_ROOT": "s3://nowhere"})
    assert status == 1
    assert len(lines) == 1
    assert "NoSuchBucket" in lines[0]


def test_another_algorithm_at_start(tmp_path: Path) -> None:
    """A bucket of another algorithm ends the start as a directory does."""
    environment = environ(tmp_path)
    held(tmp_path)
    status, lines = refusal(SETTINGS, tmp_path, **environment, WSGI_STORE_HASH="sha256")
    assert status == 1
    assert len(lines) == 1
    assert "set WSGI_STORE_HASH=md5" in lines[0]


def test_a_start_without_a_gateway(tmp_path: Path) -> None:
    """A server starts while the object store is away, and works when it is back."""
    cluster = ceph.cluster()
    cluster.stop_gateway()
    try:
        with serving(tmp_path) as server:
            server.await_log("wsgi-store: starting all the same: ")
            refused(server, ask(server, upload(fresh(1))), UNAVAILABLE)
            cluster.start_gateway()
            works(server, tmp_path, 2)
    finally:
        cluster.start_gateway()


def test_keys_that_are_taken_away(tmp_path: Path) -> None:
    """A server whose keys are no longer good answers 503 until they are again."""
    cluster = ceph.cluster()
    with serving(tmp_path) as server:
        hash_ = told(ask(server, upload(fresh(1))))[0]
        with cluster.suspended():
            all_refused(server, hash_, "keys refused")
        works(server, tmp_path, 2)


def test_a_bucket_that_goes_away(tmp_path: Path) -> None:
    """A store whose marker is gone is no empty store: nothing is said to be missing from it."""
    # One worker: each makes the marker when it first looks, as a start on an empty directory does.
    with gunicorn(tmp_path, workers=1, **environ(tmp_path)) as server:
        told(ask(server, upload(fresh(1))))
        KIND.remove_marker(tmp_path / "store")
        refused(server, ask(server, message("GET", f"/{md5(fresh(2))}")), UNAVAILABLE)
        with Connection(server.port) as client:
            ready(server, client, whether=False)


SETTINGS = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
