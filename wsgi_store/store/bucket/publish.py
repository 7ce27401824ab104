"""Publishing a staged file in a bucket: its further names first, its primary name last."""

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from wsgi_store.digest import Digest
from wsgi_store.errors import BlobNotFound, DigestCollision, StoreUnavailable
from wsgi_store.filesystem import disk_errors
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.lock import locked, remove
from wsgi_store.store.bucket.marked import MarkedBucket
from wsgi_store.store.bucket.names import create, keep
from wsgi_store.store.bucket.reader import compare, open_at
from wsgi_store.store.bucket.upload import Upload, unchanged
from wsgi_store.store.bucket.version import Version, look, metadata
from wsgi_store.store.contract import Added, Publication
from wsgi_store.store.marker import Marker
from wsgi_store.store.staged import StagedFile

# Bytes from which it is cheaper to look for the blob first than to send a duplicate.
LOOK_FIRST_MIN = 64 << 10
# Rounds, each of which a concurrent removal can spoil.
ROUNDS = 100


def publish(
    bucket: MarkedBucket, staged: StagedFile, under: Digest | None, granularity: float
) -> Publication:
    """Publish a staged file as Store.add does, except for the quarantine. Raises StoreError."""
    marker = bucket.last
    made: Made | None = None
    for _ in range(ROUNDS):
        attempt = _Attempt(bucket, staged, marker, under, granularity, made)
        published = attempt.publish()
        before, marker = marker, bucket.refresh()
        # A name by an algorithm that was dropped meanwhile does no harm.
        if marker.algorithm is before.algorithm and set(marker.names) <= set(before.names):
            return published
        # Perhaps a migration did not see it any more: it is published again, as the new marker says.
        made = attempt.made
    raise StoreUnavailable("the store's marker kept changing while the blob was added")


@dataclass(frozen=True, slots=True)
class Made:
    """The object that an earlier attempt put into the bucket, and what there had been before."""

    token: str
    added: Added


