"""A running server whose object store fails answers in time, and recovers without a restart."""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ceph
from tests.support.buckets import KIND, TIMEOUT, environ, held, serving, store_behind
from tests.support.calling import call
from tests.support.exchanges import told
from tests.support.faults import UNAVAILABLE, fresh, hash_of, ready, refused, stored, upload
from tests.support.kinds import put
from tests.support.relay import Break, Relay, Way
from tests.support.servers import DEPLOY, Server, gunicorn, refusal, until, uwsgi, waitress
from tests.support.wire import Answer, Connection, message
from wsgi_store.assembly import create_app
from wsgi_store.config import Config
from wsgi_store.digest import Algorithm
from wsgi_store.staging import Staging

pytestmark = pytest.mark.long(130)
SMALL, LARGE = 100_000, 20 << 20
# Too short for two timeouts, and long enough for this machine, on which other tests run meanwhile.
IN_TIME = 1.9 * TIMEOUT
# An upload in parts also aborts its parts at the end, which the engine may leave unanswered as well.
LIMITS = {SMALL: IN_TIME, LARGE: 2 * TIMEOUT + 2}
NUMBERS = itertools.count()


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that goes through one fault after another."""
    with serving(tmp_path_factory.mktemp("direct")) as server:
        yield server


@pytest.fixture(name="relay", scope="module")
def fixture_relay() -> Iterator[Relay]:
    """A connection to the gateway that can be broken."""
    with Relay(ceph.cluster().port) as relay:
        yield relay


@pytest.fixture(name="relayed", scope="module")
def fixture_relayed(tmp_path_factory: pytest.TempPathFactory, relay: Relay) -> Iterator[Server]:
    """A server that reaches the gateway through the relay."""
    with serving(tmp_path_factory.mktemp("relayed"), endpoint=relay.url) as server:

        def asked() -> bool:
            assert ask(server, message("GET", "/files")).status == 200
            return all(f"[{pid}] GET /files" in server.text() for pid in server.workers)

        # A worker whose first request fails remembers for a second that it cannot read the store's marker.
        until(asked, "each worker to know the store")
        yield server


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Fail when the block takes longer than allowed; pytest -rP shows the time."""
    begin = time.monotonic()
    yield
    taken = time.monotonic() - begin
    print(f"{what}: {taken:.2f} s")
    assert taken <= seconds, what


def new(size: int = SMALL) -> bytes:
    """Bytes that were not uploaded before."""
    return fresh(next(NUMBERS), size)


def blobs(server: Server) -> set[str]:
    """The hashes in the store of a server, read directly from the bucket."""
    return held(server.root.parent)


def ask(server: Server, request: bytes) -> Answer:
    """Send a request on a new connection."""
    with Connection(server.port) as client:
        return client.ask(request)


def all_refused(server: Server, hash_: str, what: str, cause: str = "") -> None:
    """Check that requests that need the object store get 503 in time, and that others succeed.

    All of it is asked at once: one request that waits delays no other.
    """

    def send(size: int) -> None:
        with within(LIMITS[size], f"{what}, upload of {size} bytes"):
            answer = ask(server, upload(new(size)))
        refused(server, answer, UNAVAILABLE, cause)

    def request(method: str, target: str) -> None:
        with within(IN_TIME, f"{what}, {method} {target[:6]}"), Connection(server.port) as client:
            client.send(message(method, target))
            answer = client.receive(head=method == "HEAD")
        if method == "HEAD":
            assert answer.status == 503
            line = rf"ERROR.*{cause}.* id={answer.fields['x-request-id']}$"
            server.expected.append(line)
            server.await_log(line)
        else:
            refused(server, answer, UNAVAILABLE, cause)

    def look() -> None:
        with within(IN_TIME, f"{what}, /readyz"), Connection(server.port) as client:
            ready(server, client, whether=False)

    blob = f"/{hash_}"
    requests = [("GET", blob), ("HEAD", blob), ("DELETE", blob), ("GET", "/files")]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(send, size) for size in LIMITS]
        asked += [pool.submit(request, method, target) for method, target in requests]
        asked.append(pool.submit(look))
    for one in asked:
        one.result()
    assert not server.staged()


