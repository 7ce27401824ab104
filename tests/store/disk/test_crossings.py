"""Operations on a store with further names that others cross at one exact call, and what is left then."""

import errno
import fcntl
import os
import shutil
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.crossing import crossed
from tests.support.faults import disk, remount
from tests.support.kinds import digest_of
from tests.support.rounds import Process, Round
from tests.support.users import as_nobody
from wsgi_store.digest import Algorithm
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.contract import Added, Durability
from wsgi_store.store.disk import shard
from wsgi_store.store.marker import Marker
from wsgi_store.store.staged import LINK_AGE, sweep
from wsgi_store.testing.helpers import COLLIDING

MD5, SHA1, SHA256 = Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256
NAMED = Marker(SHA256, (MD5, SHA1))
MIGRATING = Marker(SHA256, (MD5, SHA1), migrating=MD5)
DATA = b"some bytes"
OTHERS = b"others"


@pytest.fixture(name="named")
def fixture_named(tmp_path: Path) -> Round:
    """A store with further names."""
    return Round(tmp_path, 0, NAMED)


@pytest.fixture(name="migrating")
def fixture_migrating(tmp_path: Path) -> Round:
    """A store that is being migrated from md5 to sha256, and has names by sha1."""
    return Round(tmp_path, 1, MIGRATING, Durability.FULL)


def hashed(process: Process, algorithm: Algorithm, data: bytes) -> Hashed:
    """A blob as a process knows it that has read it under this name."""
    with closing(process.store.open(digest_of(algorithm, data))) as reader:
        assert reader.read() == data
        digests = {one: digest_of(one, data) for one in process.store.refresh()}
        return Hashed(digest_of(algorithm, data), reader.stamp, digests)


def exclusive(_: int, operation: int) -> bool:
    """Whether this call of flock(2) waits for an exclusive lock."""
    return operation == fcntl.LOCK_EX


def replace(path: Path, data: bytes) -> None:
    """Replace a file as rsync does."""
    draft = path.with_name("draft")
    draft.write_bytes(data)
    draft.rename(path)


def is_draft(name: object) -> bool:
    """Whether this may be the name of a draft in the staging directory."""
    return isinstance(name, str) and len(name) == 32


def staged(one: Round) -> list[str]:
    """The names in the staging directory."""
    return os.listdir(one.root / ".staging")


@pytest.mark.parametrize("by", [MD5, SHA256])
def test_a_migration_is_killed_right_before_a_removal(migrating: Round, by: Algorithm) -> None:
    """A file that got its primary name after the removal had looked is removed under both names."""
    old = migrating.put_file(MD5, DATA)
    new = migrating.path(digest_of(SHA256, DATA))
    new.parent.mkdir()
    if by is SHA256:
        new.hardlink_to(old)
        replace(old, DATA)
    process = migrating.process()

    def link() -> None:
        (old if by is SHA256 else new).unlink(missing_ok=True)
        if by is SHA256:
            old.hardlink_to(new)
        else:
            new.hardlink_to(old)

    with crossed(fcntl, "flock", exclusive, link) as seen:
        process.store.remove(digest_of(by, DATA))
    assert seen
    assert not migrating.settled(DATA, [MD5, SHA256])
    assert not old.exists() and not new.exists()


def test_a_blob_that_is_replaced_for_ever(named: Round) -> None:
    """A removal that never finds the file it looked at ends with an error, and removes nothing."""
    process = named.process()
    process.upload(DATA)
    path = named.path(digest_of(SHA256, DATA))
    with ExitStack() as stack:

        def put_another() -> None:
            stack.enter_context(path.open("rb"))  # no later file gets the same inode number
            replace(path, DATA)

        with crossed(fcntl, "flock", exclusive, put_another, times=1000):
            with pytest.raises(StoreUnavailable, match="kept being replaced while it was removed"):
                process.store.remove(digest_of(MD5, DATA))
    assert named.settled(DATA, NAMED.algorithms)


def test_a_damaged_blob_that_is_replaced_for_ever(named: Round) -> None:
    """A damaged file that changes all the time is not said to be missing: it is still served."""
    process = named.process()
    process.upload(DATA)
    path = named.path(digest_of(SHA256, DATA))
    replace(path, OTHERS)
    with crossed(fcntl, "flock", exclusive, lambda: replace(path, OTHERS), times=1000):
        with pytest.raises(StoreUnavailable, match="kept being replaced while it was moved to quarantine"):
            process.store.quarantine(digest_of(SHA256, DATA))
    assert path.read_bytes() == OTHERS
    assert process.store.quarantine(digest_of(SHA256, DATA))
    with pytest.raises(BlobNotFound):
        process.store.quarantine(digest_of(SHA256, DATA))


