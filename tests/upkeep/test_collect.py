"""Collecting removes the oldest blobs first, and never one that is uploaded meanwhile."""

import multiprocessing
import os
import subprocess
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.kinds import KINDS, content, put
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound
from wsgi_store.staging import Staging
from wsgi_store.store.contract import Added, Durability
from wsgi_store.store.disk.store import LocalStore
from wsgi_store.store.staged import StagedFile
from wsgi_store.upkeep.collect import Collected, Kind, collect
from wsgi_store.upkeep.usage import Usage, manifest, usage

DAY = 86400.0
DATA = b"some bytes"


def age(store: LocalStore, digest: Digest, days: float) -> None:
    """Make a blob this many days old."""
    then = time.time() - days * DAY
    os.utime(os.path.join(store.root, str(store.local_path(digest))), (then, then))


@pytest.fixture(name="blobs")
def fixture_blobs(store: LocalStore) -> list[Digest]:
    """Blobs of 100 bytes that are 0 to 9 days old."""
    staging = Staging(store)
    digests = [put(staging, bytes([number]) * 100).digest for number in range(10)]
    for days, digest in enumerate(digests):
        age(store, digest, days)
    return digests


def held(store: LocalStore) -> set[Digest]:
    """The digests in the store."""
    return {blob.digest for blob in store.iterate()}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({}, 10),
        ({"older": 4.5 * DAY}, 5),
        ({"older": 100 * DAY}, 10),
        ({"max_bytes": 1000}, 10),
        ({"max_bytes": 999}, 9),
        ({"max_bytes": 300}, 3),
        ({"max_bytes": 350}, 3),
        ({"older": 4.5 * DAY, "max_bytes": 300}, 3),
        ({"older": 2.5 * DAY, "max_bytes": 700}, 3),
    ],
    ids=str,
)
def test_what_goes(
    store: LocalStore, blobs: list[Digest], asked: dict[str, float], left: int, *, dry_run: bool
) -> None:
    """Blobs go by age and then by size, the oldest first; a dry run lists the same and removes nothing."""
    gone = list(collect(store, dry_run=dry_run, **asked))  # type: ignore[arg-type]
    assert {one.digest for one in gone} == set(blobs[left:])
    assert all((one.kind, one.size) == (Kind.BLOB, 100) for one in gone)
    assert held(store) == set(blobs if dry_run else blobs[:left])
    if "older" not in asked:
        assert [one.digest for one in gone] == blobs[left:][::-1]


def test_blobs_added_just_now_stay(store: LocalStore) -> None:
    """A blob added within the last clock tick stays, because it may have been added again since."""
    digest = put(Staging(store), b"new").digest
    assert not list(collect(store, older=0, max_bytes=0))
    assert held(store) == {digest}


@pytest.mark.parametrize("asked", [{"older": DAY}, {"max_bytes": 0}], ids=str)
def test_uploaded_again_meanwhile(store: LocalStore, blobs: list[Digest], asked: dict[str, float]) -> None:
    """A blob uploaded again while others are removed stays, even if it was the oldest."""
    staging = Staging(store)
    collected = collect(store, **asked)  # type: ignore[arg-type]
    next(collected)
    for number in range(10):
        put(staging, bytes([number]) * 100)
    assert not list(collected)
    assert len(held(store)) == 10
    assert blobs


def test_expire_and_what_came_instead(store: LocalStore, blobs: list[Digest]) -> None:
    """Only the blob that was looked at expires, not one that was removed and added since."""
    then = store.stat(blobs[9]).modified
    store.remove(blobs[9])
    assert store.expire(blobs[9], then) is False
    put(Staging(store), bytes([9]) * 100)
    assert store.expire(blobs[9], then) is False
    assert store.expire(blobs[9], store.stat(blobs[9]).modified) is True
    assert blobs[9] not in held(store)


