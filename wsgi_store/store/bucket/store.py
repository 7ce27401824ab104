"""Blobs as objects in a bucket (S3 and the like): `ab/abcdef…` below the prefix of the store."""

import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store import marker
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import (
    QUARANTINE,
    blob_keys,
    described,
    key_of,
    quarantine_key_of,
    quarantine_keys,
)
from wsgi_store.store.bucket.litter import litter
from wsgi_store.store.bucket.lock import locked
from wsgi_store.store.bucket.marked import MarkedBucket, marker_at
from wsgi_store.store.bucket.parts import Parts
from wsgi_store.store.bucket.reader import ObjectReader, compare
from wsgi_store.store.bucket.signing import Signer
from wsgi_store.store.bucket.upload import SINGLE_PUT_MAX, Upload, Version, look
from wsgi_store.store.contract import Added, Blob, Publication, Remote
from wsgi_store.store.marker import Wanted
from wsgi_store.store.staged import StagedFile

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

STAGING = ".staging"
# Bytes from which it is cheaper to look for the blob first than to send a duplicate.
LOOK_FIRST_MIN = 64 << 10
# Rounds of `add`, each of which a concurrent removal can spoil.
ROUNDS = 100
# More bytes than any object has, but within the integers of obstore.
BEYOND = 1 << 62