def test_a_draft_of_a_name_is_swept(named: Round) -> None:
    """A process that was stopped for long before it renamed its link makes another one."""
    named.put_file(MD5, DATA)
    process = named.process()
    place = named.root / ".staging"

    def sweep_late() -> None:
        for link in filter(Path.is_symlink, place.iterdir()):
            then = link.lstat().st_mtime - LINK_AGE - 1
            os.utime(link, (then, then), follow_symlinks=False)
        sweep(str(place))

    with crossed(os, "rename", lambda *_: True, sweep_late) as seen:
        assert process.upload(DATA).added is Added.HELD
    assert seen
    assert named.settled(DATA, NAMED.algorithms)
    assert not named.files(MD5)
    assert not [one for one in place.iterdir() if one.is_symlink()]


@pytest.mark.timeout(20)
def test_a_shard_is_removed_before_a_name_is_renamed(migrating: Round) -> None:
    """A migration whose old directory was removed ends with an error; the blob keeps its primary name."""
    old = migrating.put_file(MD5, DATA)
    process = migrating.process()
    found = hashed(process, MD5, DATA)
    with crossed(os, "rename", lambda *_: True, lambda: shutil.rmtree(old.parent)):
        with pytest.raises(StoreUnavailable, match="cannot rename the blobs: No such file"):
            process.names.adopt([found])
    assert process.holds(DATA, SHA256)
    assert not staged(migrating)
    process.upload(DATA)
    assert migrating.settled(DATA, MIGRATING.algorithms)


@pytest.mark.timeout(20)
def test_a_shard_is_removed_before_an_upload_renames_a_name(migrating: Round) -> None:
    """An upload whose name's directory was removed makes it again, and has all names."""
    old = migrating.put_file(MD5, DATA)
    process = migrating.process()
    with crossed(os, "rename", lambda *_: True, lambda: shutil.rmtree(old.parent)) as seen:
        process.upload(DATA)
    assert seen
    assert migrating.settled(DATA, MIGRATING.algorithms)
    assert not staged(migrating)


@pytest.mark.parametrize("kept", [False, True])
def test_a_directory_in_the_place_of_a_name(migrating: Round, *, kept: bool) -> None:
    """A directory that somebody puts in the place of an old name stays, and is told as the reason."""
    old = migrating.put_file(MD5, DATA)
    process = migrating.process()
    found = hashed(process, MD5, DATA)

    def put_directory() -> None:
        old.unlink()
        old.mkdir()

    def fail() -> None:
        if kept:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with crossed(os, "rename", lambda *_: True, put_directory), crossed(os, "unlink", is_draft, fail):
        with pytest.raises(StoreUnavailable, match="cannot rename the blobs: Is a directory"):
            process.names.adopt([found])
    assert old.is_dir()
    assert process.holds(DATA, SHA256)
    assert len(staged(migrating)) == kept


def test_a_shard_removed_since_its_files_were_read(migrating: Round) -> None:
    """Files whose directory is gone are reported as gone, and get no names."""
    process = migrating.process()
    old = migrating.put_file(MD5, DATA)
    found = hashed(process, MD5, DATA)
    shutil.rmtree(old.parent)
    assert process.names.adopt([found]) == [Adopted.GONE]
    assert not list(migrating.tree())


def test_a_shard_removed_while_files_are_listed(migrating: Round) -> None:
    """The files in the other directories are still listed."""
    process = migrating.process()
    paths = sorted(migrating.put_file(MD5, data) for data in (DATA, OTHERS))
    gone, left = paths
    with crossed(os, "open", lambda path, *_: path == str(gone.parent), lambda: shutil.rmtree(gone.parent)):
        assert [blob.digest.hex for blob in process.names.strays(MD5)] == [left.name]


def test_a_file_that_was_hashed_for_another_marker(migrating: Round) -> None:
    """A file is left as it is if its primary name is not known, or if this is its primary name."""
    process = migrating.process()
    old = migrating.put_file(MD5, DATA)
    found = hashed(process, MD5, DATA)
    process.names.change_marker(lambda _: Marker(Algorithm.SHA512, (MD5,), migrating=MD5))
    assert process.names.adopt([found]) == [Adopted.CHANGED]
    process.names.change_marker(lambda _: Marker(MD5, (SHA256,)))
    assert process.names.adopt([found]) == [Adopted.CHANGED]
    assert [path for path, _ in migrating.tree()] == [old]
    assert process.holds(DATA, MD5)