class _Attempt:
    """Publishes a file as one marker says."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self,
        bucket: MarkedBucket,
        staged: StagedFile,
        marker: Marker,
        under: Digest | None,
        granularity: float,
        before: Made | None,
    ) -> None:
        self._bucket = bucket
        self._staged = staged
        self._marker = marker
        self._under = under
        self._granularity = granularity
        self._before = before
        self.made = before
        """The object that this attempt or an earlier one put into the bucket."""
        with disk_errors("cannot read the file"):
            self._primary = staged.digest(marker.algorithm)
            self._further = [staged.digest(algorithm) for algorithm in marker.names]
            self._size = os.fstat(staged.fd).st_size
        # First the one that has to lead to this file: if it cannot, the others are not made.
        self._further.sort(key=lambda name: name != under)
        self._token = before.token if before else secrets.token_hex(8)
        self._ambiguous: set[Digest] = set()
        self._sent = before.added if before else Added.CREATED

    def publish(self) -> Publication:
        """Make the names and the blob appear."""
        added = self._put()
        ordered = [self._staged.digest(algorithm) for algorithm in self._marker.names]
        names = (name for name in ordered if name not in self._ambiguous)
        ambiguous = tuple(name.algorithm for name in ordered if name in self._ambiguous)
        return Publication(self.made.added if self.made else added, (self._primary, *names), ambiguous)

    def _put(self) -> Added:
        there = look(self._bucket, key_of(self._primary)) if self._looks_first() else None
        for _ in range(ROUNDS):
            added: Added | Version | None
            try:
                added = self._create() if there is None else self._meet(there)
            except BlobNotFound:
                added = None  # removed while it was compared
            if isinstance(added, Added):
                return added
            there = added or look(self._bucket, key_of(self._primary))
        raise StoreUnavailable("the blob kept being removed while it was added")

    def _looks_first(self) -> bool:
        if self._before or (self._size > LOOK_FIRST_MIN and self._staged.ahead is None):
            return True
        # The blob there may be a different file, to which no name of this one must lead.
        return bool(self._further) and not self._primary.algorithm.collision_resistant

    def _create(self) -> Added | Version | None:
        """Put the blob under a key that was free; what is there, or None, if it is not any more."""
        strays: dict[Digest, Version] = {}
        damaged = False
        for name in self._further:
            stray = look(self._bucket, key_of(name))
            if stray is not None:
                same = stray.made_by(self._token) or self._stands_for(name, stray)
                if same is None:
                    self._leave(name)
                    continue
                strays[name] = stray
                damaged |= not same
            if not create(self._bucket, name, self._primary):
                # The name may be that of the blob.
                if there := look(self._bucket, key_of(self._primary)):
                    return there
                self._keep(name)
        if self._before and not any(stray.made_by(self._token) for stray in strays.values()):
            # It has moved, or another upload has taken its place; or it was removed since.
            return look(self._bucket, key_of(self._primary)) or self._before.added
        added = Added.HEALED if damaged else Added.HELD if strays else Added.CREATED
        return added if self._send(None, strays, added) else None

    def _meet(self, there: Version) -> Added | None:
        """Settle what to do about the object under the key; None if it has changed."""
        if there.made_by(self._token):
            # The response was lost, and obstore repeated the request; or an earlier attempt has put it there.
            self.made = self.made or Made(self._token, self._sent)
            self._keep_all()
            return self.made.added
        if self._before and not self._withdraw():
            return None
        same = self._stands_for(self._primary, there)
        if same is None:
            raise DigestCollision(hash=self._primary.hex)
        # While the blob is there: nobody takes its names until it is removed.
        self._keep_all()
        # The time is read now, because comparing large blobs takes long.
        if same and time.time() < there.modified + self._granularity / 2:
            return Added.HELD
        added = Added.HELD if same else Added.HEALED
        return added if self._send(there, {}, added) else None

    def _send(self, instead: Version | None, strays: Mapping[Digest, Version], added: Added) -> bool:
        names = [name for name in self._further if name not in self._ambiguous]
        attributes = metadata(names, self._token, *strays.values())
        upload = Upload(self._bucket, self._primary, attributes, self._staged)
        self._sent = added
        # An old key may have been all that a name led to.
        if not upload.put(instead, strays, self._keep_all):
            return False
        self.made = self.made or Made(self._token, added)
        if instead is None and not strays:
            self._keep_all()
        return True

    def _withdraw(self) -> bool:
        """Remove what an earlier attempt put under an old name; False if it is all that there is."""
        for name in self._further:
            stray = look(self._bucket, key_of(name))
            if stray is not None and stray.made_by(self._token):
                with locked(self._bucket, name.hex) as until:
                    if look(self._bucket, key_of(self._primary)) is None:
                        return False
                    if unchanged(self._bucket, {name: stray}):
                        remove(self._bucket, key_of(name), until)
                        self.made = self._before = None
        return True

    def _stands_for(self, digest: Digest, there: Version) -> bool | None:
        """Whether the object under the key of a digest has the bytes of the staged file.

        False if it is damaged, None if it has other bytes with this digest. Raises BlobNotFound.
        """
        if digest.algorithm.collision_resistant:
            return there.size == self._size
        # In one pass: a blob healed between two requests would look like a collision.
        with closing(open_at(self._bucket, digest)) as reader:
            intact, same = compare(reader, digest, self._staged)
        return None if intact and not same else same

    def _keep_all(self) -> None:
        for name in self._further:
            if name not in self._ambiguous:
                self._keep(name)

    def _keep(self, name: Digest) -> None:
        def others(target: Digest) -> bool:
            try:
                with closing(open_at(self._bucket, target)) as reader:
                    intact, same = compare(reader, name, self._staged)
            except BlobNotFound:
                return False
            return intact and not same

        if not keep(self._bucket, name, self._primary, others):
            self._leave(name)

    def _leave(self, name: Digest) -> None:
        """Leave a name to the other file that has it; raises DigestCollision if it was asked for."""
        if name == self._under:
            raise DigestCollision(hash=name.hex)
        self._ambiguous.add(name)