def works(server: Server) -> None:
    """Check that uploads, downloads, deletions and the listing work."""
    with Connection(server.port) as client:
        ready(server, client, whether=True)
        hashes = {stored(client, new(size)) for size in LIMITS}
        assert hashes <= blobs(server)
        for hash_ in hashes:
            assert client.ask(message("DELETE", f"/{hash_}")).status == 200
        assert not hashes & blobs(server)
        assert client.ask(message("GET", "/files")).status == 200
    assert not server.staged()


def suffers(server: Server, what: str, begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Check the answers while a fault lasts and after it ends."""
    hash_ = told(ask(server, upload(new())))[0]
    try:
        begin()
        all_refused(server, hash_, what)
    finally:
        end()
    assert hash_ in blobs(server)
    works(server)


# First, because changing a user waits half a minute for gateways that were killed before.
@pytest.mark.races
def test_keys_that_are_taken_away(server: Server) -> None:
    """A server whose keys are suspended answers 503 until they are valid again."""
    suspended = ceph.cluster().suspended()
    suffers(server, "keys refused", suspended.__enter__, lambda: suspended.__exit__(None, None, None))


def test_no_gateway(server: Server) -> None:
    """While nobody listens at the object store's address, the server answers 503."""
    cluster = ceph.cluster()
    suffers(server, "refused connections", cluster.stop_gateway, cluster.start_gateway)


def test_a_gateway_that_hangs(server: Server) -> None:
    """While the object store accepts connections but never answers, the server answers 503 in time."""
    hung = ceph.cluster().hung()
    suffers(server, "hung", hung.__enter__, lambda: hung.__exit__(None, None, None))


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_gateway_that_hangs_for_a_new_process(tmp_path: Path, method: str) -> None:
    """A process that has never reached the object store answers 503 in time, too."""
    config = Config(root=KIND.url(tmp_path / "store"), s3_staging=str(tmp_path / "store"), s3_timeout=TIMEOUT)
    with ceph.cluster().hung():
        application = create_app(config)
        with within(IN_TIME, method):
            assert call(application, method, "/" + 64 * "0").status == 503


@pytest.mark.races
def test_a_clock_that_is_wrong(server: Server, tmp_path: Path) -> None:
    """While the clocks differ too much, the server answers 503 and logs the reason."""
    hash_ = told(ask(server, upload(new())))[0]
    with ceph.cluster().clock() as set_clock:
        for wrong in ("+1h", "-1h"):
            set_clock(wrong)
            all_refused(server, hash_, f"clock {wrong}", cause="RequestTimeTooSkewed")
            set_clock("+0")
            works(server)
        set_clock("+1h")
        with serving(tmp_path) as another:
            another.await_log("wsgi-store: starting anyway: .*RequestTimeTooSkewed")
            set_clock("+0")
            works(another)


@pytest.mark.races
@pytest.mark.parametrize(
    ("kind", "size"), [(Break.CUT, SMALL), (Break.CUT, LARGE), (Break.STALL, LARGE)], ids=str
)
@pytest.mark.parametrize("way", Way)
def test_an_upload_broken_every_time(relayed: Server, relay: Relay, kind: Break, way: Way, size: int) -> None:
    """An upload whose connection to the object store keeps breaking gets 503 and stores nothing."""
    data = new(size)
    before = blobs(relayed)
    # Smaller than a part of a large upload, so that no part gets through.
    relay.break_after(kind, way, min(size // 2, 4 << 20) if way is Way.UP else 100)
    with within(LIMITS[size] + 1, f"{kind.value} {way.value}, {size} bytes"):
        refused(relayed, ask(relayed, upload(data)), UNAVAILABLE)
    assert relay.breaks
    relay.mend()
    # The engine may have received everything, and only its answer was lost.
    assert blobs(relayed) - before <= {hash_of(data)}
    assert ask(relayed, upload(data)).status == 200
    assert blobs(relayed) - before == {hash_of(data)}
    assert not relayed.staged()


@pytest.mark.parametrize(
    ("way", "size", "count"), [(Way.UP, SMALL, SMALL // 2), (Way.DOWN, 1000, 50)], ids=["sent", "answered"]
)
def test_an_upload_broken_once(relayed: Server, relay: Relay, way: Way, size: int, count: int) -> None:
    """An interrupted upload is retried and reported as created, even when only the answer was lost."""
    data = new(size)
    hash_ = told(ask(relayed, upload(new())))[0]
    assert ask(relayed, message("GET", f"/{hash_}")).status == 200
    relay.break_after(Break.CUT, way, count, times=1)
    assert told(ask(relayed, upload(data))) == (hash_of(data), size, True)
    assert relay.breaks
    assert {hash_, hash_of(data)} <= blobs(relayed)


@pytest.mark.parametrize("known", [False, True], ids=["", "marker read"])
@pytest.mark.parametrize("count", [50, 300])
@pytest.mark.parametrize("way", Way)
def test_a_first_upload_broken_once(tmp_path: Path, relay: Relay, way: Way, count: int, known: bool) -> None:
    """A process that has not read the marker or tested the engine repeats that when a connection breaks."""
    opened = store_behind(relay, tmp_path, TIMEOUT)
    if known:
        assert opened.refresh() == (Algorithm.SHA256,)
    relay.break_after(Break.CUT, way, count, times=1)
    assert put(Staging(opened), new()).created
    assert relay.breaks


@pytest.mark.races
@pytest.mark.parametrize(
    "field", [None, "bytes=10-", "bytes=0-9,20-15000000"], ids=["whole", "range", "ranges"]
)
@pytest.mark.parametrize("kind", Break)
def test_a_download_broken(relayed: Server, relay: Relay, kind: Break, field: str | None) -> None:
    """A broken download closes its connection before the announced length, in time, and logs one line."""
    data = new(LARGE)
    hash_ = told(ask(relayed, upload(data)))[0]
    # obstore resumes a broken download a few times.
    relay.break_after(kind, Way.DOWN, LARGE // 20)
    line = rf" ERROR .*GET /{hash_}: a response broke off: cannot read the blob \(.*\) id="
    relayed.expected.append(line)
    with Connection(relayed.port) as client:
        client.send(message("GET", f"/{hash_}", **({"Range": field} if field else {})))
        head = client.receive_head()
        with within(2 * TIMEOUT + 2, f"{kind.value} in a download"):
            body = client.rest()
    assert head.status == (206 if field else 200)
    assert len(body) < int(head.fields["content-length"])
    assert field or data.startswith(body)
    assert len(relayed.await_log(line)) == 1
    assert not relayed.logged("Traceback")
    relay.mend()
    assert ask(relayed, message("GET", f"/{hash_}")).body == data
    works(relayed)


def test_a_download_that_cannot_be_begun(relayed: Server, relay: Relay) -> None:
    """A download that fails before its first byte gets 503."""
    hash_ = told(ask(relayed, upload(new(LARGE))))[0]
    relay.break_after(Break.CUT, Way.DOWN, 1000)
    refused(relayed, ask(relayed, message("GET", f"/{hash_}")), UNAVAILABLE)
    relay.mend()
    assert ask(relayed, message("GET", f"/{hash_}")).status == 200


@pytest.mark.parametrize("start", [waitress, uwsgi])
def test_downloads_under_other_servers(tmp_path: Path, relay: Relay, start: Callable[..., Server]) -> None:
    """Large blobs are sent whole and in ranges; a broken one is logged in one line without traceback."""
    data = new(LARGE)
    with start(tmp_path, **environ(tmp_path, relay.url)) as server:
        hash_ = told(ask(server, upload(data)))[0]
        assert ask(server, message("GET", f"/{hash_}")).body == data
        part = ask(server, message("GET", f"/{hash_}", Range="bytes=1000-9000000"))
        assert (part.status, part.body) == (206, data[1000:9000001])
        relay.break_after(Break.CUT, Way.DOWN, LARGE // 20)
        line = r" ERROR .*a response broke off: cannot read the blob \(.*\) id="
        server.expected += [line, "Traceback", f"ERROR:waitress:Exception while serving /{hash_}"]
        with Connection(server.port) as client:
            client.send(message("GET", f"/{hash_}"))
            head = client.receive_head()
            assert len(client.rest()) < int(head.fields["content-length"])
        assert len(server.await_log(line)) == 1
        relay.mend()
        assert not server.logged("Failure|The above exception|During handling")
        assert ask(server, message("GET", f"/{hash_}")).body == data


def test_a_download_broken_once(relayed: Server, relay: Relay) -> None:
    """A download resumes where it broke."""
    data = new(LARGE)
    hash_ = told(ask(relayed, upload(data)))[0]
    relay.break_after(Break.CUT, Way.DOWN, LARGE // 2, times=1)
    assert ask(relayed, message("GET", f"/{hash_}")).body == data
    assert relay.breaks


def test_keys_that_are_refused_at_start(tmp_path: Path) -> None:
    """With unknown keys the server exits and says so in one line."""
    wrong = {"AWS_ACCESS_KEY_ID": "nobody"}
    with within(20, "wrong keys at start"):
        status, lines = refusal(SETTINGS, tmp_path, **environ(tmp_path), **wrong)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"wsgi-store: {KIND.url(tmp_path / 'store')} cannot be opened: ")
    assert "InvalidAccessKeyId" in lines[0]


def test_a_bucket_that_is_missing_at_start(tmp_path: Path) -> None:
    """Without its bucket the server exits and says so in one line."""
    status, lines = refusal(SETTINGS, tmp_path, **environ(tmp_path) | {"WSGI_STORE_ROOT": "s3://nowhere"})
    assert status == 1
    assert len(lines) == 1
    assert "NoSuchBucket" in lines[0]


def test_another_algorithm_at_start(tmp_path: Path) -> None:
    """On a bucket of another algorithm the server exits, as on such a directory."""
    environment = environ(tmp_path)
    held(tmp_path)
    status, lines = refusal(SETTINGS, tmp_path, **environment, WSGI_STORE_HASH="md5")
    assert status == 1
    assert len(lines) == 1
    assert "set WSGI_STORE_HASH=sha256" in lines[0]


def test_a_start_without_a_gateway(tmp_path: Path) -> None:
    """A server starts while the object store is away, and works when it is back."""
    cluster = ceph.cluster()
    cluster.stop_gateway()
    try:
        with serving(tmp_path) as server:
            server.await_log("wsgi-store: starting anyway: ")
            refused(server, ask(server, upload(new())), UNAVAILABLE)
            cluster.start_gateway()
            works(server)
    finally:
        cluster.start_gateway()


def test_a_bucket_that_goes_away(tmp_path: Path) -> None:
    """A store whose marker is gone is not an empty store: no blob is reported missing."""
    # One worker, because each makes the marker when it first looks, as a start on an empty directory does.
    with gunicorn(tmp_path, workers=1, **environ(tmp_path)) as server:
        told(ask(server, upload(new())))
        KIND.remove_marker(tmp_path / "store")
        refused(server, ask(server, message("GET", f"/{hash_of(new())}")), UNAVAILABLE)
        with Connection(server.port) as client:
            ready(server, client, whether=False)


SETTINGS = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
