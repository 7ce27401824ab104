"""Giving names to blobs that are in a bucket: further ones, and primary ones to those that lack them."""

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING

from wsgi_store.digest import Algorithm, Digest
from wsgi_store.errors import BlobNotFound, StoreUnavailable
from wsgi_store.filesystem import disk_errors, write_all
from wsgi_store.store.abilities import Adopted, Hashed
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.lock import locked, remove
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import follow, keep
from wsgi_store.store.bucket.reader import compare, open_at
from wsgi_store.store.bucket.upload import Upload, unchanged
from wsgi_store.store.bucket.version import Version, look, metadata, outwait
from wsgi_store.store.staged import StagedFile

if TYPE_CHECKING:
    from wsgi_store.store.bucket.copying import Copier


class Adoption:
    """Moves blobs that lie under further names to the keys of their primary names."""

    def __init__(self, bucket: MarkedBucket, staging: str) -> None:
        self._bucket = bucket
        self._staging = staging

    def adopt(self, one: Hashed) -> Adopted:
        """Move a blob; raises StoreUnavailable."""
        marker = self._bucket.last
        old, primary = one.digest, one.digests.get(marker.algorithm)
        stray = look(self._bucket, key_of(old))
        if stray is None:
            lead = follow(self._bucket, old)
            return Adopted.HELD if primary and lead and lead.target == primary else Adopted.GONE
        if primary is None or stray != one.stamp or not set(marker.names) <= one.digests.keys():
            return Adopted.CHANGED
        try:
            there = look(self._bucket, key_of(primary))
            if there is not None and not self._same(old, stray, primary, there):
                return Adopted.DAMAGED
            if there is not None and not there.takes_place_of(stray):
                outwait(self._bucket, key_of(old), stray)
            # The names first, as in an upload.
            ambiguous = give(self._bucket, one, primary)
            names = [one.digests[algorithm] for algorithm in marker.names if algorithm not in ambiguous]
            attributes = metadata(names, secrets.token_hex(8), stray)
            visible = partial(give, self._bucket, one, primary)
            if there is not None:
                moved = self._drop(old, stray, visible)
            elif self._bucket.scheme == "s3":
                moved = self._copy(old, stray, primary, attributes, visible)
            else:
                moved = self._send(old, stray, primary, attributes, visible)
        except BlobNotFound:
            return Adopted.CHANGED
        if not moved:
            return Adopted.CHANGED
        return Adopted.NAMED if there is None else Adopted.JOINED

    def _same(self, old: Digest, stray: Version, primary: Digest, there: Version) -> bool:
        """Whether the object under a primary name has the bytes of that under the old one.

        They are read, because the old one is removed then. Raises BlobNotFound.
        """
        if stray.size != there.size:
            return False
        if primary.algorithm.collision_resistant:
            with closing(open_at(self._bucket, primary)) as reader:
                return compare(reader, primary)[0]
        # Neither name proves what the bytes are.
        first, second = (self._proof(digest) for digest in (old, primary))
        return first == second

    def _proof(self, digest: Digest) -> bytes:
        hashed = Algorithm.SHA256.new()
        with closing(open_at(self._bucket, digest)) as reader:
            for block in reader:
                hashed.update(block)
        return hashed.digest()

    def _drop(self, old: Digest, stray: Version, visible: Callable[[], object]) -> bool:
        """Remove the old key of a blob that has its primary one."""
        with locked(self._bucket, old.hex) as until:
            if not unchanged(self._bucket, {old: stray}):
                return False
            visible()
            remove(self._bucket, key_of(old), until)
        return True

    def _copy(
        self,
        old: Digest,
        stray: Version,
        primary: Digest,
        attributes: dict[str, str],
        visible: Callable[[], object],
    ) -> bool:
        with (
            self.copier.copying(key_of(old), stray, key_of(primary), attributes) as complete,
            locked(self._bucket, old.hex) as until,
        ):
            if not unchanged(self._bucket, {old: stray}):
                return False
            # The last request of a process that lost the lock would bring a deleted blob back.
            # An upload that has made the blob meanwhile may not know of the old key.
            if time.monotonic() >= until or look(self._bucket, key_of(primary)) is not None:
                return False
            complete()
            self._require_copy(stray, primary, attributes)
            visible()
            remove(self._bucket, key_of(old), until)
        return True

    def _require_copy(self, stray: Version, primary: Digest, attributes: dict[str, str]) -> None:
        """Raise StoreUnavailable unless the copy is what it should be: the old key is removed next."""
        copy = look(self._bucket, key_of(primary))
        if copy is None or (copy.size, copy.token) != (stray.size, attributes["upload"]):
            raise StoreUnavailable("the object store did not copy the blob as it should", hash=primary.hex)

    @cached_property
    def copier(self) -> "Copier":
        """What copies objects within the bucket; raises StoreUnavailable."""
        # Imported only here: botocore needs much more memory than obstore, and servers seldom copy.
        # pylint: disable=import-outside-toplevel
        from wsgi_store.store.bucket.copying import Copier
        from wsgi_store.store.bucket.s3 import asking, connect

        with asking("cannot use the object store"):
            return Copier(self._bucket, connect(self._bucket))

    def _send(
        self,
        old: Digest,
        stray: Version,
        primary: Digest,
        attributes: dict[str, str],
        visible: Callable[[], object],
    ) -> bool:
        """Read the blob and upload it, on engines whose copies keep the old metadata."""
        with disk_errors("cannot stage the blob"), StagedFile.named(self._staging) as staged:
            with closing(open_at(self._bucket, old)) as reader:
                for block in reader:
                    write_all(staged.fd, block)
            return Upload(self._bucket, primary, attributes, staged).put(None, {old: stray}, visible)


def give(
    bucket: MarkedBucket, one: Hashed, primary: Digest, mended: list[Digest] | None = None
) -> list[Algorithm]:
    """Give a blob its further names; returns by which algorithms they are another blob's.

    Names that led to a blob without that digest are added to `mended`. Raises StoreUnavailable.
    """
    ambiguous = []
    for algorithm in bucket.last.names:
        name = one.digests[algorithm]
        wrong: list[Digest] = []
        if not keep(bucket, name, primary, partial(_is_others, bucket, one, wrong, name)):
            ambiguous.append(algorithm)
        elif mended is not None:
            mended += wrong[:1]
    return ambiguous


def _is_others(bucket: MarkedBucket, one: Hashed, wrong: list[Digest], name: Digest, target: Digest) -> bool:
    """Whether a name leads to another blob that has this digest, too; adds it to `wrong` if that has not."""
    if target in one.digests.values():
        return False
    try:
        with closing(open_at(bucket, target)) as reader:
            if compare(reader, name)[0]:
                return True
    except BlobNotFound:
        return False
    wrong.append(name)
    return False