class ObjectStore:
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
        wanted = Wanted.of(algorithm, names, create)
        algorithm = wanted.algorithm or marker_at(url, remote, wanted).algorithm
        self._bucket = self.bucket_kind(url, remote, wanted)
        self._signer = Signer(self._bucket) if self._bucket.scheme == "s3" else None
        self.algorithm = algorithm
        self.algorithms: tuple[Algorithm, ...] = (algorithm,)
        self._looked = float("-inf"), False
        self._blob_keys = blob_keys(algorithm)
        self._quarantine_keys = quarantine_keys(algorithm)
        self.staging_directory = os.path.join(os.path.abspath(remote.staging), STAGING)
        with disk_errors("cannot create the WSGI_STORE_S3_STAGING directory"):
            self._prepare()

    def check(self) -> None:
        """Raise StoreUnavailable if blobs cannot be written now, WrongStore if they never can."""
        self._bucket.check()

    def refresh(self) -> tuple[Algorithm, ...]:
        """Read `algorithms` anew; raises StoreUnavailable."""
        self._bucket.require()
        return self.algorithms

    def made(self) -> float:
        """Return when the store was created, in seconds since the epoch; raises StoreUnavailable."""
        with asking("cannot stat the store"):
            return self._bucket.describe(marker.NAME).meta["last_modified"].timestamp()

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        self._bucket.require()
        with asking("cannot stat the blob"):
            try:
                return described(digest, self._bucket.describe(key_of(digest)).meta)
            except FileNotFoundError:
                raise self._bucket.absent(digest) from None

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> ObjectReader:
        """Open `length` bytes from `start`, by default to the end; raises BlobNotFound."""
        self._bucket.require()
        stop = BEYOND if length is None else min(start + length, BEYOND)
        part = start, stop, partial(self._ask, digest), self._bucket.timeout
        if start >= stop:
            return ObjectReader(self.stat(digest), *part)
        try:
            with asking("cannot open the blob"):
                result = self._ask(digest, start, stop)
        except StoreUnavailable as error:
            # The part begins at the end of the blob or behind it, so it is empty.
            if getattr(error.__cause__, "status", None) == 416:
                return ObjectReader(self.stat(digest), *part)
            raise
        reader = ObjectReader(described(digest, result.meta), *part)
        reader.begin(result)
        return reader

    def begin(self, staged: StagedFile, size: int | None, expected: Sequence[Digest]) -> Parts | None:
        """Start to send a large file whose key is known and free, unless the link is congested."""
        self._bucket.require_writable()
        named = [digest for digest in expected if digest.algorithm is self.algorithm]
        if size is not None and size > SINGLE_PUT_MAX and named and not self._bucket.uplink.narrow:
            if look(self._bucket, key_of(named[0])) is None:
                return Parts(self._bucket, key_of(named[0]), staged.fd, size, whole=False)
        return None

    def add(self, staged: StagedFile, under: Digest | None = None) -> Publication:
        """Publish a staged file in one atomic step, by all its names."""
        del under  # there are no further names
        self._bucket.require_writable()
        digest = staged.digest(self.algorithm)
        added = self._publish(staged)
        # Not earlier: until now the object in quarantine may have been all that was left of the blob.
        if added is not Added.HELD and self._quarantining() and self._discarded(digest):
            added = Added.HEALED
        return Publication(added, (digest,))

    def remove(self, digest: Digest, check: Callable[[Blob], object] | None = None) -> Blob:
        """Remove a blob and return its description; raises BlobNotFound."""
        self._bucket.require_writable()
        # DELETE does not say whether the object existed, so look for it under the lock.
        with locked(self._bucket, digest.hex) as until:
            blob = self.stat(digest)
            if check is not None:
                check(blob)
            self._delete(key_of(digest), until)
        return blob

    def expire(self, digest: Digest, modified: float) -> bool:
        """Remove a blob unless it was added again since `modified`; returns whether it was removed."""
        self._bucket.require_writable()
        if time.time() < modified + self.granularity:
            return False
        with locked(self._bucket, digest.hex) as until:
            there = look(self._bucket, key_of(digest))
            if there is None or there.modified != modified:
                return False
            self._delete(key_of(digest), until)
        return True

    def quarantine(self, digest: Digest) -> bool:
        """Move a blob to quarantine if its bytes do not have its digest; returns whether it was damaged."""
        self._bucket.require_writable()
        key = key_of(digest)
        there = look(self._bucket, key)
        if there is None:
            raise self._bucket.absent(digest)
        with closing(self.open(digest)) as reader:
            if compare(reader)[0]:
                return False
        with locked(self._bucket, digest.hex) as until:
            if look(self._bucket, key) != there:
                raise BlobNotFound(hash=digest.hex)
            with asking("cannot move the blob to quarantine"):
                obstore.copy(self._bucket.client, key, quarantine_key_of(digest))
            time.sleep(self.seen)
            self._delete(key, until)
        return True

    def quarantined(self) -> Iterator[Blob]:
        """Yield the blobs in quarantine in ascending order; `modified` is when each was moved there."""
        self._bucket.require()
        return self._listed(self._quarantine_keys, prefix=QUARANTINE)

    def discard(self, digest: Digest) -> None:
        """Remove a blob from quarantine; raises BlobNotFound."""
        self._bucket.require_writable()
        if not self._discarded(digest):
            raise self._bucket.absent(digest)

    def abandoned(self, before: float, *, remove: bool) -> Iterator[Blob]:
        """Yield the multipart uploads that got no part since `before`, after removing each."""
        self._bucket.require()
        if self._bucket.scheme == "s3":
            # Imported only here: botocore needs much more memory than obstore, and servers do not collect.
            from wsgi_store.store.bucket import unfinished  # pylint: disable=import-outside-toplevel

            found = unfinished.abandoned(self._bucket, self._blob_keys, before, remove=remove)
            for hash_, size, modified in found:
                if hash_ is not None:
                    yield Blob(self.algorithm.parse(hash_), size, modified)

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
        del algorithm  # there is only one
        self._bucket.require()
        return self._listed(self._blob_keys, offset=None if after is None else key_of(after))

    def url(self, digest: Digest, seconds: int, content_type: str, disposition: str) -> str | None:
        """Return a URL at which anybody can download a blob for `seconds`; None without keys to sign it."""
        if self._signer is None:
            return None
        self._bucket.require()
        fields = {"response-content-type": content_type, "response-content-disposition": disposition}
        return self._signer.sign(key_of(digest), seconds, fields)

    def _prepare(self) -> None:
        os.makedirs(self.staging_directory, exist_ok=True)

    def _ask(self, digest: Digest, start: int, stop: int) -> "GetResult":
        """Request part of an object; raises BlobNotFound and what obstore raises."""
        options: GetOptions = {} if (start, stop) == (0, BEYOND) else {"range": (start, stop)}
        try:
            return obstore.get(self._bucket.client, key_of(digest), options=options)
        except FileNotFoundError:
            raise self._bucket.absent(digest) from None

    def _listed(self, key: re.Pattern[str], **part: Any) -> Generator[Blob, None, None]:
        with asking("cannot list the store"):
            for page in obstore.list(self._bucket.client, chunk_size=1000, **part):
                for meta in page:
                    match = key.fullmatch(meta["path"])
                    if match is not None:
                        yield described(self.algorithm.parse(match["hash"]), meta)

    def _publish(self, staged: StagedFile) -> Added:
        digest = staged.digest(self.algorithm)
        upload = Upload(self._bucket, digest, staged)
        ask = upload.size > LOOK_FIRST_MIN and staged.ahead is None
        there = look(self._bucket, key_of(digest)) if ask else None
        for _ in range(ROUNDS):
            added = Added.CREATED
            if there is not None:
                if there.token == upload.token:
                    return added  # the response was lost, and obstore repeated the request
                try:
                    added = Added.HELD if self._stands_for(there, staged, upload.size) else Added.HEALED
                except BlobNotFound:
                    there = None
                    continue
                # The time is read now, because comparing large blobs takes long.
                if added is Added.HELD and time.time() < there.modified + self.granularity / 2:
                    return added
            if upload.put(there):
                return added
            there = look(self._bucket, key_of(digest))
        raise StoreUnavailable("the blob kept being removed while it was added")

    def _stands_for(self, there: Version, staged: StagedFile, size: int) -> bool:
        """Whether the existing object is the same blob as the staged file, not damaged.

        Raises BlobNotFound, DigestCollision.
        """
        digest = staged.digest(self.algorithm)
        if self.algorithm.collision_resistant:
            return there.size == size
        # In one pass: a blob healed between two requests would look like a collision.
        with closing(self.open(digest)) as reader:
            intact, same = compare(reader, staged)
        if intact and not same:
            raise DigestCollision(hash=digest.hex)
        return same

    def _quarantining(self) -> bool:
        """Whether the quarantine held anything less than `seen` seconds ago."""
        begin = time.monotonic()
        since, anything = self._looked
        if begin >= since + self.seen:
            with closing(self._listed(self._quarantine_keys, prefix=QUARANTINE)) as held:
                anything = any(held)
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
            self._delete(key, until)
        return True

    def _delete(self, key: str, until: float) -> None:
        """Delete an object only while its lock is certainly held: a new one may follow."""
        if time.monotonic() >= until:
            raise StoreUnavailable("the lock expired before the blob was removed")
        with asking("cannot remove the blob"):
            obstore.delete(self._bucket.once, key)
