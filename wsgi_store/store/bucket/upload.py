"""Sending a staged file up: a small one in one request, a large one in parts that appear at once."""

import mmap
import os
import secrets
from contextlib import closing, suppress
from dataclasses import dataclass

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.lock import Held, locked
from wsgi_store.store.bucket.parts import Parts
from wsgi_store.store.staged import StagedFile

# Up to here a file goes up in one request, which the engine refuses when the blob is there.
SINGLE_PUT_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """An object as it is now; any that was or will be put under its key is another.

    The tag alone does not tell: it is that of the bytes as they were sent, also after bits flipped
    on the engine's disk.
    """

    size: int
    modified: int  # seconds since the epoch, by the clock of the engine
    tag: str | None
    token: str | None
    """Of the upload that made it; None for what others put there."""


def look(bucket: Bucket, key: str) -> Version | None:
    """Describe an object; None when there is none."""
    with asking("cannot look at the blob"):
        try:
            result = bucket.describe(key)
        except FileNotFoundError:
            return None
    meta = result.meta
    modified = int(meta["last_modified"].timestamp())
    return Version(meta["size"], modified, meta["e_tag"], result.attributes.get("upload"))


class Upload:
    """A staged file on its way to become the object under a key."""

    def __init__(self, bucket: Bucket, key: str, staged: StagedFile) -> None:
        self._bucket = bucket
        self._key = key
        self._staged = staged
        self.size = os.fstat(staged.fd).st_size
        self.token = secrets.token_hex(8)

    def put(self, instead: Version | None) -> bool:
        """Put the file in the place of an object, or of none; False when that is not there any more.

        Who passes a name on has the lock, as who takes it away: no other comes between the last
        look and this. A name that is free is given by the engine, to one of those who ask.
        """
        if self.size > SINGLE_PUT_MAX:
            return self._put_parts(instead)
        with suppress(Held), self._bucket.uplink.room(self.size), asking("cannot write the blob"):
            return self._put_whole(instead)
        # Who waits for a lock sends nothing: it keeps no room, and looks anew when the lock is free.
        with locked(self._bucket, self._staged.digest.hex):
            return False

    def _put_whole(self, instead: Version | None) -> bool:
        # Read where it is: no memory of this process holds it.
        body = mmap.mmap(self._staged.fd, self.size, prot=mmap.PROT_READ) if self.size else b""
        attributes = {"upload": self.token}
        if instead is None:
            try:
                obstore.put(self._bucket.client, self._key, body, mode="create", attributes=attributes)
            except AlreadyExistsError:
                return False
            return True
        with locked(self._bucket, self._staged.digest.hex, wait=False):
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
            # Not every engine completes on a condition: who completes is alone, and looks before.
            with locked(self._bucket, self._staged.digest.hex):
                if look(self._bucket, self._key) != instead:
                    return False
                parts.complete()
        return True
