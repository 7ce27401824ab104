"""The files of a tree: those that are there already stay, the others are fetched and written."""

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import groupby, islice
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from wsgi_store.client.tree.entry import Entry, Kind, to_bytes
from wsgi_store.client.tree.fetch import Blobs, Fetched, Wanted, absent, concerns_one
from wsgi_store.client.tree.order import Record
from wsgi_store.client.tree.part import Part, large_name
from wsgi_store.client.tree.places import TOP, Places
from wsgi_store.client.tree.restored import FULL, Restored, Tell
from wsgi_store.client.tree.verified import open_verified
from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import WSGIStoreError
from wsgi_store.filesystem import FILE

# Bytes of the largest blob that is fetched into memory, together with others.
SMALL = 256 << 10
# Blobs and bytes of one request.
MOST = 1000
MOST_BYTES = 4 << 20
# Seconds to wait for downloads that have to stop.
PATIENCE = 1.0

Work = Callable[[], dict[Wanted, Fetched]]


class _Job(NamedTuple):
    """Small blobs that are fetched together, or one large blob, with the files that they are for."""

    files: dict[Wanted, list[Record]]
    is_large: bool


class _Stopped(Exception):
    """The restore has ended before this download."""


class Files:
    """Restores files by so many downloads at the same time; `total` is how many bytes they have."""

    def __init__(  # pylint: disable=too-many-arguments
        self,
        places: Places,
        part: Part,
        blobs: Blobs,
        algorithm: Algorithm,
        *,
        jobs: int,
        total: int,
        progress: Tell | None,
    ) -> None:
        self._places = places
        self._part = part
        self._blobs = blobs
        self._algorithm = algorithm
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, "wsgi_store-get")
        self._running: dict[Future[dict[Wanted, Fetched]], _Job] = {}
        self._waiting: dict[Digest, tuple[int, list[Record]]] = {}
        self._bytes = 0
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = Lock()
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopped = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Downloads to files hold the lock until they see this; Ctrl-C must not wait for a silent server.
        wait([future for future, job in self._running.items() if job.is_large], PATIENCE)

    def restore(self, records: Iterator[Record]) -> Iterator[Restored]:
        """Restore files, given in the order of their digests; raises what will hit the other files, too."""
        for (raw, size), group in groupby(records, key=lambda record: record[:2]):
            wanted = Digest(self._algorithm, raw), size
            # A blob of very many files is fetched more than once.
            while some := list(islice(group, MOST)):
                lacking = []
                for record in some:
                    try:
                        is_there = self._is_there(record, wanted[0])
                    except OSError as error:
                        yield self._outcome(record, error)
                        continue
                    if is_there:
                        self._add(size)
                        yield self._outcome(record, None, written=False)
                    else:
                        lacking.append(record)
                if lacking:
                    yield from self._want(wanted, lacking)
        yield from self._send()
        while self._running:
            yield from self._finish()

    def _is_there(self, record: Record, digest: Digest) -> bool:
        """Whether a file is there with its bytes; sets its mode and its time if they differ."""
        _, size, text, mode, modified = record
        path = to_bytes(text)
        if self._places.is_new(path.rpartition(b"/")[0] or TOP):
            return False
        found = self._places.look(path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        around, name = self._places.around(path)
        fd = open_verified(name, around, digest)
        if fd is None:
            return False
        try:
            found = os.fstat(fd)
            if stat.S_IMODE(found.st_mode) != mode or found.st_mtime_ns != modified:
                # Another name of the file may be elsewhere, and only its owner may change it.
                if found.st_nlink > 1 or found.st_uid != os.geteuid():
                    return False
                self._part.finish(fd, mode, modified)
        finally:
            os.close(fd)
        return True

    def _want(self, wanted: Wanted, files: list[Record]) -> Iterator[Restored]:
        digest, size = wanted
        if not size:
            is_right = digest.algorithm.new().digest() == digest.raw
            yield from self._write(b"" if is_right else absent(digest, 0), files)
        elif size > SMALL:
            # Its thread may outlive the restore; another file must not get its descriptor.
            yield from self._make_room()
            part = os.dup(self._part.fd)
            future = self._begin(_Job({wanted: files}, True), lambda: self._saved(wanted, part))
            future.add_done_callback(lambda future: os.close(part) if future.cancelled() else None)
        else:
            if digest in self._waiting or self._bytes + size > MOST_BYTES or len(self._waiting) >= MOST:
                yield from self._send()
            self._waiting[digest] = size, files
            self._bytes += size

    def _send(self) -> Iterator[Restored]:
        """Fetch the small blobs that are waiting."""
        if self._waiting:
            files = {(digest, size): files for digest, (size, files) in self._waiting.items()}
            self._waiting, self._bytes = {}, 0
            yield from self._make_room()
            self._begin(_Job(files, False), lambda: self._blobs.fetch(list(files)))

    def _make_room(self) -> Iterator[Restored]:
        """Wait until another job may begin."""
        while len(self._running) > self._jobs:
            yield from self._finish()

    def _begin(self, job: _Job, work: Work) -> Future[dict[Wanted, Fetched]]:
        future = self._pool.submit(work)
        self._running[future] = job
        return future

    def _finish(self) -> Iterator[Restored]:
        """Wait for a job, and write its files."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            job = self._running.pop(future)
            fetched = future.result()
            for wanted, files in job.files.items():
                data = fetched.pop(wanted)
                if job.is_large and not isinstance(data, Exception):
                    yield from self._spread(wanted, files)
                else:
                    yield from self._write(data, files)

    def _saved(self, wanted: Wanted, part: int) -> dict[Wanted, Fetched]:
        try:
            return self._save(wanted, part)
        finally:
            os.close(part)  # and with it the lock, before anybody is told

    def _save(self, wanted: Wanted, part: int) -> dict[Wanted, Fetched]:
        """Download a large blob to a file, unless an earlier restore has."""
        digest, size = wanted
        name = large_name(*wanted)
        fd = open_verified(name.encode(), part, digest)
        if fd is not None:
            os.close(fd)
            self._add(size)
            return {wanted: b""}
        before = 0

        def tell(done: int) -> None:
            nonlocal before
            if self._is_stopped:
                raise _Stopped
            self._add(done - before)
            before = done

        try:
            path = f"/proc/self/fd/{part}/{name}"
            self._blobs.save(digest, path, below=digest.hex, size=size, progress=tell)
        except WSGIStoreError as error:
            if not concerns_one(error):
                raise
            return {wanted: error}
        except OSError as error:
            return {wanted: OSError(error.errno, error.strerror)}  # that path means nothing to anybody
        return {wanted: b""}

    def _spread(self, wanted: Wanted, files: list[Record]) -> Iterator[Restored]:
        """Give a downloaded file its names, all but one of them by copying it."""
        name = large_name(*wanted)
        fd = os.open(name, FILE, dir_fd=self._part.fd)
        try:
            for record in files[:-1]:
                outcome = self._place(record, partial(self._part.copy, fd))
                self._add(wanted[1])
                yield outcome
            yield self._place(files[-1], partial(self._part.keep, fd, name))
        finally:
            os.close(fd)

    def _write(self, data: Fetched, files: list[Record]) -> Iterator[Restored]:
        """Write small files with the same bytes, or report why there are none."""
        if isinstance(data, Exception):
            for record in files:
                yield self._outcome(record, data)
            return
        for record in files:
            outcome = self._place(record, partial(self._part.write, data))
            self._add(len(data))
            yield outcome

    def _place(self, record: Record, make: Callable[[int, int | None], str]) -> Restored:
        """Make a file, and give it its name; raises OSError if the disk is full."""
        _, _, path, mode, modified = record
        try:
            name = make(mode, modified)
            try:
                self._places.place(name, self._part.fd, to_bytes(path))
            except BaseException:
                self._part.drop(name)
                raise
        except OSError as error:
            return self._outcome(record, error)
        return self._outcome(record, None)

    def _outcome(
        self, record: Record, error: WSGIStoreError | OSError | None, *, written: bool = True
    ) -> Restored:
        if isinstance(error, OSError) and error.errno in FULL:
            raise error
        raw, size, path, mode, modified = record
        entry = Entry(path, Kind.FILE, mode, size, modified, Digest(self._algorithm, raw))
        return Restored(entry, written and error is None, error)

    def _add(self, size: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += size
                self._progress(self._done, self._total)