@pytest.mark.parametrize("call", ["open_file", "has_digest"])
def test_the_file_under_a_primary_name_is_removed(migrating: Round, call: str) -> None:
    """A file is read again when what had its primary name is removed while it is looked at."""
    migrating.put_file(MD5, DATA)
    process = migrating.process()
    found = hashed(process, MD5, DATA)
    there = migrating.put_file(SHA256, DATA)
    there.write_bytes(OTHERS)
    with crossed(shard, call, lambda *_: True, there.unlink) as seen:
        assert process.names.adopt([found]) == [Adopted.CHANGED]
    assert len(seen) == 1
    assert process.names.adopt([found]) == [Adopted.NAMED]


def test_a_file_of_another_user(memory: Path) -> None:
    """A file that this user may not link keeps its old name, and is reported (fs.protected_hardlinks)."""
    one = Round(memory, 0, MIGRATING)
    old = one.put_file(MD5, DATA)
    process = one.process()
    found = hashed(process, MD5, DATA)
    with as_nobody(one.root):
        assert process.names.adopt([found]) == [Adopted.UNLINKABLE]
    assert old.is_file() and not old.is_symlink()
    assert process.holds(DATA, MD5)
    assert not one.files(SHA256)


def test_a_disk_that_turned_read_only(tmp_path: Path) -> None:
    """Nothing is said to have become of files that cannot be linked at the moment; later they can."""
    with disk("tmpfs", tmp_path / "disk", 1 << 20):
        one = Round(tmp_path / "disk", 0, MIGRATING)
        one.put_file(MD5, DATA)
        one.path(digest_of(SHA256, DATA)).parent.mkdir()
        process = one.process()
        found = hashed(process, MD5, DATA)
        remount(tmp_path / "disk", "ro")
        with pytest.raises(StoreUnavailable, match="cannot rename the blobs: Read-only file system"):
            process.names.adopt([found])
        assert process.holds(DATA, MD5)
        remount(tmp_path / "disk", "rw")
        assert process.names.adopt([found]) == [Adopted.NAMED]
        assert one.settled(DATA, [SHA256, MD5])


def test_a_backup_by_hard_links_of_a_file_with_an_ambiguous_name(named: Round, tmp_path: Path) -> None:
    """Removing a blob with several links leaves the other blob that has its md5 name as it is."""
    process = named.process()
    first, second = COLLIDING
    process.upload(first)
    assert process.upload(second).ambiguous == (MD5,)
    (tmp_path / "backup").hardlink_to(named.path(digest_of(SHA256, second)))
    process.store.remove(digest_of(SHA256, second))
    assert not process.holds(second, SHA256)
    assert process.holds(first, MD5) and process.holds(first, SHA256)
    assert (tmp_path / "backup").read_bytes() == second


def test_a_name_is_taken_over_while_it_is_compared(named: Round) -> None:
    """An upload is not told that a name is another blob's if that blob has lost it meanwhile."""
    first, second = COLLIDING
    process, other = named.process(), named.process()
    process.upload(first)
    name = digest_of(MD5, second).hex
    looks = 0

    def second_look(path: str) -> bool:
        nonlocal looks
        looks += path == name
        return path == name and looks == 2

    def take_over() -> None:
        other.remove(first, SHA256)
        assert other.upload(second).ambiguous == ()

    with crossed(os, "readlink", second_look, take_over) as seen:
        assert process.upload(second).ambiguous == ()
    assert seen
    assert process.holds(second, MD5)


@pytest.mark.parametrize("times", [1, 1000])
def test_directories_are_removed_while_names_are_given(named: Round, times: int) -> None:
    """A name is given however often its directory is removed, up to a limit; the blob stays."""
    process = named.process()
    process.upload(DATA)
    name = named.path(digest_of(MD5, DATA))
    found = hashed(process, SHA256, DATA)
    name.unlink()
    with crossed(os, "symlink", lambda _, path: path == name.name, name.parent.rmdir, times) as seen:
        if times == 1:
            assert process.names.give_names([found]) == {found.digest: []}
        else:
            with pytest.raises(StoreUnavailable, match="kept being removed while it was given") as caught:
                process.names.give_names([found])
            assert caught.value.evidence == {"hash": name.name}
    assert len(seen) in (1, 100)
    assert process.holds(DATA, SHA256)
    assert process.holds(DATA, MD5) == (times == 1)
