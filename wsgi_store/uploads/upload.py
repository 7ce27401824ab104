"""One upload: a file that its client may send in pieces, over broken lines and to several processes."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import DigestMismatch, InconsistentLength, OffsetMismatch, UploadNotFound
from wsgi_store.filesystem import Directory, disk_errors
from wsgi_store.staging import Receipt
from wsgi_store.uploads import contents, records, removal
from wsgi_store.uploads.events import Event
from wsgi_store.uploads.finishing import Publishing, finish
from wsgi_store.uploads.following import RunningHash
from wsgi_store.uploads.listed import look
from wsgi_store.uploads.part import Part, claim, last_of
from wsgi_store.uploads.receiving import Progress, Said, Shared, follower_of, receive, require_room
from wsgi_store.uploads.records import FileInfo


@dataclass(frozen=True, slots=True)
class State:
    """How far an upload is."""

    offset: int
    """How many bytes it has, all of them synced; the client continues there."""
    length: int | None
    """How many bytes it will have, if that is known."""
    expires: float
    """When it is forgotten if no more bytes arrive, in seconds since the epoch."""
    receipt: Receipt | None = None
    """The result, once the file is stored."""


class Upload:
    """One upload."""

    def __init__(self, shared: Shared, path: str, identity: str, announced: FileInfo) -> None:
        self._shared = shared
        self._path = path
        self.identity = identity
        self.announced = announced

    def state(self, publishing: Publishing = None) -> State:
        """Sync what was received, and return the state of the upload; raises what `append` raises."""
        return self.append((), None, publishing=publishing)

    def append(  # pylint: disable=too-many-arguments,too-many-locals
        self,
        chunks: Iterable[Chunk],
        offset: int | None,
        *,
        incoming: int | None = None,
        length: int | None = None,
        complete: bool = False,
        expected: Sequence[Digest] = (),
        digests: Sequence[Digest] = (),
        publishing: Publishing = None,
        progress: Progress | None = None,
    ) -> State:
        """Append bytes at an offset, by default at the end, and store the file when it is complete.

        `incoming` is the number of bytes if it is known, `length` that of the file. `complete` says that
        these are its last bytes. With `expected`, their digests, they count only if they have them. `digests`
        are those of the whole file, which are announced from then on.
        `publishing` is entered around the publication. `progress` is called now and then with an offset whose
        bytes are safe.

        Bytes that arrived before an error count, too. A file that a killed request has left complete is
        stored first. Raises UploadLocked while another request uses the upload, or if storing it takes longer
        than a second; UploadNotFound, OffsetMismatch, InconsistentLength, TooLarge, DigestMismatch,
        StoreError and whatever `chunks` and `publishing` raise; BadRequest if a digest differs from one that
        was announced before. The upload is removed if the file lacks an announced digest.
        """
        said = Said(offset, incoming, length, complete, expected, digests)
        self._shared.background.wait(self._path)
        with ExitStack() as stack:
            folder = stack.enter_context(self._opened()).fd
            part = self._claimed(folder)
            if part is None:
                return self._done(folder, said)
            stack.enter_context(part)
            if part.taken_over:
                self._shared.told(Event.TAKEN_OVER, self.identity, part.offset)
            self._require_unexpired(part.modified)
            self._reread(folder, part)
            if self._is_complete(part):
                # No other request can take over from here on.
                part.keep(self._path, sync=self._shared.sync, complete=True)
                receipt = self._stored_in_background(folder, part, stack.pop_all(), publishing)
                said.require_nothing(receipt)
                return self._told(receipt, time.time())
            follower = self._received(folder, part, said, chunks, progress)
            if self._is_complete(part):
                return self._told(self._stored(folder, part, follower, publishing), time.time())
            self._shared.followers.keep(part.note.key, follower)
            length = self.announced.length
            if complete:
                raise InconsistentLength(
                    "the file ends before its length", expected=length, provided=part.offset
                )
            return State(part.offset, length, self.announced.expires(part.modified))

    def _received(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self, folder: int, part: Part, said: Said, chunks: Iterable[Chunk], progress: Progress | None
    ) -> RunningHash:
        """Append bytes and note what the request announces; returns the hashes of what counts."""
        announced = self._agreed(part, said)
        if said.offset is not None:
            require_room(self._shared, self._path, part, announced.length, said.incoming)
        if not said.expected:
            self._announce(folder, announced)
        follower = receive(self._shared, self._path, part, announced, chunks, said.expected, progress)
        if said.complete and announced.length is None:
            announced = replace(announced, length=part.offset)
        part.keep(self._path, sync=self._shared.sync, complete=part.offset == announced.length)
        # Only now: a request whose bytes lack their digest, or that was fenced off, changes nothing.
        self._announce(folder, announced)
        return follower

    @contextmanager
    def _opened(self) -> Iterator[Directory]:
        with disk_errors("cannot use the upload"):
            try:
                with Directory(self._path) as folder:
                    yield folder
            except FileNotFoundError:
                raise UploadNotFound from None

    def _claimed(self, folder: int) -> Part | None:
        """Return the part to which bytes are appended; None if the upload is done."""
        for _ in range(2):  # it may become done meanwhile
            if records.exists(records.DONE, folder):
                return None
            with suppress(FileNotFoundError):
                return claim(folder, self._path, sync=self._shared.sync)
        # Without syncs a power failure may have lost files of it, which makes it useless.
        if records.leads(self._path, folder):
            self.discard()
        raise UploadNotFound

    def _done(self, folder: int, said: Said) -> State:
        """Tell the result of an upload that is done."""
        finished = os.stat(records.DONE, dir_fd=folder).st_mtime
        self._require_unexpired(finished)
        records.clear(folder)  # whoever finished it may have been killed
        try:
            receipt = records.receipt(folder)
        except records.Damaged:
            self.discard()
            receipt = None
        if receipt is None:
            raise UploadNotFound
        try:
            said.require_nothing(receipt)
        except (OffsetMismatch, InconsistentLength) as error:
            error.evidence["stored"] = True
            raise
        return self._told(receipt, finished)

    def _require_unexpired(self, modified: float) -> None:
        """Remove the upload and raise UploadNotFound if it has expired."""
        if self.announced.expires(modified) < time.time():
            self.discard(Event.EXPIRED)
            raise UploadNotFound

    def _reread(self, folder: int, part: Part) -> None:
        """Read what other requests may have announced until this one held the upload."""
        try:
            self.announced = records.announced(records.read(records.ANNOUNCED, folder))
        except records.Damaged:
            self.discard()
            raise UploadNotFound from None
        if self.announced.length is None and part.is_complete:
            # Its last byte may have been published.
            self.announced = replace(self.announced, length=part.offset)

    def _announce(self, folder: int, announced: FileInfo) -> None:
        """Write what was announced to the disk, if it is new."""
        if announced != self.announced:
            if more := set(announced.expected) - set(self.announced.expected):
                # First, so that whoever knows a digest of the upload also finds it.
                with Directory(os.path.dirname(self._path)) as own:
                    contents.note(own.fd, more, self.identity, sync=self._shared.sync)
            records.write(announced, folder, sync=self._shared.sync)
            self.announced = announced

    def _is_complete(self, part: Part) -> bool:
        return part.offset == self.announced.length

    def _agreed(self, part: Part, said: Said) -> FileInfo:
        """Compare what the client says with what is known; returns both."""
        known = self.announced.length
        said.require_place(part.offset, known)
        said.require_names(self.announced.expected)
        known = said.length if known is None else known
        size = max(part.offset + (said.incoming or 0), known or 0)
        self._shared.staging.limit(size, self.announced.max_size)
        return self.announced.joined(FileInfo(length=known, expected=tuple(said.digests)))

    def _stored_in_background(
        self, folder: int, part: Part, held: ExitStack, publishing: Publishing
    ) -> Receipt:
        """Store the complete file of a killed request, in a thread that gets the lock."""
        follower = follower_of(self._shared, part, self.announced)

        def store() -> Receipt:
            with held:
                return self._stored(folder, part, follower, publishing)

        return self._shared.background.store(self._path, store)

    def _stored(self, folder: int, part: Part, follower: RunningHash, publishing: Publishing) -> Receipt:
        shared = self._shared
        try:
            expected = self.announced.expected
            receipt = finish(shared.staging, folder, part, expected, follower, publishing, self._path)
        except DigestMismatch:
            self.discard()
            raise
        records.finish(folder, receipt, sync=shared.sync)
        shared.told(Event.FINISHED, self.identity, receipt.size)
        return receipt

    def join(self, announced: FileInfo) -> bool:
        """Note what else was announced for the same file; False if the upload is done.

        Raises UploadLocked, UploadNotFound and StoreError.
        """
        with self._opened() as folder:
            part = self._claimed(folder.fd)
            if part is None:
                return False
            with part:
                self._require_unexpired(part.modified)
                self._reread(folder.fd, part)
                both = self.announced.joined(announced)
                if both != self.announced:
                    self._announce(folder.fd, both)
                return True

    def settle(self, receipt: Receipt) -> None:
        """Finish the upload because the store holds the blob; raises what `join` raises."""
        with self._opened() as folder:
            part = self._claimed(folder.fd)
            if part is not None:
                with part:
                    records.finish(folder.fd, receipt, sync=self._shared.sync)
                self._shared.told(Event.FINISHED, self.identity, receipt.size)

    def make_way(self) -> bool:
        """Remove the upload unless it is done, which returns False; raises what `join` raises."""
        with self._opened() as folder:
            part = self._claimed(folder.fd)
            if part is None:
                self._require_unexpired(os.stat(records.DONE, dir_fd=folder.fd).st_mtime)
                return False
            with part:
                self.discard()
            return True

    def remove(self) -> None:
        """Remove the upload; a request that appends to it ends. Raises UploadNotFound and StoreError.

        Raises UploadLocked while the file is being stored.
        """
        with self._opened() as folder:
            if not records.exists(records.DONE, folder.fd):
                number, start = last_of(folder.fd)
                # Without the last part, whoever fenced off the one before was killed. A full disk may have no
                # room for the mark.
                with suppress(OSError), Part(folder.fd, number, start) as part:
                    part.fence(sync=False, held=part.lock(time.monotonic()))
            self.discard()

    def discard(self, why: Event = Event.REMOVED) -> None:
        """Remove the upload in one step, and then its files."""
        size = 0
        with suppress(OSError, ValueError):  # it may be damaged
            size = look(self._path, self.announced).size
        removal.remove(self._path)
        self._shared.told(why, self.identity, size)

    def _told(self, receipt: Receipt, finished: float) -> State:
        return State(receipt.size, receipt.size, self.announced.expires(finished), receipt)
