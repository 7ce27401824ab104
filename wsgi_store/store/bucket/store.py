"""Blobs as objects in a bucket (S3 and the like): `ab/abcdef…` below the prefix of the store."""

import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace

import obstore

from wsgi_store.digest import Algorithm, Digest, parse_any
from wsgi_store.errors import BlobNotFound, StoreError, StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.bucket import listing
from wsgi_store.store.bucket.adoption import Adoption
from wsgi_store.store.bucket.batch import add_all
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keeping import NameKeeping
from wsgi_store.store.bucket.keys import blob_keys, described, key_of, quarantine_key_of
from wsgi_store.store.bucket.litter import litter
from wsgi_store.store.bucket.lock import locked, remove
from wsgi_store.store.bucket.lookup import find_all
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import follow
from wsgi_store.store.bucket.parts import Parts
from wsgi_store.store.bucket.places import find
from wsgi_store.store.bucket.publish import publish
from wsgi_store.store.bucket.reader import BEYOND, ObjectReader, ask, compare, open_at, reading
from wsgi_store.store.bucket.removal import remove_blob
from wsgi_store.store.bucket.renewal import Renewing
from wsgi_store.store.bucket.shared import Shared
from wsgi_store.store.bucket.signing import Signer
from wsgi_store.store.bucket.upload import SINGLE_PUT_MAX
from wsgi_store.store.bucket.version import look, metadata, version_of
from wsgi_store.store.contract import Added, Blob, Publication, Remote
from wsgi_store.store.marker import Wanted
from wsgi_store.store.staged import StagedFile

STAGING = ".staging"


