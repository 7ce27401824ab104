"""Receives every upload: counts, hashes and writes its bytes, then checks, syncs and publishes the file."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from wsgi_store.digest import Chunk, Digest
from wsgi_store.errors import IncompleteBody, WSGIStoreError
from wsgi_store.hashing import Hasher
from wsgi_store.staging.batch import Batch
from wsgi_store.staging.filling import Filling
from wsgi_store.staging.receipt import Receipt
from wsgi_store.store.held import names_of_one
from wsgi_store.store.staged import StagedFile


class _Needed(Exception):
    """The bytes of a file are needed."""


class Staging(Filling):
    """Receives streams of bytes in constant memory, and publishes those that are complete."""

    def receive(  # pylint: disable=too-many-arguments
        self,
        chunks: Iterable[Chunk],
        *,
        length: int | None = None,
        expected: Iterable[Digest] = (),
        max_size: int | None = None,
        ticket: AbstractContextManager[object] | None = None,
        under: Digest | None = None,
        promise: str | None = None,
    ) -> Receipt:
        """Store the bytes of `chunks` if they end without an error.

        A chunk stays valid until two more chunks have been requested. `length` is the announced number of
        bytes, `max_size` a limit in bytes in addition to the general one. `ticket` is entered around the
        publication, when the file is complete and correct. `under` is one of `expected` that has to lead to
        the file afterwards. The bytes may use the room of their own `promise`. Raises IncompleteBody,
        TooLarge, DigestMismatch, DigestCollision, StoreError and whatever `chunks` and `ticket` raise; then
        nothing is stored.
        """
        self.admit(length or 0, max_size, promise=promise)
        expected = tuple(expected)
        algorithm, *names = self._store.algorithms
        hasher = Hasher(algorithm, expected, names)
        with self.create() as staged:
            if self._early is not None:
                staged.ahead = self._early.begin(staged, length, expected)
            size = self.fill(staged, chunks, hasher.update, max_size=max_size, promise=promise)
            if length is not None and size != length:
                raise IncompleteBody(expected=length, actual=size)
            staged.digests = hasher.digests()
            return self.publish(staged, size, ticket, under)

    def receive_all(
        self,
        files: Iterable[tuple[Iterable[Chunk], Sequence[Digest]]],
        *,
        max_size: int | None = None,
    ) -> list[Receipt | WSGIStoreError]:
        """Store several files, each given by its chunks and expected digests; returns the outcome of each.

        `max_size` is a limit in bytes for each file. The outcomes are in the order of the files: a receipt,
        TooLarge, DigestMismatch or a StoreError. After a StoreError other than DigestCollision no further
        file is taken from `files`. The chunks of a refused file are not all read. Files are published after
        the last one was received, or earlier if they are many. Raises what `files` and their chunks raise;
        then those that are not published yet are not stored.
        """
        with Batch(self, self._store, max_size) as batch:
            for chunks, expected in files:
                if not batch.receive(chunks, expected):
                    break
            return batch.finish()

    def publish(
        self,
        staged: StagedFile,
        size: int,
        ticket: AbstractContextManager[object] | None = None,
        under: Digest | None = None,
    ) -> Receipt:
        """Publish a complete file whose digests are known; see `receive`."""
        self.seal(staged, size)
        with ticket or nullcontext():
            stored = self._store.add(staged, under)
        return Receipt.of(stored, size)

    def renew(
        self, expected: Sequence[Digest], size: int, ticket: AbstractContextManager[object] | None = None
    ) -> Receipt | None:
        """Do without the bytes of a file if the store holds it, which one of its digests has to prove.

        None if the bytes are needed. `ticket` is entered around the renewal. Raises StoreError and what
        `ticket` raises.
        """
        if self._renewal is None or not (names := names_of_one(self._store, expected, size)):
            return None
        with suppress(_Needed), ticket or nullcontext():
            stored = self._renewal.renew(names[0], size)
            if stored is None:
                raise _Needed  # so that the ticket is not used up
            known = {name.algorithm: name for name in (*names, *stored.names)}
            ordered = tuple(known[one] for one in self._store.algorithms if one in known)
            return Receipt(stored.names[0], size, stored.added, ordered)
        return None
