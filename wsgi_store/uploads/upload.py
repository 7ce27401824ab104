"""One upload: a file that its client may send in pieces, over broken lines and to several processes."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import (
    ChecksumMismatch,
    DigestMismatch,
    InconsistentLength,
    OffsetMismatch,
    UploadNotFound,
)
from wsgi_store.filesystem import Directory, disk_errors
from wsgi_store.hashing import Hasher, blocks
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Added, Store
from wsgi_store.uploads import records, removal
from wsgi_store.uploads.events import Event, Told
from wsgi_store.uploads.following import Follower, Followers
from wsgi_store.uploads.listed import PROMISED, look
from wsgi_store.uploads.part import Part, claim, end_of, last_of
from wsgi_store.uploads.records import Announced
from wsgi_store.uploads.room import Limits, Room

Publishing = AbstractContextManager[object] | None


@dataclass(frozen=True, slots=True)
class State:
    """How far an upload is."""

    offset: int
    """How many bytes it has, all of which survive; the client continues behind them."""
    length: int | None
    """How many bytes it will have, if that is known."""
    expires: float
    """When it is forgotten if no more bytes arrive, in seconds since the epoch."""
    receipt: Receipt | None = None
    """The result, once the file is stored."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the uploads of a store share."""

    staging: Staging
    store: Store
    room: Room
    limits: Limits
    sync: bool
    told: Told
    followers: Followers = field(default_factory=Followers)


