"""With any files in a store's directory no request gets 500 and no command ends in a traceback."""

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from webtest import TestApp

from tests.support.strangers import NOBODY
from wsgi_store.assembly import create_app
from wsgi_store.cli.main import main
from wsgi_store.cli.owner import LATER
from wsgi_store.choices import MetricsAccess
from wsgi_store.config import Config
from wsgi_store.errors import StoreError

TREES = 40
DATA = [b"", b"0", b"more bytes"]
HASHES = [hashlib.md5(data).hexdigest() for data in DATA]
# Seconds: before 1970, before the year 1, and after 9999 as far as a file system stores them.
TIMES = [-1, -(10**11), 0, 10**9, 253402300800, 10**15, 2**62]
SPECIAL = [".staging", ".quarantine", ".tickets", ".uploads", ".verified.json", "store.json"]
NOTES = [
    b"{}",
    b"[" * 100_000,
    b'{"parts": [["' + b"f" * 32 + b'", NaN]], "unreadable": [], "blobs": 1, "bytes": 2, "corrupt": 3}',
    b'{"parts": [["%s", 5]], "unreadable": [], "blobs": 1%s, "bytes": -1, "corrupt": 3}'
    % (b"f" * 32, b"0" * 400),
]
CONDITIONS = [
    {},
    {"If-Modified-Since": "Fri, 27 Nov 2026 00:00:00 GMT"},
    {"If-Unmodified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"},
    {"If-Range": "Thu, 01 Jan 1970 00:00:00 GMT", "Range": "bytes=0-0,2-"},
    {"If-None-Match": "*"},
    {"Range": "bytes=-1"},
]
FINE = {503, 507}


def a_file(path: Path, random: Random) -> None:
    """A file of any content, time and mode."""
    path.write_bytes(random.choice([*DATA, *NOTES]))
    for when in random.sample(TIMES, 2):
        with suppress(OSError):  # not every file system stores all of them
            os.utime(path, (when, when))
    path.chmod(random.choice([0o444, 0o600, 0o000, 0o6777]))


def a_directory(path: Path, random: Random) -> None:
    """A directory, possibly inaccessible or with files in it."""
    path.mkdir()
    for name in random.sample([*HASHES, "x"], 2):
        (path / name).touch()
    path.chmod(random.choice([0o755, 0o000, 0o311, 0o644]))


def a_link(path: Path, random: Random) -> None:
    """A link to an existing path, to a missing one or to itself."""
    path.symlink_to(
        random.choice(["/etc/passwd", "nowhere", path.name, ".", "..", "/proc/self/mem", HASHES[0]])
    )


def a_pipe(path: Path, _: Random) -> None:
    """A pipe without a writer."""
    os.mkfifo(path)


def a_socket(path: Path, _: Random) -> None:
    """A socket without a listener."""
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            unix.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


THINGS: list[Callable[[Path, Random], None]] = [a_file, a_file, a_directory, a_link, a_pipe, a_socket]


def grow(root: Path, random: Random) -> None:
    """Create random files in a store, under meaningful and other names."""
    shards = {hash_[:2] for hash_ in HASHES}
    names = [os.fsdecode(b"\xff\xfe"), "00", "lost+found", "a\nb"]
    for name in random.sample(names, 2):
        random.choice(THINGS)(root / name, random)
    for shard in shards:
        if random.random() < 0.2:
            random.choice([a_file, a_directory, a_pipe])(root / shard, random)
            continue
        (root / shard).mkdir()
        for name in (*HASHES, HASHES[0].upper(), os.fsdecode(b"\xff"), f"{shard}{'0' * 30}"):
            if random.random() < 0.7:
                random.choice(THINGS)(root / shard / name, random)
        (root / shard).chmod(random.choice([0o755, 0o755, 0o000, 0o311, 0o644]))
    for name in SPECIAL:
        if random.random() < 0.25:
            place = root / name
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            random.choice(THINGS)(place, random)


