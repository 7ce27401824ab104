"""Appending to an upload what one request sends."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import BadRequest, ChecksumMismatch, DigestMismatch, InconsistentLength, OffsetMismatch
from wsgi_store.hashing import Hasher
from wsgi_store.staging import Receipt, Staging
from wsgi_store.store.contract import Store
from wsgi_store.uploads.events import EventHandler
from wsgi_store.uploads.finishing import Background
from wsgi_store.uploads.following import HashCache, RunningHash
from wsgi_store.uploads.part import Part
from wsgi_store.uploads.records import FileInfo
from wsgi_store.uploads.room import Limits, Room

# Called with the number of bytes that survive.
Progress = Callable[[int], object]
# Seconds between two calls of it: each waits for the disk.
PROGRESS_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the uploads of a store share."""

    staging: Staging
    store: Store
    room: Room
    limits: Limits
    sync: bool
    told: EventHandler
    background: Background
    followers: HashCache = field(default_factory=HashCache)


@dataclass(frozen=True, slots=True)
class Said:
    """What a request says of the file and of the bytes that it appends."""

    offset: int | None
    incoming: int | None
    length: int | None
    complete: bool
    expected: Sequence[Digest]
    digests: Sequence[Digest]

    def require_place(self, here: int, known: int | None) -> None:
        """Raise OffsetMismatch or InconsistentLength if this contradicts the offset or the known length."""
        length = self.length
        if self.offset is not None and self.offset != here:
            raise OffsetMismatch(expected=here, provided=self.offset)
        if known is not None and length is not None and length != known:
            raise InconsistentLength(
                "the length differs from the one before", expected=known, provided=length
            )
        known = length if known is None else known
        end = here + (self.incoming or 0)
        if known is not None and end > known:
            raise InconsistentLength("more bytes than were announced", expected=known, provided=end)

    def require_names(self, known: Iterable[Digest]) -> None:
        """Raise BadRequest if a digest of the file contradicts a known one."""
        by_algorithm = {digest.algorithm: digest for digest in known}
        for digest in self.digests:
            if (expected := by_algorithm.get(digest.algorithm, digest)) != digest:
                raise BadRequest(
                    "the digest of the file differs from the one before",
                    expected=str(expected),
                    provided=str(digest),
                )

    def require_nothing(self, receipt: Receipt) -> None:
        """Raise what contradicts a file that is stored, or ChecksumMismatch for digests of no bytes."""
        self.require_place(receipt.size, receipt.size)
        self.require_names(receipt.names)
        if self.expected:
            _require_digests(Hasher(self.expected[0].algorithm, self.expected), receipt.size)


def follower_of(shared: Shared, part: Part, announced: FileInfo) -> RunningHash:
    """Return the hashes of the bytes of a part; only for its holder."""
    follower = shared.followers.take(part.note.key)
    # After a takeover the file is hashed from the disk, when its parts are one.
    if follower is None or part.number or follower.position > part.size:
        follower = RunningHash(shared.store.algorithms, announced.expected)
    return follower


def require_room(shared: Shared, path: str, part: Part, length: int | None, incoming: int | None) -> None:
    """Raise StorageFull or TooManyUploads if there is no room for the rest of the file or request."""
    offset = part.offset
    size = max(length or 0, offset + (incoming or 0))
    if size > offset:
        shared.staging.admit(size - offset, promise=path)
        shared.room.require(shared.limits, path, size)


def receive(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    shared: Shared,
    path: str,
    part: Part,
    announced: FileInfo,
    chunks: Iterable[Chunk],
    expected: Sequence[Digest],
    progress: Progress | None = None,
) -> RunningHash:
    """Append bytes to a part, and hash what counts; returns the hashes.

    With `expected`, their digests, they count only if they have them; otherwise raises ChecksumMismatch.
    Otherwise `progress` is told the offset now and then.
    Raises UploadLocked if another process takes over, InconsistentLength, TooLarge, StoreError and what
    `chunks` raises.
    """
    follower = follower_of(shared, part, announced)
    hasher = Hasher(expected[0].algorithm, expected) if expected else None
    if hasher is None and progress is not None:
        chunks = _telling(shared, path, part, chunks, progress)
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
            _allowed(shared, path, part, announced.length, chunks),
            update,
            size=part.size,
            before=part.start,
            max_size=announced.max_size,
            promise=path,
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


def _allowed(
    shared: Shared, path: str, part: Part, length: int | None, chunks: Iterable[Chunk]
) -> Iterator[Chunk]:
    """Pass on chunks as long as this request holds the part and the file is not longer than announced."""
    size, limits = part.offset, shared.limits
    for chunk in chunks:
        size += len(chunk)
        if length is None:
            if limits.size is not None:
                shared.room.require(limits, path, size)
        elif size > length:
            raise InconsistentLength("more bytes than were announced", expected=length)
        part.require_held()
        if chunk:  # otherwise nothing has arrived for a moment
            yield chunk


def _telling(
    shared: Shared, path: str, part: Part, chunks: Iterable[Chunk], progress: Progress
) -> Iterator[Chunk]:
    """Pass on chunks, and tell now and then how many bytes survive."""
    told = time.monotonic()
    for chunk in chunks:
        # Those that were passed on before are written by now.
        if time.monotonic() - told >= PROGRESS_PAUSE:
            part.keep(path, sync=shared.sync)
            progress(part.offset)
            told = time.monotonic()
        yield chunk


def _require_digests(hasher: Hasher, offset: int) -> None:
    """Raise ChecksumMismatch if the bytes from the offset on lack a digest."""
    try:
        hasher.digests()
    except DigestMismatch as error:
        raise ChecksumMismatch(**error.evidence, offset=offset) from None


def _ignored(_: Chunk) -> None:
    """Leave bytes for later."""