class Upload:
    """One upload."""

    def __init__(self, shared: Shared, path: str, identity: str, announced: Announced) -> None:
        self._shared = shared
        self._path = path
        self.identity = identity
        self.announced = announced

    def state(self, publishing: Publishing = None) -> State:
        """Make what was received survive, and return how far the upload is.

        A complete file is stored now, if a request was killed before it could do so. Raises what `append`
        raises.
        """
        return self.append((), None, publishing=publishing)

    def append(  # pylint: disable=too-many-arguments
        self,
        chunks: Iterable[Chunk],
        offset: int | None,
        *,
        incoming: int | None = None,
        length: int | None = None,
        complete: bool = False,
        expected: Sequence[Digest] = (),
        publishing: Publishing = None,
    ) -> State:
        """Append bytes at an offset, by default at the end, and store the file when it is complete.

        `incoming` is the number of bytes if it is known, `length` that of the file. `complete` says that
        these are its last bytes. With `expected`, their digests, they count only if they have them.
        `publishing` is entered around the publication.

        Bytes that arrived before an error count, too. Raises UploadLocked while another request uses the
        upload, UploadNotFound, OffsetMismatch, InconsistentLength, TooLarge, DigestMismatch, StoreError and
        whatever `chunks` and `publishing` raise. The upload is removed if the file lacks an announced digest.
        """
        with self._opened() as folder:
            part = self._claimed(folder.fd)
            if part is None:
                return self._done(folder.fd, offset, incoming, length)
            with part:
                if part.taken_over:
                    self._shared.told(Event.TAKEN_OVER, self.identity, part.offset)
                self._require_young(part.modified)
                tells_length = self._agree(part, offset, incoming, length)
                if offset is not None:
                    self._require_room(part, incoming or 0)
                if tells_length and not expected:
                    records.write(self.announced, folder.fd, sync=self._shared.sync)
                follower = self._received(part, chunks, expected)
                if tells_length and expected:
                    # Only now: a request whose bytes lack their digest changes nothing.
                    records.write(self.announced, folder.fd, sync=self._shared.sync)
                if tells_length:
                    self._shared.room.changed()  # now it has a promise
                known = self.announced.length
                done_now = part.offset == known if known is not None else complete
                part.keep(self._path, sync=self._shared.sync, complete=done_now or part.is_complete)
                if not part.note.complete:
                    self._shared.followers.keep(part.note.key, follower)
                    return State(part.offset, known, self.announced.expires(part.modified))
                receipt = self._finish(folder.fd, part, follower, publishing)
                self._shared.told(Event.FINISHED, self.identity, receipt.size)
                return self._told(receipt, time.time())

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
        # Without syncs a power failure may have lost files of it, so that nobody can use it any more.
        if records.leads(self._path, folder):
            self.discard()
        raise UploadNotFound

    def _done(self, folder: int, offset: int | None, incoming: int | None, length: int | None) -> State:
        """Tell the result of an upload that is done."""
        finished = os.stat(records.DONE, dir_fd=folder).st_mtime
        self._require_young(finished)
        records.clear(folder)  # whoever finished it may have been killed
        try:
            receipt = records.receipt(folder)
        except records.Damaged:
            self.discard()
            receipt = None
        if receipt is None:
            raise UploadNotFound
        _compare(receipt.size, receipt.size, offset, incoming, length)
        return self._told(receipt, finished)

    def _require_young(self, modified: float) -> None:
        """Remove the upload and raise UploadNotFound if it has expired."""
        if self.announced.expires(modified) < time.time():
            self.discard(Event.EXPIRED)
            raise UploadNotFound

    def _agree(self, part: Part, offset: int | None, incoming: int | None, length: int | None) -> bool:
        """Compare what the client says with what is known; returns whether it tells the length now."""
        known = self.announced.length
        if known is None and part.is_complete:
            # Its last byte may have been published.
            known = part.offset
        _compare(part.offset, known, offset, incoming, length)
        tells_length = known is None and length is not None
        known = length if known is None else known
        self._shared.staging.limit(max(part.offset + (incoming or 0), known or 0), self.announced.max_size)
        self.announced = replace(self.announced, length=known)
        return tells_length

    def _require_room(self, part: Part, incoming: int) -> None:
        """Raise StorageFull or TooManyUploads unless there is room for the rest, or for what comes now."""
        shared, offset = self._shared, part.offset
        size = max(self.announced.length or 0, offset + incoming)
        if size > offset:
            shared.staging.admit(size - offset, promise=self._path)
            shared.room.require(shared.limits, self._path, size)
            if part.modified + PROMISED < time.time():
                shared.room.changed()  # it has a promise again

    def _received(self, part: Part, chunks: Iterable[Chunk], expected: Sequence[Digest]) -> Follower:
        """Append bytes, and hash what counts; returns the hashes."""
        shared = self._shared
        follower = shared.followers.take(part.note.key)
        # After a takeover the file is hashed from the disk, when its parts are one.
        if follower is None or part.number or follower.position > part.size:
            follower = Follower(shared.store.algorithms, self.announced.expected)
        hasher = Hasher(expected[0].algorithm, expected) if expected else None
        begin = part.offset
        if hasher is not None:
            part.expect()
            update: Callable[[Chunk], object] = hasher.update
        elif part.number:
            update = _ignored
        else:
            update = follower.following(part.fd, part.size)
        try:
            shared.staging.fill(
                part,
                self._allowed(part, chunks),
                update,
                size=begin,
                max_size=self.announced.max_size,
                promise=self._path,
            )
            if hasher is not None:
                _require_digests(hasher, begin)
        except BaseException:
            if hasher is not None:
                part.cut()
            elif follower.position <= part.size and not part.number:
                shared.followers.keep(part.note.key, follower)
            raise
        return follower

    def _allowed(self, part: Part, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass on chunks as long as this request holds the part and the file is not longer than announced."""
        size, length, limits = part.offset, self.announced.length, self._shared.limits
        for chunk in chunks:
            size += len(chunk)
            if length is None:
                if limits.size is not None:
                    self._shared.room.require(limits, self._path, size)
            elif size > length:
                raise InconsistentLength("more bytes than were announced", expected=length)
            part.require_held()
            if chunk:  # otherwise nothing has arrived for a moment
                yield chunk

    def _finish(self, folder: int, part: Part, follower: Follower, publishing: Publishing) -> Receipt:
        """Store the complete file, and remove its parts."""
        try:
            if part.number:
                receipt = self._joined(folder, part, publishing)
            else:
                follower.catch_up(part.fd, part.size)
                part.digests = follower.digests()
                # A killed request may have published it.
                published = part.is_published
                receipt = self._shared.staging.publish(part, part.size, publishing)
                if published:
                    receipt = replace(receipt, added=Added.CREATED)
        except DigestMismatch:
            self.discard()
            raise
        records.finish(folder, receipt, sync=self._shared.sync)
        return receipt

    def _joined(self, folder: int, last: Part, publishing: Publishing) -> Receipt:
        """Store the bytes that count as one new file: whoever was fenced off may still write to the parts."""
        algorithm, *names = self._shared.store.algorithms
        hasher = Hasher(algorithm, self.announced.expected, names)
        with self._shared.staging.create() as whole:
            size = self._shared.staging.fill(
                whole, self._bytes(folder, last), hasher.update, promise=self._path
            )
            whole.digests = hasher.digests()
            return self._shared.staging.publish(whole, size, publishing)

    def _bytes(self, folder: int, last: Part) -> Iterator[bytes]:
        start = 0
        for number in range(last.number):
            left = end_of(number, folder) or 0
            with Part(folder, number, start) as part:
                for block in blocks(part.fd):
                    yield block[:left]
                    left -= len(block)
                    if left <= 0:
                        break
        yield from blocks(last.fd)

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


def _compare(
    here: int, known: int | None, offset: int | None, incoming: int | None, length: int | None
) -> None:
    """Raise OffsetMismatch or InconsistentLength if a request contradicts what is known."""
    if offset is not None and offset != here:
        raise OffsetMismatch(expected=here, provided=offset)
    if known is not None and length is not None and length != known:
        raise InconsistentLength("the length differs from the one before", expected=known, provided=length)
    known = length if known is None else known
    end = here + (incoming or 0)
    if known is not None and end > known:
        raise InconsistentLength("more bytes than were announced", expected=known, provided=end)


def _require_digests(hasher: Hasher, offset: int) -> None:
    """Raise ChecksumMismatch if the bytes from the offset on lack a digest."""
    try:
        hasher.digests()
    except DigestMismatch as error:
        raise ChecksumMismatch(**error.evidence, offset=offset) from None


def _ignored(_: Chunk) -> None:
    """Leave bytes for later."""