def ask(application: object) -> None:
    """Make every kind of request."""
    api = TestApp(application)
    targets = [*(f"/{hash_}" for hash_ in HASHES), f"/{HASHES[0]}/name.png", f"/?hash={HASHES[1]}"]
    requests = [
        (method, target, fields, b"")
        for target in targets
        for fields in CONDITIONS
        for method in ("GET", "HEAD")
    ]
    requests += [
        ("GET", target, {}, b"") for target in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")
    ]
    requests += [("POST", "/", {}, data) for data in DATA]
    requests += [("DELETE", target, fields, b"") for target in targets[:3] for fields in CONDITIONS[:3]]
    requests += [("POST", "/", {}, data) for data in DATA]
    for method, target, fields, body in requests:
        answer = api.request(target, method=method, headers=fields, body=body, expect_errors=True)
        assert answer.status_int < 500 or answer.status_int in FINE, (method, target, fields, answer)
    following = "/files?limit=1"
    while following:
        answer = api.get(following, expect_errors=True)
        assert answer.status_int == 200 or answer.status_int in FINE, answer
        following = answer.json.get("next")


def command(root: Path, *arguments: str) -> None:
    """Run a command and check that it ends with a status and without a traceback."""
    done = CliRunner().invoke(main, [*arguments, "--root", str(root)])
    assert isinstance(done.exception, SystemExit | None), (arguments, done.exception)
    assert "Traceback" not in done.output


def try_tree(place: Path, seed: int) -> None:
    """Fill a store with random files, request them all, and run the upkeep commands."""
    random = Random(seed)
    root = place / "store"
    config = Config(root=str(root), min_free=0, metrics=MetricsAccess.PUBLIC)
    try:
        application = create_app(config)
        grow(root, random)
        ask(application)
        for arguments in (
            ("du",),
            ("manifest",),
            ("verify",),
            ("collect", "--quarantined-older", "0s"),
            ("collect", "--older", "1s", "--max-size", "0"),
            ("verify", "--sample", "0.5"),
        ):
            command(root, *arguments)
        with suppress(StoreError):
            ask(create_app(config))
    except BaseException as error:
        error.add_note(f"seed {seed}: {sorted(map(str, root.rglob('*')))}")
        raise
    finally:
        for one, directories, _ in os.walk(place):
            for name in directories:
                with suppress(OSError):
                    os.chmod(f"{one}/{name}", 0o700, follow_symlinks=True)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def place_on(parent: str) -> Iterator[Path]:
    """A directory on a file system that everybody may use."""
    with tempfile.TemporaryDirectory(prefix="strange-", dir=parent) as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.races
@pytest.mark.parametrize("parent", ["/tmp", "/dev/shm"])
def test_as_this_user(parent: str) -> None:
    """No request or command crashes, on a disk and in memory, where times beyond the year 9999 are kept."""
    with place_on(parent) as place:
        for seed in range(TREES):
            try_tree(place, seed)


def _as_nobody(place: Path) -> None:
    for module in LATER:
        import_module(module)
    try_tree(place, -1)  # imports everything needed while it is still readable
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    for seed in range(TREES):
        try_tree(place, seed)


def test_as_another_user() -> None:
    """No request or command crashes for a user whom modes keep from reading, as they do not root."""
    if os.geteuid():
        pytest.skip("needs root")
    with place_on("/dev/shm") as place:
        process = get_context("fork").Process(target=_as_nobody, args=(place,))
        process.start()
        process.join()
        assert process.exitcode == 0


def told(status: os.stat_result, when: float) -> os.stat_result:
    """The status of a file with another time."""
    values = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
    return os.stat_result(tuple(status), {**values, "st_mtime": when})


@pytest.mark.parametrize(
    "when, date", [(-5.0, "Thu, 01 Jan 1970 00:00:00 GMT"), (1e15, "Fri, 31 Dec 9999 23:59:59 GMT")]
)
def test_times_that_no_date_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: float, date: str
) -> None:
    """A time before 1970 or after 9999 is sent as the nearest valid date, and conditions accept that date."""
    config = Config(root=str(tmp_path / "store"), min_free=0)
    api = TestApp(create_app(config))
    url = api.post("/", b"data").json["url"]
    fstat, stat = os.fstat, os.stat
    monkeypatch.setattr(os, "fstat", lambda fd: told(fstat(fd), when))
    monkeypatch.setattr(os, "stat", lambda *names, **options: told(stat(*names, **options), when))
    assert api.get(url).headers["Last-Modified"] == date
    api.get(url, headers={"If-Modified-Since": date}, status=304)
    api.get(url, headers={"If-Unmodified-Since": date}, status=200)
    api.get(url, headers={"If-Range": date, "Range": "bytes=0-0"}, status=206)
