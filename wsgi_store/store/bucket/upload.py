"""Uploading a staged file: a small one in one request, a large one in parts."""

import mmap
import os
import secrets
from contextlib import closing, suppress
from dataclasses import dataclass

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.digest import Digest
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.lock import Held, locked
from wsgi_store.store.bucket.parts import Parts
from wsgi_store.store.staged import StagedFile

# Bytes up to which a file is sent in one request, which the engine refuses if the blob exists.
SINGLE_PUT_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """What identifies an object among all that were or will be put under its key.

    The tag is not enough: it belongs to the bytes as they were sent, even if they rotted on a disk.
    """

    size: int
    modified: int  # seconds since the epoch, by the clock of the engine
    tag: str | None
    token: str | None
    """Names the upload that created the object; None if another program did."""


def look(bucket: Bucket, key: str) -> Version | None:
    """Describe an object; None if there is none."""
    with asking("cannot stat the blob"):
        try:
            result = bucket.describe(key)
        except FileNotFoundError:
            return None
    meta = result.meta
    modified = int(meta["last_modified"].timestamp())
    return Version(meta["size"], modified, meta["e_tag"], result.attributes.get("upload"))


class Upload:
    """The upload of a staged file to the key of its digest."""

    def __init__(self, bucket: Bucket, digest: Digest, staged: StagedFile) -> None:
        self._bucket = bucket
        self._lock = digest.hex
        self._key = key_of(digest)
        self._staged = staged
        self.size = os.fstat(staged.fd).st_size
        self.token = secrets.token_hex(8)

    def put(self, instead: Version | None) -> bool:
        """Create the object, or replace `instead`; False if the key has changed meanwhile.

        Replacing holds the lock, as removing does, so that nobody comes between the last look and the write.
        Creating needs none: the engine lets only one upload create a key.
        """
        if self.size > SINGLE_PUT_MAX:
            return self._put_parts(instead)
        with suppress(Held), self._bucket.uplink.room(self.size), asking("cannot write the blob"):
            return self._put_whole(instead)
        # While it waits for the lock it must not occupy the link; then the caller looks again.
        with locked(self._bucket, self._lock):
            return False

    def _put_whole(self, instead: Version | None) -> bool:
        # Mapped, so that the file takes no memory of this process.
        body = mmap.mmap(self._staged.fd, self.size, prot=mmap.PROT_READ) if self.size else b""
        attributes = {"upload": self.token}
        if instead is None:
            try:
                obstore.put(self._bucket.client, self._key, body, mode="create", attributes=attributes)
            except AlreadyExistsError:
                return False
            return True
        with locked(self._bucket, self._lock, wait=False):
            if look(self._bucket, self._key) != instead:
                return False
            obstore.put(self._bucket.client, self._key, body, attributes=attributes, use_multipart=False)
        return True

    def _put_parts(self, instead: Version | None) -> bool:
        parts, self._staged.ahead = self._staged.ahead, None
        if not isinstance(parts, Parts):
            parts = Parts(self._bucket, self._key, self._staged.fd, self.size, whole=True)
        with closing(parts):
            parts.until_sent()
            # Some engines ignore conditions on completion, so this looks first, under the lock.
            with locked(self._bucket, self._lock):
                if look(self._bucket, self._key) != instead:
                    return False
                parts.complete()
        return True
