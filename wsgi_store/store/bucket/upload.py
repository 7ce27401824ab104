"""Uploading a staged file: a small one in one request, a large one in parts."""

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import obstore
from obstore.exceptions import AlreadyExistsError

from wsgi_store.digest import Digest
from wsgi_store.store.bucket.client import Bucket
from wsgi_store.store.bucket.failures import asking
from wsgi_store.store.bucket.keys import key_of
from wsgi_store.store.bucket.lock import Held, locked, remove
from wsgi_store.store.bucket.parts import Parts
from wsgi_store.store.bucket.version import Version, look
from wsgi_store.store.staged import StagedFile

# Bytes up to which a file is sent in one request, which the engine refuses if the blob exists.
SINGLE_PUT_MAX = 16 << 20


class Upload:
    """The upload of a staged file to the key of its primary name."""

    def __init__(
        self, bucket: Bucket, digest: Digest, attributes: dict[str, str], staged: StagedFile
    ) -> None:
        self._bucket = bucket
        self._digest = digest
        self._attributes = attributes
        self._staged = staged
        self._size = os.fstat(staged.fd).st_size

    def put(
        self,
        instead: Version | None,
        strays: Mapping[Digest, Version] | None = None,
        visible: Callable[[], object] = lambda: None,
    ) -> bool:
        """Create the object, or replace `instead`; False if a key has changed meanwhile.

        `strays` are objects under the keys of further names, which it replaces, too: they are removed after
        `visible` was called, when the object is there. Replacing holds the lock,
        as removing does, so that nobody comes between the last look and the write. Creating needs none: the
        engine lets only one upload create a key.
        """
        strays = strays or {}
        if self._size > SINGLE_PUT_MAX:
            return self._put_parts(instead, strays, visible)
        with suppress(Held), self._bucket.uplink.room(self._size), asking("cannot write the blob"):
            return self._put_whole(instead, strays, visible)
        # While it waits for the lock it must not occupy the link; then the caller looks again.
        with locks(self._bucket, [self._digest, *strays]):
            return False

    def _put_whole(
        self, instead: Version | None, strays: Mapping[Digest, Version], visible: Callable[[], object]
    ) -> bool:
        # Mapped, so that the file takes no memory of this process.
        body = mmap.mmap(self._staged.fd, self._size, prot=mmap.PROT_READ) if self._size else b""
        held = [self._digest, *strays] if instead is not None or strays else []
        with locks(self._bucket, held, wait=False) as until:
            if held and not unchanged(self._bucket, {self._digest: instead, **strays}):
                return False
            try:
                obstore.put(
                    self._bucket.client,
                    key_of(self._digest),
                    body,
                    mode="create" if instead is None else "overwrite",
                    attributes=self._attributes,
                    use_multipart=False,
                )
            except AlreadyExistsError:
                return False
            if strays:
                visible()
            for stray in strays:
                remove(self._bucket, key_of(stray), until)
        return True

    def _put_parts(
        self, instead: Version | None, strays: Mapping[Digest, Version], visible: Callable[[], object]
    ) -> bool:
        parts, self._staged.ahead = self._staged.ahead, None
        if strays and parts is not None:
            # Its metadata, which cannot be changed any more, do not name the strays.
            parts.close()
            parts = None
        if not isinstance(parts, Parts):
            key = key_of(self._digest)
            parts = Parts(self._bucket, key, self._attributes, self._staged.fd, self._size, whole=True)
        with closing(parts):
            parts.until_sent()
            # Some engines ignore conditions on completion, so this looks first, under the lock.
            with locks(self._bucket, [self._digest, *strays]) as until:
                if not unchanged(self._bucket, {self._digest: instead, **strays}):
                    return False
                parts.complete()
                if strays:
                    visible()
                for stray in strays:
                    remove(self._bucket, key_of(stray), until)
        return True


@contextmanager
def locks(bucket: Bucket, digests: Sequence[Digest], *, wait: bool = True) -> Iterator[float]:
    """Hold the locks of these digests, the primary one first; yields until when all are certainly held."""
    with ExitStack() as stack:
        held = [stack.enter_context(locked(bucket, digest.hex, wait=wait)) for digest in digests]
        yield min(held, default=float("inf"))


def unchanged(bucket: Bucket, objects: Mapping[Digest, Version | None]) -> bool:
    """Whether these objects are still what was seen. Raises StoreUnavailable."""
    return all(look(bucket, key_of(digest)) == there for digest, there in objects.items())
