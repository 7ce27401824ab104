"""Third-party object stores: those that can hold a store work, the others are refused and left unchanged."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.commands import install, run
from tests.support.engines import BUCKET, PROGRAMS, Engine, moto, rclone, running, seaweedfs
from tests.support.exchanges import told
from tests.support.faults import fresh, hash_of, upload
from tests.support.servers import DEPLOY, gunicorn, refusal, waitress
from tests.support.wire import Connection, message

GUNICORN = ["gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py"), "--bind", "127.0.0.1:0"]
MARKER = b'{"algorithm": "sha256", "layout": "ab/abcdef"}\n'
DATA = b"hello, world\n"
HASH = hash_of(DATA)
COPIED = {"store/store.json": MARKER, f"store/{HASH[:2]}/{HASH}": DATA}
LARGE = fresh(1, 20 << 20)

pytestmark = pytest.mark.clients


@pytest.fixture(name="fit", scope="module", params=[seaweedfs, moto], ids=lambda start: start.__name__)
def fixture_fit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that does everything a store needs."""
    with running(request.param, tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(name="unfit", scope="module")
def fixture_unfit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that ignores conditions."""
    with running(rclone, tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(name="empty")
def fixture_empty(unfit: Engine) -> Engine:
    """The same engine without objects."""
    for key in unfit.objects():
        unfit.client.delete_object(Bucket=BUCKET, Key=key)
    return unfit


def settings(engine: Engine, directory: Path, **more: str) -> dict[str, str]:
    """Settings of a server on such a bucket."""
    places = {"WSGI_STORE_ROOT": f"s3://{BUCKET}/store", "WSGI_STORE_S3_STAGING": str(directory / "staging")}
    return {**engine.environ, **places, **more}


def objects(engine: Engine) -> dict[str, bytes]:
    """The objects in the bucket, without the directories that rclone keeps."""
    return {key: data for key, data in engine.objects().items() if not key.endswith("/")}


def copied(engine: Engine, directory: Path) -> None:
    """Copy a store from disk to a bucket, as people do."""
    for key, data in COPIED.items():
        path = directory / "copied" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (86400, 86400))  # old enough to be collected
    remote = f":s3,provider=Other,env_auth,endpoint='{engine.endpoint}',force_path_style:{BUCKET}"
    command = [str(PROGRAMS / "rclone"), "copy", str(directory / "copied"), remote]
    subprocess.run(command, env=os.environ | engine.environ, check=True, capture_output=True, timeout=60)


def refusals(engine: Engine, directory: Path, *hashes: str) -> list[str]:
    """Start servers at once; each ends with one line."""

    def start(number_and_hash: tuple[int, str]) -> str:
        number, hash_ = number_and_hash
        env = settings(engine, directory / str(number), WSGI_STORE_HASH=hash_)
        status, lines = refusal(GUNICORN, directory, **env)
        assert (status, len(lines)) == (1, 1), lines
        return lines[0]

    with ThreadPoolExecutor(len(hashes)) as pool:
        return list(pool.map(start, enumerate(hashes)))


def test_an_empty_bucket_that_cannot_hold_a_store(empty: Engine, tmp_path: Path) -> None:
    """Servers of different hashes that start at once are all refused, and leave nothing behind."""
    for line in refusals(empty, tmp_path, "md5", "sha256", "md5", "sha1"):
        assert "s3://blobs/store cannot be written to" in line
        assert "If-None-Match on PUT, If-Match on PUT, Range on GET" in line
    assert not objects(empty)


def test_a_store_copied_to_where_it_cannot_be(empty: Engine, tmp_path: Path) -> None:
    """No server, command or check changes a byte of a store copied to an unfit engine."""
    copied(empty, tmp_path)
    assert objects(empty) == COPIED
    refusals(empty, tmp_path, "sha256", "sha256")
    assert objects(empty) == COPIED
    program = install(tmp_path / "bin")
    env = settings(empty, tmp_path)
    for arguments in ("du", "manifest", "verify", "collect", "collect --older 9000000h --dry-run"):
        done = run(program, *arguments.split(), **env)
        assert (done.returncode, done.stderr.count(b"\n")) == (0, 0), done
        assert objects(empty) == COPIED, arguments
    done = run(program, "collect", "--older", "1h", **env)
    assert (done.returncode, done.stdout) == (6, b"")
    assert b"If-None-Match on PUT, If-Match on PUT, Range on GET" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert objects(empty) == COPIED
    damaged = COPIED | {f"store/{HASH[:2]}/{HASH}": b"?" * len(DATA)}
    for key, data in damaged.items():
        empty.write(key, data)
    done = run(program, "verify", **env)
    assert done.returncode == 5
    assert b"not moved to quarantine" in done.stdout
    assert objects(empty) == damaged


def test_a_server_that_tries_nothing_at_its_start(empty: Engine, tmp_path: Path) -> None:
    """A server that skips the trial at start can read; each write is refused and the reason logged."""
    copied(empty, tmp_path)
    with waitress(tmp_path, **settings(empty, tmp_path)) as server, Connection(server.port) as client:
        assert client.ask(message("GET", f"/{HASH}")).body == DATA
        for request in (upload(b"new"), message("DELETE", f"/{HASH}"), message("GET", "/readyz")):
            server.expected.append("If-None-Match on PUT, If-Match on PUT, Range on GET")
            answer = client.ask(request)
            assert answer.status == 503, answer
        assert len(server.await_log("If-None-Match on PUT, If-Match on PUT, Range on GET")) == 3
        assert client.ask(message("GET", f"/{HASH}")).body == DATA
    assert objects(empty) == COPIED


def test_an_engine_that_holds_a_store(  # pylint: disable=too-many-locals
    request: pytest.FixtureRequest, fit: Engine, tmp_path: Path
) -> None:
    """Uploads, ranges, deletions, listings, healing and the commands work as on Ceph."""
    # moto looks for a key and then writes it, so that two uploads at once may both create it.
    at_once = 1 if request.node.callspec.params["fit"] is moto else 4
    env = settings(fit, tmp_path)
    with gunicorn(tmp_path, **env) as server:
        with Connection(server.port) as client:
            assert client.ask(message("GET", "/readyz")).status == 200
        blobs = [fresh(number, 1000) for number in range(3)] + [LARGE]

        def send(data: bytes) -> tuple[str, int, bool]:
            with Connection(server.port) as client:
                return told(client.ask(upload(data)))

        for data in blobs:
            with ThreadPoolExecutor(at_once) as pool:
                answers = list(pool.map(send, [data] * 4))
            assert [answer[:2] for answer in answers] == [(hash_of(data), len(data))] * 4
            assert sorted(created for *_, created in answers) == [False, False, False, True]
        with Connection(server.port) as client:
            for data in blobs:
                assert client.ask(message("GET", f"/{hash_of(data)}")).body == data
                part = client.ask(message("GET", f"/{hash_of(data)}", Range="bytes=10-99"))
                assert (part.status, part.body) == (206, data[10:100])
            listed = client.ask(message("GET", "/files?limit=1000")).body
            assert [listed.index(hash_of(data).encode()) for data in sorted(blobs, key=hash_of)] == sorted(
                listed.index(hash_of(data).encode()) for data in blobs
            )
            assert client.ask(message("DELETE", f"/{hash_of(blobs[0])}")).status == 200
            assert client.ask(message("DELETE", f"/{hash_of(blobs[0])}")).status == 404
            damaged = f"store/{hash_of(blobs[1])[:2]}/{hash_of(blobs[1])}"
            fit.write(damaged, b"?" * 1000)
            program = install(tmp_path / "bin")
            done = run(program, "verify", **env)
            assert done.returncode == 5, done
            assert b"moved to quarantine" in done.stdout
            assert client.ask(message("GET", f"/{hash_of(blobs[1])}")).status == 404
            assert b'"healed": true' in client.ask(upload(blobs[1])).body
            assert client.ask(message("GET", f"/{hash_of(blobs[1])}")).body == blobs[1]
    assert run(program, "verify", **env).returncode == 0
    assert run(program, "collect", **env).returncode == 0
    assert fit.read("store/store.json") == MARKER
    assert {key.partition("/")[2][:2] for key in fit.objects()} <= {
        "st",
        ".v",
        *(hash_of(data)[:2] for data in blobs[1:]),
    }


def test_stores_of_two_hashes_made_at_once(fit: Engine, tmp_path: Path) -> None:
    """When servers start at once on an empty bucket, one makes the marker and the others respect it."""
    env = {"WSGI_STORE_ROOT": f"s3://{BUCKET}/other"}
    hashes = ["md5", "sha256", "sha1", "sha512"]

    def check(hash_: str) -> str:
        code = (
            "from wsgi_store.config import Config; from wsgi_store.store.open import open_store; "
            "config = Config.from_env(); "
            "open_store(config.root, config.hash, config.durability, config.remote).check()"
        )
        more = {"WSGI_STORE_HASH": hash_, "WSGI_STORE_S3_STAGING": str(tmp_path / hash_)}
        done = subprocess.run(
            [str(PROGRAMS / "python"), "-c", code],
            env=os.environ | fit.environ | env | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return hash_ if done.returncode == 0 else done.stderr

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(check, hashes))
    assert len([one for one in found if one in hashes]) == 1, found
    assert len([one for one in found if "WrongStore" in one]) == 3, found