def test_a_dedup_hit_that_is_crossed(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that expires after an upload found it, but before it is renewed, is added again."""
    digest = put(Staging(store), b"some bytes").digest
    age(store, digest, 1)
    then = store.stat(digest).modified
    fstat = os.fstat

    def late(fd: int) -> os.stat_result:
        if digest.hex in os.readlink(f"/proc/self/fd/{fd}"):
            monkeypatch.undo()
            assert store.expire(digest, then)
        return fstat(fd)

    monkeypatch.setattr(os, "fstat", late)
    assert put(Staging(store), b"some bytes").added is Added.CREATED
    assert content(store, digest) == b"some bytes"


def test_staged_and_quarantined(store: LocalStore, root: Path) -> None:
    """Leftovers are always collected, quarantined files on request, files in use never."""
    digest = put(Staging(store), b"some bytes").digest
    KINDS[0].damage(root, digest, b"some")
    store.quarantine(digest)
    (root / ".staging" / ("0" * 32)).write_bytes(b"half")
    with StagedFile.named(store.staging_directory) as used:
        assert usage(store) == Usage(0, 0, 1, 4, 2, 4)
        assert list(collect(store, quarantined_older=DAY, dry_run=True)) == [Collected(Kind.STAGED, 4)]
        assert len(os.listdir(store.staging_directory)) == 2
        assert list(collect(store, quarantined_older=DAY)) == [Collected(Kind.STAGED, 4)]
        assert os.listdir(store.staging_directory) == [os.path.basename(str(used.path))]
        quarantined = Collected(Kind.QUARANTINED, 4, digest)
        time.sleep(0.02)
        assert list(collect(store, quarantined_older=0, dry_run=True)) == [quarantined]
        assert list(collect(store, quarantined_older=0)) == [quarantined]
    assert usage(store) == Usage()


def test_usage_and_manifest(store: LocalStore, blobs: list[Digest], root: Path) -> None:
    """md5sum can check the manifest, and usage counts the blobs."""
    assert usage(store) == Usage(10, 1000)
    text = "".join(f"{line}\n" for line in manifest(store))
    assert len(text.splitlines()) == len(blobs)
    command = ["md5sum", "--check", "--quiet", "--strict"]
    assert subprocess.run(command, input=text, cwd=root, text=True, check=False).returncode == 0
    KINDS[0].damage(root, blobs[0], b"other")
    done = subprocess.run(command, input=text, cwd=root, text=True, check=False, capture_output=True)
    assert done.stdout == f"{blobs[0].hex[:2]}/{blobs[0].hex}: FAILED\n"


ROUNDS = 300


def renew(root: str, turns: Connection) -> None:
    """In each round upload the same old blob again."""
    store = LocalStore(root, Algorithm.MD5, Durability.NONE)
    staging = Staging(store, durability=Durability.NONE)
    for _ in range(ROUNDS):
        turns.recv()
        put(staging, DATA)
        turns.send(None)


def race(store: LocalStore, turns: Connection) -> tuple[int, int]:
    """Let the blob expire while it is uploaded, round by round; returns how often it expired and was lost."""
    digest = put(Staging(store, durability=Durability.NONE), DATA).digest
    expired = lost = 0
    for number in range(ROUNDS):
        age(store, digest, 1)
        then = store.stat(digest).modified
        # One after the other in the first and the last round, so that both outcomes certainly occur.
        if number == 0:
            expired += store.expire(digest, then)
        turns.send(None)
        if number == ROUNDS - 1:
            turns.recv()
        time.sleep(number / ROUNDS / 1000)  # before, during or after the upload
        if number > 0:
            expired += store.expire(digest, then)
        if number < ROUNDS - 1:
            turns.recv()
        try:
            lost += content(store, digest) != DATA
        except BlobNotFound:
            lost += 1
    return expired, lost


def test_an_upload_and_a_removal_by_age_at_once(store: LocalStore) -> None:
    """An acknowledged blob is there, whether the upload or the removal by age comes first."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    uploader = context.Process(target=renew, args=(store.root, theirs))
    uploader.start()
    with ours, theirs:
        expired, lost = race(store, ours)
    uploader.join(60)
    assert uploader.exitcode == 0
    assert lost == 0
    assert 0 < expired < ROUNDS
