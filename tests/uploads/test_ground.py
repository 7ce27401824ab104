"""What uploads need of the disk and leave on it, and what commands and the log say of them."""

import errno
import fcntl
import os
import stat
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner
from webtest import TestApp

from tests.support.uploads import DATA, HALF, Service
from wsgi_store.assembly import create_app
from wsgi_store.cli.main import main
from wsgi_store.config import Config
from wsgi_store.errors import Unsupported, WrongStore
from wsgi_store.logs import logger
from wsgi_store.store.open import open_store
from wsgi_store.upkeep.collect import Collected, Kind, collect
from wsgi_store.upkeep.usage import usage
from wsgi_store.uploads.listed import PROMISED
from wsgi_store.uploads.records import FileInfo

TUS = {"Tus-Resumable": "1.0.0"}
DRAFT = {"Upload-Complete": "?0", "Upload-Length": "20"}


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Service:
    """A process whose store has uploads."""
    return Service(tmp_path / "store")


def invoke(service: Service, *arguments: str) -> str:
    """What a command prints about the store."""
    result = CliRunner().invoke(main, [*arguments, "--root", str(service.directory.parent)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_collect_removes_what_has_expired(service: Service) -> None:
    """`collect` removes expired uploads with their bytes, results too, and a dry run removes nothing."""
    store = open_store(str(service.directory.parent), None)
    young, old, done = service.begin(), service.begin(), service.begin()
    done.append([DATA[HALF:]], HALF)
    service.age(old, 86401)
    service.age(done, 86401)
    before = service.names()
    expected = [Collected(Kind.EXPIRED, HALF), Collected(Kind.EXPIRED, 0)]
    assert sorted(collect(store, dry_run=True), key=lambda one: -one.size) == expected
    assert service.names() == before
    assert "would remove 2 expired uploads: 10 bytes" in invoke(service, "collect", "--dry-run")
    assert sorted(collect(store), key=lambda one: -one.size) == expected
    assert young.state().offset == HALF
    assert not list(collect(store))


def test_collect_removes_idle_ones_if_asked(service: Service) -> None:
    """`--uploads-older` removes uploads before they expire, but none that a request holds."""
    upload = service.begin()
    service.age(upload, 3600)
    assert "removed nothing" in invoke(service, "collect")
    assert "removed nothing" in invoke(service, "collect", "--uploads-older", "2h")
    with (service.path(upload) / "0").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "nothing" in invoke(service, "collect", "--uploads-older", "30m", "--dry-run")
        assert "nothing" in invoke(service, "collect", "--uploads-older", "30m")
    assert "removed 1 expired upload: 10 bytes" in invoke(service, "collect", "--uploads-older", "30m")


def test_du(service: Service) -> None:
    """`du` tells the unfinished uploads, their bytes, and the room that is kept for the rest of them."""
    service.begin()
    service.age(service.begin(), PROMISED + 1)
    service.begin(length=None)
    service.begin().append([DATA[HALF:]], HALF)
    used = usage(open_store(str(service.directory.parent), None))
    assert (used.uploads, used.uploads_bytes, used.promised, used.promised_bytes) == (3, 30, 1, 10)
    assert used.blobs == 1
    assert "\nuploads\t3\t30\npromised\t1\t10\n" in invoke(service, "du")


def test_nobody_else_may_look(service: Service) -> None:
    """Whoever is not the service's user neither sees which uploads there are nor reads one."""
    upload = service.path(service.begin())
    for path in (service.directory, upload.parent, upload):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in upload.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user takes root")
def test_a_service_that_root_runs_once_stays_usable(tmp_path: Path) -> None:
    """The directories belong to the owner of the store, also if root makes them."""
    service = Service(tmp_path / "store")
    os.chown(tmp_path / "store", 1234, 1234)
    service.begin()
    assert service.directory.stat().st_uid == 1234


def test_a_read_only_store_gets_no_uploads(tmp_path: Path) -> None:
    """A read-only store answers a creation as it answers a POST, and nothing is made in it."""
    root = tmp_path / "store"
    open_store(str(root), None, create=True)
    api = TestApp(create_app(Config(root=str(root), min_free=0, read_only=True)))
    assert api.post("/uploads", headers=DRAFT, status=403).json["code"] == "read_only"
    assert api.post("/", b"bytes", status=403).json["code"] == "read_only"
    assert not (root / ".uploads").exists()


def test_a_start_makes_nothing(tmp_path: Path) -> None:
    """A service without uploads has no directory for them."""
    api = TestApp(create_app(Config(root=str(tmp_path / "store"), min_free=0)))
    api.post("/", b"bytes")
    assert not (tmp_path / "store" / ".uploads").exists()


@pytest.mark.parametrize("kind", ["link", "mount"])
def test_another_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    """The start finds out that files cannot be moved from the uploads to the blobs."""
    root = tmp_path / "store"
    open_store(str(root), None, create=True)
    if kind == "link":
        (root / ".uploads").symlink_to("/dev/shm")
    else:
        (root / ".uploads").mkdir()
    real = os.link

    def link(source: str, target: str, **places: int) -> None:
        if target.startswith(".uploads/"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, **places)

    with mock.patch.object(os, "link", link), pytest.raises(WrongStore, match=r"\.uploads is "):
        open_store(str(root), None)


def test_without_locks_uploads_are_refused_at_once(tmp_path: Path) -> None:
    """A file system without flock(2) is found out at start, told once, and refuses each creation."""
    config = Config(root=str(tmp_path / "store"), min_free=0)
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    try:
        with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "No locks available")):
            api = TestApp(create_app(config))
            for _ in range(2):
                answer = api.post("/uploads", headers=DRAFT, status=501)
                assert answer.json["code"] == "unsupported"
                assert "no locks" in answer.json["detail"]
            assert "uploads" not in api.get("/").json["links"]
            assert api.post("/", b"bytes").json["created"] is True
    finally:
        logger.remove(sink)
    assert [line for line in lines if "uploads" in line] == [
        "WARNING uploads cannot be continued: the file system has no locks (flock(2))\n"
    ]
    assert not (tmp_path / "store" / ".uploads").exists()


