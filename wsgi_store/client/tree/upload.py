"""Sends the files of a folder, and finds out what its tree says about them."""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from wsgi_store.client.blobs import Uploaded
from wsgi_store.client.many import Sent
from wsgi_store.client.tree.entry import Entry, Kind
from wsgi_store.client.tree.scan import PERMISSIONS, FoundFile
from wsgi_store.digest import Algorithm
from wsgi_store.errors import DigestMismatch, UnexpectedAnswer, WSGIStoreError


@dataclass(frozen=True, slots=True)
class UploadedTree(Uploaded):
    """The blob of an uploaded tree."""

    files: int = 0
    """How many files the folder has."""
    sent: int = 0
    """How many of them the server lacked."""


class PutMany(Protocol):  # pylint: disable=too-few-public-methods
    """`Client.put_many` for files of a folder."""

    def __call__(
        self, sources: Iterable[FoundFile], *, opener: Callable[[FoundFile], int]
    ) -> Iterable[Sent[FoundFile]]:
        """Upload files; gives their outcomes in order."""


class FolderUpload:
    """Sends the files of one folder, and counts them."""

    def __init__(self, put_many: PutMany, algorithm: Algorithm) -> None:
        self._put_many = put_many
        self._algorithm = algorithm
        self.files = 0
        """The number of files so far."""
        self.sent = 0
        """How many of them the server lacked."""

    def entries(self, found: Iterable[Entry | FoundFile]) -> Iterator[Entry]:
        """Send the files that were found, and yield all entries in order.

        Raises the first failure: OSError with the path, or what the server reports, with `path` as evidence.
        """
        # The files under way, and what was found between them.
        waiting: deque[Entry | FoundFile] = deque()

        def files() -> Iterator[FoundFile]:
            for one in found:
                waiting.append(one)
                if isinstance(one, FoundFile):
                    yield one

        for sent in self._put_many(files(), opener=FoundFile.open):
            while isinstance(one := waiting.popleft(), Entry):
                yield one
            yield self._entry(sent)
        for one in waiting:
            assert isinstance(one, Entry)
            yield one

    def _entry(self, sent: Sent[FoundFile]) -> Entry:
        file = sent.source
        if sent.changed or isinstance(sent.outcome, OSError | DigestMismatch):
            # Somebody was writing to it, and most have finished by now.
            (sent,) = self._put_many([file], opener=FoundFile.open_again)
        outcome, status = sent.outcome, sent.status
        if isinstance(outcome, Exception):
            if isinstance(outcome, WSGIStoreError):
                outcome.evidence["path"] = file.shown
            elif isinstance(outcome, OSError):
                outcome.filename = file.shown
            raise outcome
        if sent.changed:
            raise OSError(errno.EBUSY, "the file changed twice while it was read", file.shown)
        hash_ = outcome.names.get(self._algorithm.value)
        if hash_ is None:
            raise UnexpectedAnswer(
                f"the store was migrated from {self._algorithm.value} meanwhile: start again", path=file.shown
            )
        assert status is not None  # the opener opened it
        self.files += 1
        self.sent += outcome.created
        return Entry(
            file.path,
            Kind.FILE,
            status.st_mode & PERMISSIONS,
            outcome.size,
            status.st_mtime_ns,
            self._algorithm.parse(hash_),
        )
