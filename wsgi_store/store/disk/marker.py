"""The marker of a store in a directory: checked at each start, read by every write, changed by migrations."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from wsgi_store.errors import StoreUnavailable, WrongStore
from wsgi_store.filesystem import (
    NO_LOCKS,
    Directory,
    NoFile,
    Root,
    lock_if_possible,
    locked,
    make_directory,
    read_file,
    set_mode,
    sync_directory,
)
from wsgi_store.store.disk.capabilities import STAGING, try_links, try_locks, try_names
from wsgi_store.store.marker import NAME, Marker, Wanted, check_unmarked, read
from wsgi_store.store.staged import StagedFile

# Exists and is locked while the marker is changed.
GATE = ".changing"
# Seconds that a change waits for the writes that are under way.
PATIENCE = 10.0
PAUSE = 0.002


def check(root: str, wanted: Wanted) -> Marker | None:
    """Return the marker, None if there is none; raises WrongStore if it is not as wanted, and OSError."""
    try:
        marker = read(_content(root), root)
    except FileNotFoundError:
        return None
    wanted.require(marker, root)
    return marker


def claim(root: str, staging: str, wanted: Wanted) -> Marker:
    """Create the directories and the marker, unless another process is faster; returns the marker.

    Raises WrongStore if the blobs there have another algorithm, and OSError.
    """
    names = (f"{path.name}/{name}" for path in _shards(root) for name in sorted(os.listdir(path)))
    check_unmarked(root, names, wanted.new.algorithm)  # before anything is written in a foreign directory
    made = [str(path) for path in (Path(root), *Path(root).parents) if not path.is_dir()]
    try:
        os.makedirs(staging, exist_ok=True)
        _claim(root, staging, wanted.new, made)
    except BaseException:
        for path in (staging, *made):
            with suppress(OSError):
                os.rmdir(path)
        raise
    marker = check(root, wanted)
    if marker is None:
        raise StoreUnavailable("the marker was removed while the store was created")
    sync_directory(root)
    return marker


class OpenMarker:
    """The marker of an open store.

    Whoever writes to the store holds a shared lock of the staging directory (flock(2)) from before it reads
    the marker until it has published or removed its blob. A change takes that lock exclusively. So that it
    gets it on a busy store, too, it closes a gate first, before which new writers wait.
    """

    def __init__(self, root: str, marker: Marker) -> None:
        self._root = root
        self._path = os.path.join(root, NAME)
        self._staging = os.path.join(root, STAGING)
        self._gate = os.path.join(root, GATE)
        # One object, because threads replace it.
        self._known: tuple[tuple[int, ...], Marker] = (), marker

    @property
    def last(self) -> Marker:
        """What was read last."""
        return self._known[1]

    def refresh(self) -> Marker:
        """Read the marker unless it is still the same file; raises StoreUnavailable."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known, marker = self._known
            if stamp != known:
                marker = read(_content(self._root), self._root)
                self._known = stamp, marker
        except OSError as error:
            # An unmounted disk is not an empty store.
            raise StoreUnavailable("the store's directory is missing") from error
        except WrongStore as error:
            raise StoreUnavailable("the store cannot be used") from error
        return marker

    @contextmanager
    def held(self) -> Iterator[Marker]:
        """Keep the marker as it is, and yield it; raises StoreUnavailable and OSError."""
        with self._lock_directory() as lock:
            self._pass_gate()
            # Closing the directory releases it. Without locks nothing can change the marker either.
            lock_if_possible(lock.fd, fcntl.LOCK_SH)
            yield self.refresh()

    def change(self, change: Callable[[Marker], Marker]) -> Marker:
        """Replace the marker by the result of `change` when no write is under way; returns it.

        Raises StoreUnavailable if a write takes longer than PATIENCE seconds, WrongStore if the file system
        has no locks, and OSError.
        """
        with ExitStack() as stack:
            lock = stack.enter_context(self._lock_directory())
            self._close_gate(stack)
            _lock_soon(lock.fd, "a server is still publishing a blob")
            before = self.refresh()
            after = change(before)
            if after.names and not before.names:
                try_links(self._staging)
            if after != before:
                self._replace(after)
            return self.refresh()

    def _replace(self, marker: Marker) -> None:
        with StagedFile.named(self._staging) as draft, Root(self._root) as root:
            os.write(draft.fd, marker.text())
            set_mode(draft.fd, 0o644)
            if marker.made is not None:
                os.utime(draft.fd, (marker.made, marker.made))
            os.fsync(draft.fd)
            draft.rename(NAME, root.fd)
            os.fsync(root.fd)

    def _lock_directory(self) -> Directory:
        try:
            return Directory(self._staging)
        except FileNotFoundError:
            self.refresh()  # or this would make a store on a disk that is not mounted
            make_directory(self._staging)
            return Directory(self._staging)

    def _pass_gate(self) -> None:
        if not os.access(self._gate, os.F_OK):  # the usual case, in which no exception has to be made
            return
        try:
            gate = os.open(self._gate, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            # A process that was killed has left the gate behind, but not its lock.
            with locked(gate, fcntl.LOCK_SH, needed=False):
                pass
        finally:
            os.close(gate)

    def _close_gate(self, stack: ExitStack) -> None:
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            gate = os.open(self._gate, flags, 0o644)
            with ExitStack() as mine:
                mine.callback(os.close, gate)
                _lock_soon(gate, "another process is changing the store")
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(self._gate), os.fstat(gate)):
                        mine.callback(os.unlink, self._gate)
                        stack.push(mine.pop_all())
                        return


def _lock_soon(fd: int, busy: str) -> None:
    """Lock a file exclusively within PATIENCE seconds; raises StoreUnavailable and WrongStore."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise StoreUnavailable(f"{busy}: try again later") from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise WrongStore("this needs a file system with locks (flock(2))") from error
            raise
        time.sleep(PAUSE)


def _claim(root: str, staging: str, marker: Marker, made: list[str]) -> None:
    try_names(staging)
    if marker.names:
        try_links(staging)
        try_locks(staging)
    # Written under another name and linked: two servers that start at once agree on one marker.
    with StagedFile.named(staging) as draft:
        os.write(draft.fd, marker.text())
        set_mode(draft.fd, 0o644)
        os.fsync(draft.fd)
        # First, because a process that finds the marker does not sync the directories above it.
        for path in made:
            sync_directory(os.path.dirname(path))
        with Root(root) as directory, suppress(FileExistsError):
            draft.link(NAME, directory.fd)


def _content(root: str) -> bytes:
    try:
        return read_file(os.path.join(root, NAME))
    except NoFile:
        return b""  # not a valid marker


def _shards(root: str) -> list[Path]:
    return sorted(Path(root).glob("[0-9a-f][0-9a-f]/"))
