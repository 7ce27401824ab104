"""Prometheus metrics: what they count, who may read them, and that killed workers lose no counts."""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from webtest import TestApp

from tests.support.access import Make, bearer, code, line
from tests.support.calling import call
from tests.support.figures import Counting, Figures, counting_server, scrape
from tests.support.servers import DEPLOY, Server, gunicorn, refusal, until, uwsgi
from tests.support.wire import Connection, message
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.gunicorn.startup import METRICS_PREFIX
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.verify import verify

pytestmark = pytest.mark.long(46)


def directory_of(server: Server) -> Path:
    """The metrics directory of a master; other masters may have theirs next to it."""
    descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()
    (found,) = (path for path in map(Path.readlink, descriptors) if "wsgi-store-metrics-" in path.name)
    return found


def test_nothing_is_counted_unless_asked_for(api: TestApp) -> None:
    """Without the setting, /metrics gets 404 with the reason."""
    answer = api.get("/metrics", status=404)
    assert code(answer) == "not_found"
    assert "WSGI_STORE_METRICS" in answer.json["detail"]


def test_nothing_is_loaded_unless_asked_for(tmp_path: Path) -> None:
    """A service without metrics does not import prometheus_client."""
    program = "import sys; import wsgi_store.wsgi; print('prometheus_client' in sys.modules)"
    environ = {**os.environ, "WSGI_STORE_ROOT": str(tmp_path / "store")}
    for setting, loaded in {"off": "False", "on": "True"}.items():
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**environ, "WSGI_STORE_METRICS": setting},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == loaded


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """If prometheus-client is missing, the error says in one line what to install."""
    program = "import sys; sys.modules['prometheus_client'] = None; import wsgi_store.wsgi"
    environ = {**os.environ, "WSGI_STORE_ROOT": str(tmp_path / "store"), "WSGI_STORE_METRICS": "on"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode
    assert "WSGI_STORE_METRICS: " in done.stderr
    assert "install the extra metrics" in done.stderr


def test_requests(counting: Counting) -> None:
    """Requests are counted by route, method and status, whatever the hash or file name."""
    hash_ = counting.api.post("/", b"hello").json["hash"]
    counting.api.get(f"/{hash_}")
    counting.api.get(f"/{hash_}/a.txt")
    counting.api.get(f"/{'0' * 64}", status=404)
    counting.api.head(f"/{hash_}")
    counting.api.get("/nowhere", status=404)
    for path in ("/", "/a.txt", f"/{hash_}", f"/{hash_}/a.txt"):
        counting.api.put(path, b"hello")
    call(counting.api.app, "BREW", f"/{hash_}")
    requests = "wsgi_store_requests_total"
    assert counting.grown(requests, route="/", method="POST", status="200") == 1
    assert counting.grown(requests, route="/{hash}", method="GET", status="200") == 1
    assert counting.grown(requests, route="/{hash}/{filename}", method="GET", status="200") == 1
    assert counting.grown(requests, route="/{hash}", method="GET", status="404") == 1
    assert counting.grown(requests, route="/{hash}", method="HEAD", status="200") == 1
    for route in ("/", "/{filename}", "/{hash}", "/{hash}/{filename}"):
        assert counting.grown(requests, route=route, method="PUT", status="200") == 1
    assert counting.grown(requests, route="other", method="GET", status="404") == 1
    assert counting.grown(requests, route="other", method="other", status="405") == 1
    assert counting.grown("wsgi_store_request_duration_seconds_count", route="/{hash}", method="GET") == 2
    assert counting.grown("wsgi_store_failures_total", code="blob_not_found") == 1
    assert counting.grown("wsgi_store_failures_total", code="method_not_allowed") == 1
    assert counting.grown("wsgi_store_operation_duration_seconds_count", operation="open") == 3


def test_the_series_are_bounded(counting: Counting) -> None:
    """The number of series stays the same, however many paths and methods clients invent."""
    call(counting.api.app, "M", "/x")
    before = counting.api.get("/metrics").text.count("\n")
    for number in range(1100):
        call(counting.api.app, f"M{number}", f"/x{number}")
    assert counting.api.get("/metrics").text.count("\n") == before


def test_uploads(counting: Counting, config: Config) -> None:
    """Created, held and healed uploads are counted separately."""
    data = b"x" * 1000
    for _ in range(3):
        hash_ = counting.api.post("/", data).json["hash"]
    Path(config.root, hash_[:2], hash_).chmod(0o644)
    Path(config.root, hash_[:2], hash_).write_bytes(b"cut")
    assert counting.api.post("/", data).json["healed"]
    counting.api.post(f"/?hash={'0' * 64}", b"y" * 500, status=422)
    for outcome, number in {"created": 1, "held": 2, "healed": 1}.items():
        assert counting.grown("wsgi_store_uploads_total", outcome=outcome) == number
    assert counting.grown("wsgi_store_received_bytes_total") == 4500
    assert counting.grown("wsgi_store_failures_total", code="digest_mismatch") == 1
    assert counting.grown("wsgi_store_staged_files") == 0


def test_uploads_in_pieces(counting: Counting) -> None:
    """The bytes of an upload are counted once, also if its parts are joined; its events are counted."""
    api, data = counting.api, b"some bytes in pieces"
    tus = {"Tus-Resumable": "1.0.0"}
    piece = {**tus, "Content-Type": "application/offset+octet-stream"}
    url = api.post("/uploads", headers={**tus, "Upload-Length": str(len(data))}, status=201).headers[
        "Location"
    ]
    api.patch(url, data[:5], headers={**piece, "Upload-Offset": "0"}, status=204)
    (path,) = Path(api.app.config.root, ".uploads").glob(f"*/{url.rpartition('/')[2]}")
    assert counting.grown("wsgi_store_received_bytes_total") == 5
    with (path / "0").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        os.utime(held.fileno(), (1, 1))
        api.patch(url, data[5:10], headers={**piece, "Upload-Offset": "5"}, status=204)
    until(lambda: counting.told("wsgi_store_unfinished_upload_bytes") == 10, "the bytes to be seen")
    assert counting.told("wsgi_store_unfinished_uploads") == 1
    assert counting.told("wsgi_store_promised_bytes") == len(data) - 10 + len(data)
    api.patch(url, data[10:], headers={**piece, "Upload-Offset": "10"}, status=204)
    until(lambda: counting.told("wsgi_store_unfinished_uploads") == 0, "the end to be seen")
    assert counting.grown("wsgi_store_received_bytes_total") == len(data)
    assert counting.grown("wsgi_store_uploads_total", outcome="created") == 1
    assert counting.grown("wsgi_store_staged_files") == 0
    for event in ("created", "taken over", "finished"):
        assert counting.grown("wsgi_store_upload_events_total", event=event) == 1
    url = api.post("/uploads", headers={**tus, "Upload-Length": "9"}, status=201).headers["Location"]
    api.delete(url, headers=tus, status=204)
    assert counting.grown("wsgi_store_upload_events_total", event="removed") == 1


def test_sent_bytes_elsewhere(counting: Counting) -> None:
    """If the server does not report the bytes sent, each body counts with its Content-Length."""
    hash_ = counting.api.post("/", b"x" * 100_000).json["hash"]
    before = counting.grown("wsgi_store_sent_bytes_total")
    counting.api.get(f"/{hash_}")
    counting.api.head(f"/{hash_}")
    page = len(counting.api.get("/metrics").body)
    grown = counting.grown("wsgi_store_sent_bytes_total") - before
    assert 100_000 < grown < 100_000 + 3 * page


def test_the_state(counting: Counting, config: Config) -> None:
    """The info, free space, quarantine and oldest verification are looked up at each scrape."""
    figures = Figures(counting.api.get("/metrics").text)
    assert figures.get_sum("wsgi_store_info", algorithm="sha256") == 1
    status = os.statvfs(config.root)
    assert figures.get_sum("wsgi_store_free_bytes") == pytest.approx(
        status.f_bavail * status.f_frsize, rel=0.05
    )
    assert figures.get_sum("wsgi_store_quarantined_blobs") == 0
    quarantine = Path(config.root, ".quarantine")
    quarantine.mkdir()
    (quarantine / hashlib.sha256(b"").hexdigest()).touch()
    assert counting.grown("wsgi_store_quarantined_blobs") == 1
    made = Path(config.root, "store.json").stat().st_mtime
    assert figures.get_sum("wsgi_store_oldest_verification_timestamp_seconds") == pytest.approx(made)
    begin = time.time()
    list(verify(open_store(config.root, config.hash, config.durability)))
    assert begin <= counting.told("wsgi_store_oldest_verification_timestamp_seconds") <= time.time()


def test_what_was_verified(counting: Counting, config: Config) -> None:
    """The counts of several verify runs add up, and an unreadable blob counts as never verified."""
    hashes = [counting.api.post("/", data).json["hash"] for data in (b"one", b"three")]
    store = open_store(config.root, config.hash, config.durability)
    list(verify(store))
    path = Path(config.root, hashes[0][:2], hashes[0])
    path.chmod(0o644)
    path.write_bytes(b"two")
    list(verify(store))
    list(verify(store, sample=1))
    for name, grown in {"verified_blobs": 5, "verified_bytes": 21, "corrupt_blobs": 1}.items():
        assert counting.grown(f"wsgi_store_{name}_total") == grown
    with mock.patch("os.preadv", side_effect=OSError(5, "Input/output error")):
        list(verify(store))
    assert counting.told("wsgi_store_oldest_verification_timestamp_seconds") == 0
    assert counting.grown("wsgi_store_verified_blobs_total") == 5


def test_who_sees_them(make: Make) -> None:
    """With tokens, /metrics needs the scope admin, unless the metrics are public."""
    lines = line("reader", "read,write,delete,list")
    service = make(lines, metrics=MetricsAccess.ON)
    assert code(service.get("/metrics", status=401)) == "unauthenticated"
    assert code(service.get("/metrics", headers=bearer("reader"), status=403)) == "denied"
    service.get("/metrics", headers=bearer("all"))
    service = make(lines, metrics=MetricsAccess.PUBLIC)
    service.get("/metrics")
    assert code(service.get("/files", status=401)) == "unauthenticated"


def test_each_figure_is_told_once(counting: Counting) -> None:
    """Each series appears once, because Prometheus would keep only the first of two values."""
    counting.api.post("/", b"x")
    lines = counting.api.get("/metrics").text.splitlines()
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert len(samples) == len(set(samples))


def test_openmetrics(counting: Counting) -> None:
    """A client that accepts OpenMetrics gets it."""
    accept = "application/openmetrics-text; version=1.0.0"
    answer = counting.api.get("/metrics", headers={"Accept": accept})
    assert answer.content_type == "application/openmetrics-text"
    assert answer.text.endswith("# EOF\n")


def ask(port: int, number: int, killers: dict[int, threading.Event]) -> tuple[int, int]:
    """Repeat requests until this many were answered; returns the numbers of answered and broken ones."""
    answered = broken = 0
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(client):
        while answered < number:
            try:
                client.request("GET", "/healthz")
                assert client.getresponse().read()
                answered += 1
            except (OSError, http.client.HTTPException):
                broken += 1
                client.close()
            if answered in killers:
                killers[answered].set()
    return answered, broken


@pytest.mark.races
def test_no_count_is_lost_with_a_worker(tmp_path: Path) -> None:
    """The metrics are exact sums over all workers, including killed ones.

    A request is counted before its answer is sent, so a broken one may or may not be counted.
    """
    with counting_server(tmp_path, workers=4) as server:
        marks = {300: threading.Event(), 600: threading.Event()}
        counts: list[tuple[int, int]] = []
        threads = [
            threading.Thread(target=lambda: counts.append(ask(server.port, 1000, marks))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for mark in marks.values():
            assert mark.wait(60)
            os.kill(min(server.workers & server.processes()), signal.SIGKILL)
        for thread in threads:
            thread.join()
        answered, broken = map(sum, zip(*counts, strict=True))
        until(lambda: len(server.processes()) == 4, "new workers")
        figures = scrape(server)
        counted = figures.get_sum("wsgi_store_requests_total", route="/healthz", status="200") - 1
        server.workers = server.processes()
    assert answered == 10_000
    assert answered <= counted <= answered + broken


def test_another_logger(tmp_path: Path) -> None:
    """With another logger class, too, workers share their counts and the store is opened at start."""
    chosen = ("--logger-class", "gunicorn.glogging.Logger")
    with gunicorn(tmp_path, *chosen, workers=2, WSGI_STORE_METRICS="on") as server:
        for _ in range(20):
            with Connection(server.port) as connection:
                connection.ask(message("GET", "/healthz"))
        assert scrape(server).get_sum("wsgi_store_requests_total", route="/healthz") >= 20
        left = directory_of(server)
    assert not left.exists()
    command = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0", *chosen]
    status, lines = refusal(command, tmp_path / "store", WSGI_STORE_HASH="md5")
    assert status == 1
    assert lines[-1].startswith("wsgi-store: ")


def test_figures_that_nobody_has_any_more(tmp_path: Path) -> None:
    """A new master removes old metrics directories left by others, and keeps recent ones."""
    with counting_server(tmp_path) as server:
        parent = directory_of(server).parent
    left, young = (Path(tempfile.mkdtemp(prefix=METRICS_PREFIX, dir=parent)) for _ in range(2))
    try:
        os.utime(left, (1, 1))
        with counting_server(tmp_path):
            assert not left.exists()
            assert young.exists()
    finally:
        young.rmdir()


def test_quiet_kills_leave_exact_figures(tmp_path: Path) -> None:
    """If workers are killed between requests, counters stay exact and gauges drop their share."""
    with counting_server(tmp_path) as server:
        data = b"z" * 200_000
        for number in range(3):
            with Connection(server.port) as connection:
                hash_ = json.loads(connection.ask(message("POST", "/", data + bytes([number]))).body)["hash"]
                assert connection.ask(message("GET", f"/{hash_}")).status == 200
            with Connection(server.port) as upload:
                upload.send(message("POST", "/", Content_Length=10), b"x")
                server.until_staged()
                assert scrape(server).get_sum("wsgi_store_staged_files") == 1
                (worker,) = server.processes()
                os.kill(worker, signal.SIGKILL)
                until(lambda worker=worker: server.processes() - {worker}, "a new worker")
            server.workers = server.processes()
            server.await_answer()
        figures = scrape(server)
        assert figures.get_sum("wsgi_store_uploads_total", outcome="created") == 3
        assert figures.get_sum("wsgi_store_received_bytes_total") == 3 * 200_001
        assert figures.get_sum("wsgi_store_requests_total", route="/{hash}", method="GET") == 3
        assert figures.get_sum("wsgi_store_staged_files") == 0
        server.workers = server.processes()


def test_uwsgi_counts_in_a_directory(tmp_path: Path) -> None:
    """Workers forked by uWSGI share their counts, including those of killed workers."""
    (tmp_path / "figures").mkdir()
    with uwsgi(
        tmp_path, WSGI_STORE_METRICS="on", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "figures")
    ) as server:
        answered = 0
        for _ in range(2):
            for _ in range(50):
                with Connection(server.port) as connection:
                    assert connection.ask(message("GET", "/readyz")).status == 200
                answered += 1
            killed = max(server.workers & server.processes())
            server.expected.append(f"DAMN ! worker . .pid: {killed}. died, killed by signal 9")
            os.kill(killed, signal.SIGKILL)
            until(
                lambda killed=killed: len(server.processes() - {killed}) == len(server.workers), "a new one"
            )
            server.workers = server.processes()
        server.await_answer()
        figures = scrape(server)
    assert figures.get_sum("wsgi_store_requests_total", route="/readyz") == answered


def test_sent_bytes_are_those_that_went_out(tmp_path: Path) -> None:
    """An aborted download counts with the bytes actually sent."""
    with counting_server(tmp_path) as server:
        size = 64 << 20
        with Connection(server.port) as connection:
            connection.send(message("POST", "/", Content_Length=size), bytes(size))
            hash_ = json.loads(connection.receive().body)["hash"]
        with Connection(server.port, receive_buffer=4096) as connection:
            connection.send(message("GET", f"/{hash_}"))
            connection.receive_head()
        server.await_log(rf"GET /{hash_} 200")
        sent = scrape(server).get_sum("wsgi_store_sent_bytes_total")
        assert 0 < sent < size
        with Connection(server.port) as connection:
            assert len(connection.ask(message("GET", f"/{hash_}")).body) == size
        until(lambda: scrape(server).get_sum("wsgi_store_sent_bytes_total") > sent + size, "the second one")


def test_the_directory_of_the_figures(tmp_path: Path) -> None:
    """The metrics directory survives a reload, and is removed when the master ends."""
    with counting_server(tmp_path) as server:
        mine = directory_of(server)
        with Connection(server.port) as connection:
            connection.ask(message("POST", "/", b"x"))
        server.process.send_signal(signal.SIGHUP)
        server.await_log("Booting worker", 2)
        until(lambda: len(server.processes()) == 1, "the old worker's end")
        server.await_answer()
        assert directory_of(server) == mine
        assert scrape(server).get_sum("wsgi_store_uploads_total") == 1
        server.workers = server.processes()
    assert not mine.exists()


def test_what_a_killed_master_left_is_removed(tmp_path: Path) -> None:
    """A new master removes the directory of a dead one, and keeps that of a running one."""
    dead = counting_server(tmp_path / "dead")
    left = directory_of(dead)
    dead.kill()
    assert left.exists()
    with counting_server(tmp_path / "alive") as alive:
        assert not left.exists()
        with counting_server(tmp_path / "new") as new:
            assert directory_of(alive).exists()
            scrape(new)