class ObjectStore(NameKeeping, Renewing):
    """A store in a bucket, which any number of servers may use at once.

    The time of an object is that of its last PUT and cannot be set. So an upload of an existing blob leaves
    the object alone if it is younger than half of `granularity`, and writes an older one anew. A blob
    younger than `granularity` does not expire. Renewing and expiring hold the lock of the digest and look
    again: a renewal happens either before the removal, which then sees another time, or after it, and then
    creates the blob. An upload that renews nothing has seen a blob that could not expire for half of
    `granularity`, which allows for wrong clocks: engines refuse requests signed a quarter of an hour off.
    """

    granularity = 3600.0
    keeps_staged = False  # the bytes are acknowledged when they are in the bucket
    read_only = False
    bucket_kind = MarkedBucket
    # Seconds between two looks whether the quarantine is empty, instead of one for each upload of a new
    # blob. A blob stays visible for as long after it was copied to quarantine, so that every upload that
    # creates it anew has looked since.
    seen = 0.25

    def __init__(
        self,
        url: str,
        algorithm: Algorithm | None,
        remote: Remote,
        *,
        names: Sequence[Algorithm] | None = None,
        create: bool = False,
    ) -> None:
        self._bucket = self.bucket_kind(url, remote, Wanted.of(algorithm, names, create))
        self._signer = Signer(self._bucket) if self._bucket.scheme == "s3" else None
        self._looked = float("-inf"), False
        # Threads that upload at once look once.
        self._look = Shared(self._look_again)
        self.staging_directory = os.path.join(os.path.abspath(remote.staging), STAGING)
        self._adoption = Adoption(self._bucket, self.staging_directory)
        with disk_errors("cannot create the WSGI_STORE_S3_STAGING directory"):
            self._prepare()

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms of the names, the primary one first, as last read."""
        return self._bucket.known().algorithms

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the primary names, as last read."""
        return self._bucket.known().algorithm

    def refresh(self) -> tuple[Algorithm, ...]:
        """Read `algorithms` anew; raises StoreUnavailable."""
        return self._bucket.refresh().algorithms

    def check(self) -> None:
        """Raise StoreUnavailable if blobs cannot be written now, WrongStore if they never can."""
        self._bucket.check()

    def made(self) -> float:
        """Return when the store was created, in seconds since the epoch; raises StoreUnavailable."""
        return self._bucket.made()

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        self._bucket.require()
        there, at = find(self._bucket, digest)
        return described(digest, there.meta, at)

    def sizes(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return the sizes in bytes of those of these blobs that the store has."""
        self._bucket.require()
        return {digest: seen.size for digest, seen in find_all(self._bucket, digests).items()}

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> ObjectReader:
        """Open `length` bytes from `start`, by default to the end; raises BlobNotFound."""
        self._bucket.require()
        stop = BEYOND if length is None else min(start + length, BEYOND)
        if start >= stop:
            return self._open_nothing(digest, start)
        try:
            result, at = find(
                self._bucket,
                digest,
                lambda key: ask(self._bucket, key, start, stop),
                "cannot open the blob",
            )
        except StoreUnavailable as error:
            # The part begins at the end of the blob or behind it, so it is empty.
            if getattr(error.__cause__, "status", None) == 416:
                return self._open_nothing(digest, start)
            raise
        return reading(self._bucket, result, digest, at, start, stop)

    def begin(self, staged: StagedFile, size: int | None, expected: Sequence[Digest]) -> Parts | None:
        """Start to send a large file whose key is known and free, unless the link is congested."""
        self._bucket.require_writable()
        named = [digest for digest in expected if digest.algorithm is self.algorithm]
        if size is not None and size > SINGLE_PUT_MAX and named and not self._bucket.uplink.narrow:
            key = key_of(named[0])
            if look(self._bucket, key) is None:
                # Its other names are unknown until all of it is here.
                attributes = metadata((), secrets.token_hex(8))
                return Parts(self._bucket, key, attributes, staged.fd, size, whole=False)
        return None

    def add(self, staged: StagedFile, under: Digest | None = None) -> Publication:
        """Publish a staged file in one atomic step, by all its names; returns what the store had before."""
        self._bucket.require_writable()
        published = publish(self._bucket, staged, under, self.granularity)
        # Not earlier: until now the object in quarantine may have been all that was left of the blob.
        if published.added is not Added.HELD and self._quarantining():
            discarded = [self._discarded(staged.digest(algorithm)) for algorithm in self.algorithms]
            if any(discarded):
                return replace(published, added=Added.HEALED)
        return published

    def add_all(self, staged: Sequence[StagedFile]) -> list[Publication | StoreError]:
        """Publish staged files as `add` does, several at once; returns the outcome of each."""
        return add_all(self.add, staged)

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and return its description; raises BlobNotFound."""
        self._bucket.require_writable()

        def permit(blob: Blob) -> bool:
            if check is not None:
                check(blob)
            return True

        blob = remove_blob(self._bucket, digest, permit)
        assert blob is not None
        return blob

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added again since `modified`; returns whether it was removed."""
        self._bucket.require_writable()
        if time.time() < modified + self.granularity:
            return False
        with suppress(BlobNotFound):
            return remove_blob(self._bucket, digest, lambda blob: blob.modified == modified) is not None
        return False

    def quarantine(self, digest: Digest) -> bool:
        """Move a blob to quarantine if its bytes do not have its digest; returns whether it was damaged."""
        self._bucket.require_writable()
        result, at = find(self._bucket, digest)
        there = version_of(result)
        with closing(open_at(self._bucket, at)) as reader:
            if compare(reader, at)[0]:
                return False
        with locked(self._bucket, at.hex) as until:
            if look(self._bucket, key_of(at)) != there:
                raise BlobNotFound(hash=digest.hex)
            with asking("cannot move the blob to quarantine"):
                obstore.copy(self._bucket.client, key_of(at), quarantine_key_of(at))
            time.sleep(self.seen)
            remove(self._bucket, key_of(at), until)
        return True

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine in ascending order; `modified` is when each was moved there."""
        self._bucket.require()
        return listing.quarantined(self._bucket)

    def discard(self, digest: Digest) -> None:
        """Remove a blob from quarantine; raises BlobNotFound."""
        self._bucket.require_writable()
        if not self._discarded(digest):
            self._bucket.refresh()
            raise BlobNotFound(hash=digest.hex)

    def abandoned(self, before: float, *, remove: bool) -> Iterator[Blob]:
        """Yield the multipart uploads that got no part since `before`, after removing each."""
        self._bucket.require()
        if self._bucket.scheme == "s3":
            # Imported only here: botocore needs much more memory than obstore, and servers do not collect.
            from wsgi_store.store.bucket import unfinished  # pylint: disable=import-outside-toplevel

            algorithms = self.refresh()
            found = unfinished.abandoned(self._bucket, blob_keys(algorithms), before, remove=remove)
            for hash_, size, modified in found:
                if hash_ is not None:
                    yield Blob(parse_any(algorithms, hash_), size, modified)

    def litter(self, before: float, *, remove: bool) -> Iterator[int]:
        """Yield the sizes of locks and test objects older than `before`, after removing each."""
        self._bucket.require()
        return litter(self._bucket, before, remove=remove)

    def load_note(self, name: str) -> bytes | None:
        """Return the contents of a note in the store, None if there is none."""
        self._bucket.require()
        with asking("cannot read the note"), suppress(FileNotFoundError):
            return bytes(obstore.get(self._bucket.client, name).bytes())
        return None

    def update_note(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a note atomically by the result of `change`, which gets the contents or None."""
        self._bucket.require_writable()
        with locked(self._bucket, name), asking("cannot write the note"):
            obstore.put(self._bucket.client, name, change(self.load_note(name)), use_multipart=False)

    def iterate(self, after: Digest | None = None, algorithm: Algorithm | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of their names by an algorithm, beginning behind `after`."""
        self._bucket.require()
        return listing.blobs(self._bucket, after, algorithm)

    def url(self, digest: Digest, seconds: int, content_type: str, disposition: str) -> str | None:
        """Return a URL at which anybody can download a blob for `seconds`; None without keys to sign it."""
        if self._signer is None:
            return None
        self._bucket.refresh()
        if digest.algorithm is not self.algorithm:
            lead = follow(self._bucket, digest)
            # A blob without a primary name may move at any time.
            if lead is None or lead.target is None or lead.target.algorithm is not self.algorithm:
                return None
            digest = lead.target
        fields = {"response-content-type": content_type, "response-content-disposition": disposition}
        return self._signer.sign(key_of(digest), seconds, fields)

    def _prepare(self) -> None:
        os.makedirs(self.staging_directory, exist_ok=True)

    def _open_nothing(self, digest: Digest, start: int) -> ObjectReader:
        """Open an empty part of a blob; raises BlobNotFound."""
        there, at = find(self._bucket, digest, doing="cannot open the blob")
        return reading(self._bucket, there, digest, at, start, start)

    def _quarantining(self) -> bool:
        """Whether the quarantine held anything less than `seen` seconds ago."""
        since, anything = self._looked
        return anything if time.monotonic() < since + self.seen else self._look()

    def _look_again(self) -> bool:
        begin = time.monotonic()
        since, anything = self._looked
        # Another thread may have looked since this one waits.
        if begin >= since + self.seen:
            anything = any(listing.quarantined(self._bucket))
            self._looked = begin, anything
        return anything

    def _discarded(self, digest: Digest) -> bool:
        """Remove a blob from quarantine; of several callers only one gets True."""
        key = quarantine_key_of(digest)
        if look(self._bucket, key) is None:
            return False
        with locked(self._bucket, digest.hex) as until:
            if look(self._bucket, key) is None:
                return False
            remove(self._bucket, key, until)
        return True
