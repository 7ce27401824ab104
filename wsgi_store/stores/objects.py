"""Blobs as objects in a bucket (S3 and the like): `ab/abcdef…` below the prefix of the store."""

import itertools
import mmap
import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import (
    BlobNotFound,
    DigestCollision,
    StoreUnavailable,
    WrongStore,
    disk_errors,
)
from wsgi_store.stores import Blob, Remote, StagedFile, marker
from wsgi_store.stores.bucket import Bucket, Failure, asking
from wsgi_store.stores.object_reader import BLOCK, ObjectReader

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, UpdateVersion

STAGING = ".staging"
# Up to here a file goes up in one request, which the engine refuses when the blob is there.
WHOLE = 16 << 20
# From here on it is cheaper to ask first than to send in vain what is held already.
ASK_FIRST = 64 << 10
PART = 8 << 20
MAX_PARTS = 10_000  # the limit of S3
PARTS_AT_ONCE = 2
# Each round of `add` that finds a blob and then does not was crossed by a removal.
ROUNDS = 100
# What no object is: Ceph and S3 look at the tag, others at the version.
NEVER: "UpdateVersion" = {"e_tag": "0" * 32, "version": "1"}
# More than any object has, and within the integers that obstore takes.
BEYOND = 1 << 62


class ObjectStore:
    """A store in a bucket, used by any number of servers at once."""

    def __init__(self, url: str, algorithm: Algorithm, remote: Remote) -> None:
        self._url = url
        self._bucket = Bucket(url, remote)
        self.algorithm = algorithm
        self.staging_directory = os.path.join(os.path.abspath(remote.staging), STAGING)
        self._verified = 0  # the process that has seen the marker
        with disk_errors("cannot make the directory of WSGI_STORE_S3_STAGING"):
            os.makedirs(self.staging_directory, exist_ok=True)

    def check(self) -> None:
        """Raise StoreUnavailable unless blobs can be written now, WrongStore when they never can.

        The marker is written anew on a condition that cannot hold: the engine checks all that
        it checks of an upload, and keeps what it has.
        """
        if self._verified != os.getpid():
            self._verify()
        with asking("cannot write to the object store"), suppress(PreconditionError):
            obstore.put(self._bucket.client, marker.NAME, b"", mode=NEVER)
        self._require_marker()

    def stat(self, digest: Digest) -> Blob:
        """Describe a blob; raises BlobNotFound."""
        self._require()
        with asking("cannot look at the blob"):
            try:
                return _blob(digest, obstore.head(self._bucket.client, _key(digest)))
            except FileNotFoundError:
                raise self._absent(digest) from None

    def open(self, digest: Digest, start: int = 0, length: int | None = None) -> ObjectReader:
        """Open `length` bytes from `start` on, to the end by default; raises BlobNotFound."""
        self._require()
        stop = BEYOND if length is None else min(start + length, BEYOND)
        ask = partial(self._ask, digest)
        if start >= stop:
            return ObjectReader(self.stat(digest), start, stop, ask)
        try:
            with asking("cannot open the blob"):
                result = ask(start, stop)
        except StoreUnavailable as error:
            # The part begins at the end of the blob or behind it: that is an answer too.
            if isinstance(error.__cause__, Failure) and error.__cause__.status == 416:
                return ObjectReader(self.stat(digest), start, stop, ask)
            raise
        reader = ObjectReader(_blob(digest, result.meta), start, stop, ask)
        reader.begin(result)
        return reader

    def add(self, staged: StagedFile) -> bool:
        """Publish a staged file whole and at once; False when the blob was already held."""
        self._require()
        size = os.fstat(staged.fd).st_size
        token = secrets.token_hex(8)
        asked = size > ASK_FIRST
        for _ in range(ROUNDS):
            try:
                if asked:
                    return self._compare(staged, size, token)
            except BlobNotFound:
                pass
            if self._put(staged, size, token):
                return True
            asked = True
        raise StoreUnavailable("the blob is removed as fast as it is made")

    def remove(self, digest: Digest) -> None:
        """Remove a blob; raises BlobNotFound."""
        self.stat(digest)
        # An engine does not tell whether there was something to delete: who has the lock looks.
        with self._bucket.locked(digest.hex):
            self.stat(digest)
            with asking("cannot remove the blob"):
                obstore.delete(self._bucket.once, _key(digest))

    def iterate(self, after: Digest | None = None) -> Iterator[Blob]:
        """Yield the blobs in ascending order of digest, from the one behind `after` on."""
        self._require()
        key_of_blob = re.compile(f"([0-9a-f]{{2}})/(\\1[0-9a-f]{{{2 * self.algorithm.size - 2}}})")
        offset = None if after is None else _key(after)
        with asking("cannot list the store"):
            for page in obstore.list(self._bucket.client, offset=offset, chunk_size=1000):
                for meta in page:
                    match = key_of_blob.fullmatch(meta["path"])
                    if match is not None:
                        yield _blob(self.algorithm.parse(match[2]), meta)

    def local_path(self, digest: Digest) -> None:  # pylint: disable=unused-argument
        """None: no server in front can read an object from a disk."""

    def url(self, digest: Digest, seconds: int, content_type: str, disposition: str) -> str | None:
        """A presigned URL at the engine; None where the keys to sign it with are not known here."""
        self._require()
        fields = {"response-content-type": content_type, "response-content-disposition": disposition}
        return self._bucket.url(_key(digest), seconds, fields)

    def _ask(self, digest: Digest, start: int, stop: int) -> "GetResult":
        """Request part of an object; raises BlobNotFound and what obstore raises."""
        options: GetOptions = {}
        if (start, stop) != (0, BEYOND):
            options["range"] = (start, stop)
        try:
            return obstore.get(self._bucket.client, _key(digest), options=options)
        except FileNotFoundError:
            raise self._absent(digest) from None

    def _put(self, staged: StagedFile, size: int, token: str) -> bool:
        """Send the file up unless the blob is there."""
        key = _key(staged.digest)
        with asking("cannot write the blob"):
            if size <= WHOLE:
                try:
                    body = _mapped(staged.fd, 0, size) if size else b""
                    obstore.put(self._bucket.client, key, body, mode="create", attributes={"upload": token})
                except AlreadyExistsError:
                    return False
                return True
            return self._put_parts(staged, key, size, token)

    def _put_parts(self, staged: StagedFile, key: str, size: int, token: str) -> bool:
        """Send a large file up in parts, which appear at once; on any failure obstore aborts."""
        part = max(PART, -(-size // MAX_PARTS // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY)

        # Not every engine completes on a condition: who completes is alone, and looks before.
        def parts() -> Iterator[mmap.mmap]:
            for offset in range(0, size, part):
                yield _mapped(staged.fd, offset, min(part, size - offset))
            # obstore calls this from within its runtime, which takes no calls from there.
            if pool.submit(self._alone, stack, staged.digest).result():
                raise _Held

        with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
            try:
                obstore.put(
                    self._bucket.client,
                    key,
                    parts(),
                    attributes={"upload": token},
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=PARTS_AT_ONCE,
                )
            except _Held:
                return False
            return True

    def _alone(self, stack: ExitStack, digest: Digest) -> bool:
        """Lock the digest until the stack ends; whether its blob is there."""
        stack.enter_context(self._bucket.locked(digest.hex))
        try:
            self.stat(digest)
        except BlobNotFound:
            return False
        return True

    def _compare(self, staged: StagedFile, size: int, token: str) -> bool:
        """False when the blob held may stand for the staged file, True when it is the staged file.

        Raises BlobNotFound, DigestCollision, StoreUnavailable.
        """
        digest = staged.digest
        with asking("cannot look at the blob"):
            try:
                result = obstore.get(self._bucket.client, _key(digest), options={"head": True})
            except FileNotFoundError:
                raise self._absent(digest) from None
        if result.attributes.get("upload") == token:
            return True  # the answer to it was lost, and obstore sent it again
        if result.meta["size"] == size:
            if digest.algorithm.collision_resistant:
                return False
            with closing(self.open(digest)) as reader, disk_errors("cannot read the file"):
                if _same_bytes(staged.fd, reader):
                    return False
        hashed = digest.algorithm.new()
        with closing(self.open(digest)) as reader:
            for block in iter(lambda: reader.read(BLOCK), b""):
                hashed.update(block)
        if hashed.digest() == digest.raw:
            raise DigestCollision(digest.hex)
        raise StoreUnavailable("the file held under this hash is damaged", hash=digest.hex)

    def _absent(self, digest: Digest) -> BlobNotFound:
        self._require_marker()
        return BlobNotFound(digest.hex)

    def _require_marker(self) -> None:
        """Raise unless the store is there: a bucket that is gone is no empty store."""
        with asking("the store is not there"):
            obstore.head(self._bucket.client, marker.NAME)

    def _require(self) -> None:
        """See once in each process that this is the store it is taken for; raises StoreUnavailable."""
        if self._verified != os.getpid():
            try:
                self._verify()
            except WrongStore as error:
                raise StoreUnavailable("the object store cannot be used") from error

    def _verify(self) -> None:
        """Read the marker, and write it first where there is none."""
        try:
            with asking("the object store does not answer"):
                text = self._marker()
        except StoreUnavailable as error:
            if isinstance(error.__cause__, Failure) and error.__cause__.lasting:
                raise WrongStore(f"{self._url} cannot be opened: {error.__cause__}") from error
            raise
        marker.require(text, self._url, self.algorithm)
        self._verified = os.getpid()

    def _marker(self) -> bytes:
        client = self._bucket.client
        try:
            return bytes(obstore.get(client, marker.NAME).bytes())
        except FileNotFoundError:
            keys = (meta["path"] for page in obstore.list(client) for meta in page)
            marker.check_unmarked(self._url, itertools.islice(keys, 1000), self.algorithm)
            try:
                obstore.put(client, marker.NAME, marker.text(self.algorithm), mode="create")
            except AlreadyExistsError:
                pass  # by a server that starts at the same moment
            return bytes(obstore.get(client, marker.NAME).bytes())


class _Held(Exception):
    """The blob is there: what was sent of it is to be dropped."""


def _key(digest: Digest) -> str:
    return f"{digest.hex[:2]}/{digest.hex}"


def _blob(digest: Digest, meta: "ObjectMeta") -> Blob:
    # A listing tells fractions of a second, the object itself does not.
    return Blob(digest, meta["size"], int(meta["last_modified"].timestamp()))


def _mapped(fd: int, offset: int, length: int) -> mmap.mmap:
    """A part of a file for obstore to read where it is: no memory of this process holds it."""
    return mmap.mmap(fd, length, prot=mmap.PROT_READ, offset=offset)


def _same_bytes(fd: int, reader: ObjectReader) -> bool:
    while block := reader.read(BLOCK):
        if os.pread(fd, len(block), reader.tell() - len(block)) != block:
            return False
    return True