def test_a_disk_that_cannot_be_tried_is_tried_later(tmp_path: Path) -> None:
    """If the start cannot try the file system, the first creation does."""
    service = Service(tmp_path / "store")
    service.uploads.lacks = None
    with mock.patch("wsgi_store.store.staged.StagedFile.named", side_effect=OSError(errno.ENOSPC, "full")):
        service = Service(tmp_path / "store")
    with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no")), pytest.raises(Unsupported):
        service.uploads.create("me", FileInfo())


def test_the_log_tells_what_became_of_uploads(tmp_path: Path) -> None:
    """Creation, end, removal and expiry are a line each; the access log has the hash at the end."""
    config = Config(root=str(tmp_path / "store"), min_free=0)
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    try:
        api = TestApp(create_app(config))
        url = api.post("/uploads", headers=TUS | {"Upload-Length": "20"}, status=201).headers["Location"]
        piece = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        api.patch(url, DATA, headers=piece, status=204)
        other = api.post("/uploads", headers=TUS | {"Upload-Length": "7"}, status=201).headers["Location"]
        api.delete(other, headers=TUS, status=204)
        for path in (tmp_path / "store" / ".uploads").glob("*/*/*"):
            os.utime(path, (1, 1))
        TestApp(create_app(replace(config)))
    finally:
        logger.remove(sink)
    one, two = (each.rpartition("/")[2] for each in (url, other))
    assert lines == [
        f"INFO upload {one} created: 20 bytes\n",
        f"INFO upload {one} finished: 20 bytes\n",
        f"INFO upload {two} created: 7 bytes\n",
        f"INFO upload {two} removed: 0 bytes\n",
        f"INFO upload {one} expired: 0 bytes\n",
    ]
